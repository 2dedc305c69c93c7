"""Training of a head on a frozen encoder, which runs once per text and image, not once per epoch.

Measured in benchmarks/training.py.
"""

import numpy as np
import torch
from torch import nn

from ..models.base import Model
from ..models.inputs import EncodedSamples

BATCH = 64  # texts or images that go through the encoder together


def trained_part(model, data, device):
    """What is trained of a model, and the data as it reads them.

    A model whose encoder is frozen says so by `vectors`, which its `head` reads: then they are the
    head, whose parameters keep their names, and the vectors of all samples. Else model and data.

    Parameters
    ----------
    model : Model on `device`; data : EncodedSamples
    """
    if not hasattr(model, "vectors"):
        return model, data
    return Head(model), VectorSamples(data, *sample_vectors(model, data, device))


class Head(nn.Module):
    """The head of a model on vectors that were computed before; the two share their weights."""

    masked_words = False
    checkpoint_gradients = Model.checkpoint_gradients  # which says that there is nothing to gain

    def __init__(self, model):
        super().__init__()
        self.name, self.modalities, self.head = model.name, model.modalities, model.head

    def embed(self, batch):
        """A batch of `VectorSamples` is what the head reads."""
        return batch

    embed_shared = embed

    def forward(self, vectors):
        """Logits from {modality: (B, D)}."""
        return self.head(vectors)

    logits = forward


class VectorSamples(EncodedSamples):
    """The samples of an EncodedSamples, as vectors of a frozen encoder.

    Parameters
    ----------
    data : EncodedSamples, whose texts, labels and splits these are
    rows : {modality: long (N,)}, which vector belongs to a sample
    vectors : {modality: float (M, D)}
    """

    def __init__(self, data, rows, vectors):
        vars(self).update(vars(data))
        self.rows, self.vectors = rows, vectors

    def batch(self, index, device="cpu", share_images=False):
        """{modality: (B, D)} of the samples `index` (long (B,)), on `device`."""
        return {m: part[self.rows[m][index]].to(device) for m, part in self.vectors.items()}


@torch.no_grad()
def sample_vectors(model, data, device):
    """Rows and vectors for `VectorSamples`; every distinct text and image is encoded once."""
    model.eval()
    inputs = {"text": data.input_ids.numpy(), "image": data.image_index.numpy()}
    embedders = {"text": model.embed_text, "image": model.embed_image}
    rows, vectors = {}, {}
    for modality in model.modalities:
        _, first, inverse = np.unique(
            inputs[modality], axis=0, return_index=True, return_inverse=True
        )
        rows[modality] = torch.from_numpy(inverse.reshape(-1))
        parts = [
            model.vectors({modality: embedders[modality](data.batch(part, device))})[modality]
            for part in torch.from_numpy(first).split(BATCH)
        ]
        vectors[modality] = torch.cat(parts).cpu()
    return rows, vectors
