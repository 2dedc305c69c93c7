"""Robustness: what models say of corrupted images and texts; one function per corruption.

An image corruption is `f(images, level, keys)`: uint8 (B, 3, S, S) -> the same, with one key per
image, the hash of its file. A text corruption is `f(text, level)`: str -> str. What is random
depends on the key, or the text, alone: it is the same for every model, and a greater level corrupts
what a smaller one does, and more.
"""

from ..registry import Registry

CORRUPTIONS = Registry("corruption", __name__)
register_corruption = CORRUPTIONS.register
# Note on a corruption of texts that changes nothing of what a model reads.
UNREAD = "not applicable: the tokenizer makes the same of the texts at every level"
