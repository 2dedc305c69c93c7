"""What a method returns that has more to say of single samples than its maps."""


class Maps(dict):
    """{modality: (B, N)}, with remarks on single samples.

    flags : {modality: B strings}, why the map of a sample means nothing; "" where it does
    facts : {modality: {name: B numbers}} that tell how well a map is defined
    """

    def __init__(self, maps=(), flags=None, facts=None):
        super().__init__(maps)
        self.flags = flags or {}
        self.facts = facts or {}
