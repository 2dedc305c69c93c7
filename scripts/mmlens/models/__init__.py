"""The models: one file per architecture, all behind the contract of `base.Model`."""

from ..registry import Registry

MODELS = Registry("model", __name__)
register_model = MODELS.register


def list_models():
    """Names of all models, sorted."""
    return MODELS.names()


def input_spec(name, settings, tokenizer, max_length=None):
    """The `InputSpec` of a model of the registry, as `Model.input_spec`.

    Of a model that starts from an exported checkpoint it is that of the checkpoint.
    """
    # Here and below, since the workflow imports this package without torch.
    from .exports import read_spec
    from .folders import is_export

    weights = settings.get("weights")
    if weights is not None and is_export(weights):
        return read_spec(weights, max_length)
    return MODELS.get(name).input_spec(settings, tokenizer, max_length)


def build_model(name, settings, data):
    """A model of the registry: with fresh weights, or with those that its settings name.

    settings : its keyword arguments: the config's section model, and a variant's own
    data : EncodedSamples, for vocabulary, text length and answers
    """
    from .answers import arrange_answers
    from .exports import build_for
    from .folders import is_export

    weights = settings.get("weights")
    if weights is not None and is_export(weights):
        return build_for(name, weights, data)
    if data.outputs > 1:
        settings = {**settings, "outputs": data.outputs}
    model = MODELS.get(name)(
        vocabulary_size=data.vocabulary_size,
        max_length=data.max_length,
        features=data.features,
        **settings,
    )
    if data.outputs > 1:
        arrange_answers(model, data.answers)
    if hasattr(model, "read_examples"):
        model.read_examples(data)
    return model


def load(folder, device="cpu"):
    """An exported checkpoint, ready for use: a `LoadedModel` with predict(images, texts)."""
    from ..training.opened import open_export

    return open_export(folder, device)
