"""The models: one file per architecture, all behind the contract of `base.Model`."""

from ..registry import Registry

MODELS = Registry("model", __name__)
register_model = MODELS.register


def list_models():
    """Names of all models, sorted."""
    return MODELS.names()


def get_model(name):
    """The class of the model called `name`; ValueError that lists the known ones."""
    return MODELS.get(name)


def build_model(name, settings, data):
    """A model of the registry with fresh weights.

    settings : its keyword arguments: the config's section model, and a variant's own
    data : EncodedSamples, for vocabulary, text length and answers
    """
    if data.outputs > 1:
        settings = {**settings, "outputs": data.outputs}
    model = MODELS.get(name)(
        vocabulary_size=data.vocabulary_size,
        max_length=data.max_length,
        features=data.features,
        **settings,
    )
    if data.outputs > 1:
        # Here, since the workflow imports this package without torch.
        from .answers import arrange_answers

        arrange_answers(model, data.answers)
    return model
