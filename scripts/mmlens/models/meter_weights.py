"""Published weights of METER: the tensors of a Lightning checkpoint, by their names."""

import torch
import torch.nn.functional as F

from .released import load_released

POSITIONS = "vit_model.visual.positional_embedding"
# Heads of the published tasks; the network has those of HEADS that it was asked for.
PUBLISHED_HEADS = (
    *("mlm_score.", "itm_score.", "vqa_classifier."),
    *("nlvr2_classifier.", "snli_classifier.", "rank_output."),
)
# Left over of RoBERTa and of CLIP's text tower: the published forward pass never reads them.
UNUSED = (
    *("text_transformer.pooler.", "text_transformer.embeddings.position_ids"),
    *("vit_model.positional_embedding", "vit_model.ln_final.", "vit_model.token_embedding."),
)


def load_meter(network, path, fitted=(), fresh=()):
    """Fill a `MeterNetwork` with a published file; a `LoadReport`.

    The position table is resized to the network's grid. Heads that the network lacks are not
    read, and heads that the file lacks keep their fresh weights.

    fitted, fresh : as in `load_released`

    Raises
    ------
    DataError naming every tensor of the trunk that is missing or unexpected, every head that is
    there in part, and every other shape.
    """
    trunk = sorted({f"{name.split('.')[0]}." for name in network.state_dict()})
    heads = (*PUBLISHED_HEADS, "classifier.")
    trunk = tuple(part for part in trunk if part not in heads)
    return load_released(
        network,
        path,
        rename=published_name,
        parts=(*trunk, *heads),
        required=trunk,
        known=(*heads, *UNUSED),
        fitted=fitted,
        fresh=fresh,
        adapt={POSITIONS: lambda table: resized_positions(table, network.config.grid)},
    )


def published_name(name):
    """The name in METER's files of a tensor of a file that wraps its network."""
    while name.startswith(("module.", "model.")):
        name = name.split(".", 1)[1]
    return name


def resized_positions(table, grid):
    """A position table (1 + g g, D) for another grid of patches, as published.

    The class token's row stays; the square grid of the others is interpolated bicubically,
    without antialiasing. A table that has the grid already is returned as it is.
    """
    side = round((len(table) - 1) ** 0.5)
    if table.ndim != 2 or side == 0 or side * side + 1 != len(table) or (side, side) == grid:
        return table  # if it is no table of a square grid, its shape will tell
    square = table[1:].float().T.reshape(1, -1, side, side)
    square = F.interpolate(square, size=grid, mode="bicubic", align_corners=False)
    return torch.cat([table[:1].float(), square.flatten(2)[0].T])
