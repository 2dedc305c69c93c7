"""Published weights of ViLBERT, in the names of each of their sources.

Facebook's files hold bert.* and cls.* (Conceptual Captions), and the heads of twelve tasks beside
them (multi-task); MMF's the same behind "model.", and a classifier in place of cls.* where it was
fine-tuned. Older ones say "bert.bert." and "gamma", or carry the "module." of several GPUs.
"""

from .released import load_released

TASKS = (
    *("vil_prediction", "vil_prediction_gqa", "vil_binary_prediction", "vil_logit"),
    *("vil_tri_prediction", "vision_logit", "linguisic_logit"),
)
HEADS = (
    *("cls.predictions.", "cls.imagePredictions.", "cls.bi_seq_relationship."),
    *(f"{name}." for name in TASKS),
    "classifier.",
)
# A buffer of newer versions of BERT: the numbers from 0 on.
POSITIONS = "bert.embeddings.position_ids"
# Reads the features of the regions: 2048 of the published detector.
PROJECTION = "bert.v_embeddings.image_embeddings."


def load_vilbert(network, path, fitted=(), fresh=()):
    """Fill a `VilbertNetwork` with a published file; a `LoadReport`.

    Heads that the network lacks are not read, and heads that the file lacks keep their fresh
    weights. So does the layer that reads the features, where they are of another width than those
    of the file: it has to be trained. The multi-task file needs a network with its 20 task tokens.
    fitted, fresh : see `load_released`.

    Raises
    ------
    DataError naming every tensor of the trunk that is missing or unexpected, every head that is
    there in part, and every other shape.
    """
    return load_released(
        network,
        path,
        rename=published_name,
        parts=("bert.", PROJECTION, *HEADS),
        required=("bert.", PROJECTION),
        known=(*HEADS, POSITIONS),
        fitted=(*fitted, PROJECTION),
        fresh=fresh,
    )


def published_name(name):
    """The name in Facebook's files of a tensor of any of the files."""
    while name.startswith(("module.", "model.", "vilbert.")):
        name = name.split(".", 1)[1]
    if name.startswith(("bert.bert.", "bert.cls.", "bert.classifier.")):
        name = name.removeprefix("bert.")
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(old):
            name = name.removesuffix(old) + new
    return name
