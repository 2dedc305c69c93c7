"""Visual features of frozen extractors, computed once and cached; one file per extractor."""

from ..registry import Registry

EXTRACTORS = Registry("extractor", __name__)
register_extractor = EXTRACTORS.register


def get_extractor(name, **settings):
    """The extractor called `name`, with its weights loaded.

    Raises
    ------
    ValueError for an unknown name; DataError if its weights cannot be used.
    """
    return EXTRACTORS.get(name)(**settings)
