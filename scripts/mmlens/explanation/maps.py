"""Maps of methods: for every token of a modality, and with remarks on single samples."""

import torch.nn.functional as F


def for_all_tokens(values, content):
    """Values (B, M) of the last M tokens as a map (B, N): 0 for a class token, which comes first.

    content : bool (B, N), of the layout; a class token has no place and no input
    """
    return F.pad(values, (content.shape[1] - values.shape[1], 0))


class Maps(dict):
    """{modality: (B, N)}, with remarks on single samples.

    flags : {modality: B strings}, why the map of a sample means nothing; "" where it does
    facts : {modality: {name: B numbers}} that tell how well a map is defined
    """

    def __init__(self, maps=(), flags=None, facts=None):
        super().__init__(maps)
        self.flags = flags or {}
        self.facts = facts or {}
