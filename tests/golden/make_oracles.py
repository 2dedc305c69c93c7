"""Run pytorch-grad-cam and Quantus once and keep what they say in oracles.npz.

They are no development dependencies: both need OpenCV (150 MB), by two packages that write the same
folder. So test_oracles.py compares mmlens with the answers that this script stores, those of
grad-cam 1.5.7 and quantus 0.6.0 under Python 3.11, torch 2.13.0, transformers and numpy of
requirements-dev.txt. Once more, into a folder of their own:

    pip install --no-deps --target oracles grad-cam==1.5.7 ttach==0.0.3 quantus==0.6.0 \
        opencv-python-headless==5.0.0.93 scikit-image==0.26.0 lazy-loader==0.6 cachetools==8.0.1
    PYTHONPATH=oracles:tests python tests/golden/make_oracles.py

No function of mmlens is called here: the networks are stock classes of transformers.
"""

import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from stock_checkpoints import save_blip
from torch import nn
from transformers import ConvNextImageProcessor
from unimodal_checkpoints import save_resnet, save_vit

FILE = Path(__file__).with_name("oracles.npz")
SIDES = {"vit": 32, "resnet": 24, "blip": 32}  # of images, in pixels
CLASSES = [True, False, True]  # explained, of the three samples
WORDS = (4, 2, 1)  # of the text of each sample
# Network, modality and the layer that Grad-CAM reads; the first of each is what mmlens takes.
LAYERS = {
    ("vit", "image"): ("vit.layers.1.layernorm_before", "vit.layers.0.layernorm_after"),
    ("resnet", "image"): (
        "resnet.encoder.stages.1",
        "resnet.encoder.stages.0",
        "resnet.embedder.embedder.convolution",
    ),
    ("blip", "image"): ("vision_model.post_layernorm", "vision_model.encoder.layers.0.layer_norm2"),
    ("blip", "text"): (
        "text_encoder.encoder.layer.0.output.LayerNorm",
        "text_encoder.embeddings.LayerNorm",
    ),
}
FINAL = (("vit", "vit.layers.1.layernorm_before"), ("resnet", "resnet.encoder.stages.1"))
PATCH = 4  # pixels on a side of a patch, where masks are finer than maps


def save_cells(folder):
    """A ResNet whose stages have 6 x 6 and 3 x 3 places."""
    network = save_resnet(folder)
    size = {"shortest_edge": SIDES["resnet"]}
    ConvNextImageProcessor(size=size, crop_pct=1.0).save_pretrained(folder)
    return network


SAVERS = {"vit": save_vit, "resnet": save_cells, "blip": save_blip}


def inputs():
    """Pixels of every network and words of BLIP, as arrays by their names in the file."""
    draw = np.random.default_rng(0)
    found = {
        f"{name}/pixels": draw.normal(size=(3, 3, side, side)).astype(np.float16)
        for name, side in SIDES.items()
    }
    ids = np.zeros((3, max(WORDS) + 2), np.int64)  # 0 [PAD], 2 [CLS], 3 [SEP], words from 5 on
    for row, count in zip(ids, WORDS, strict=True):
        row[: count + 2] = [2, *draw.integers(5, 30, count), 3]
    return found | {"blip/ids": ids}


def rounded(network):
    """The network with weights that half precision holds, so that the file is small and exact."""
    return network.half().double().eval()


def weights(network):
    """Parameters and buffers of floating point by the order of their names, which the file keeps
    as one array."""
    state = sorted(network.state_dict().items())
    return [tensor for _, tensor in state if tensor.is_floating_point()]


class Scored(nn.Module):
    """Scores (B, 2) of pixels, as pytorch-grad-cam asks for them."""

    def __init__(self, network, ids=None):
        super().__init__()
        self.network, self.ids = network, ids

    def forward(self, pixels):
        if self.ids is None:
            return self.network(pixels).logits
        mask = (self.ids > 0).long()
        return self.network(self.ids, pixel_values=pixels, attention_mask=mask).itm_score


def grad_cam(network, name, modality, layer, pixels, ids, classes):
    """(map before ReLU and resizing, final map of pytorch-grad-cam), one of each sample."""
    from pytorch_grad_cam import GradCAM

    class Unscaled(GradCAM):
        def get_cam_image(self, *args, **kwargs):
            self.unscaled = super().get_cam_image(*args, **kwargs)
            return self.unscaled

    def on_grid(tokens):
        """Patches after a class token, or words between two special tokens, as (B, D, h, w)."""
        if tokens.ndim < 3:  # BLIP calls its last norm once more, on the class token alone
            return tokens
        own = tokens[:, 1:] if modality == "image" else tokens[:, 1:-1]
        side = round(own.shape[1] ** 0.5) if modality == "image" else 1
        return own.transpose(1, 2).unflatten(2, (side, -1))

    def target(of):
        return lambda scores: (scores[1] - scores[0]) * (1 if of else -1)

    reshape = None if name == "resnet" else on_grid
    with Unscaled(Scored(network, ids), [network.get_submodule(layer)], reshape) as cam:
        final = cam(pixels, [target(of) for of in classes])
        return cam.unscaled, final


def grad_cams(found):
    """Add weights and maps of all networks to the arrays of `inputs`."""
    for name, save in SAVERS.items():
        with tempfile.TemporaryDirectory() as folder:
            network = rounded(save(Path(folder)))
        parts = [tensor.flatten() for tensor in weights(network)]
        found[f"{name}/weights"] = torch.cat(parts).half().numpy()
        pixels = torch.from_numpy(found[f"{name}/pixels"]).double()
        ids = torch.from_numpy(found["blip/ids"]) if name == "blip" else None
        for modality in ("image", "text"):
            for layer in LAYERS.get((name, modality), ()):
                key = f"{name}/{modality}/{layer}"
                if modality == "image":
                    maps = grad_cam(network, name, modality, layer, pixels, ids, CLASSES)
                    found[f"{key}/unscaled"] = maps[0]
                    if (name, layer) in FINAL:
                        found[f"{key}/final"] = maps[1]
                    continue
                # Texts of several lengths, each by itself: pytorch-grad-cam knows no padding.
                for k, count in enumerate(WORDS):
                    one = slice(k, k + 1)
                    text = ids[one, : count + 2]
                    maps = grad_cam(network, name, modality, layer, pixels[one], text, CLASSES[one])
                    found[f"{key}/unscaled/{k}"] = maps[0][0, 0]


def quantus_scores(maps, masks, **options):
    """{metric: (B,)} of maps and masks (B, h, w), by Quantus with its defaults."""
    import quantus

    nothing = np.zeros((len(maps), 3, *maps.shape[1:]))
    metrics = {
        "pointing": quantus.PointingGame,
        "mass": quantus.RelevanceMassAccuracy,
        "rank": quantus.RelevanceRankAccuracy,
    }
    return {
        name: np.asarray(
            metric(disable_warnings=True, **options)(
                model=nn.Identity(),
                x_batch=nothing,
                y_batch=np.zeros(len(maps), int),
                a_batch=maps[:, None].astype(float),
                s_batch=masks[:, None].astype(int),
                channel_first=True,
                batch_size=len(maps),
            ),
            float,
        )
        for name, metric in metrics.items()
    }


def tie_breaks(values):
    """Maps (K, *shape) without ties in the order of a map, in which every one of m places that tie
    comes first, second and so on equally often: K is the least common multiple of all m."""
    flat = values.ravel()
    _, member, size = np.unique(flat, return_inverse=True, return_counts=True)
    place = np.empty(len(flat), int)  # among those that tie
    for group, count in enumerate(size):
        place[member == group] = np.arange(count)
    before = np.cumsum(size) - size
    turns = np.arange(math.lcm(*size.tolist()))[:, None]
    ranks = before[member] + (place + turns) % size[member]
    return ranks.reshape(-1, *values.shape) + 1.0


def mean_over_ties(values, mask):
    """{metric: mean of Quantus' scores over `tie_breaks`}, of those that read the order alone."""
    broken = tie_breaks(values)
    found = quantus_scores(broken, np.repeat(mask[None], len(broken), 0))
    return {name: found[name].mean() for name in ("pointing", "rank")}


def localisation(found):
    """Add maps, masks and Quantus' scores."""
    draw = np.random.default_rng(1)

    def keep(case, scores):
        found.update({f"quantus/{case}/{name}": values for name, values in scores.items()})

    # Maps of both signs without ties; masks of one place up to all but one.
    maps = draw.normal(size=(12, 5, 6))
    sizes = [1, 29, *draw.integers(2, 29, 10)]
    masks = np.array([(draw.permutation(30) < n).reshape(5, 6) for n in sizes])
    found |= {"quantus/signed/maps": maps, "quantus/signed/masks": masks}
    keep("signed/plain", quantus_scores(maps, masks))
    keep("signed/positive", quantus_scores(np.maximum(maps, 0), masks))
    keep("signed/abs", quantus_scores(maps, masks, abs=True))

    # Three levels, so that most places tie.
    maps = draw.integers(0, 3, (12, 4, 4)).astype(float)
    masks = np.array([(draw.permutation(16) < n).reshape(4, 4) for n in draw.integers(1, 16, 12)])
    found |= {"quantus/ties/maps": maps, "quantus/ties/masks": masks}
    keep("ties/plain", quantus_scores(maps, masks))
    means = [mean_over_ties(*pair) for pair in zip(maps, masks, strict=True)]
    keep("ties/mean", {name: np.array([m[name] for m in means]) for name in means[0]})

    # pytorch-grad-cam's maps of 4 x 4 patches, for masks whose edges cut through patches.
    names = [f"{n}/image/{layer}" for n in ("vit", "blip") for layer in LAYERS[n, "image"]]
    maps = np.concatenate([found[f"{name}/unscaled"] for name in names]).clip(0)
    maps = maps[maps.max((1, 2)) > 0]
    masks = np.zeros((len(maps), 4 * PATCH, 4 * PATCH), bool)
    for mask in masks:
        (top, left), (height, width) = draw.integers(0, 9, 2), draw.integers(3, 8, 2)
        mask[top : top + height, left : left + width] = True
    found |= {"quantus/patches/maps": maps, "quantus/patches/masks": masks}
    pixels = maps.repeat(PATCH, 1).repeat(PATCH, 2)
    keep("patches/plain", quantus_scores(pixels, masks))
    means = [mean_over_ties(*pair)["rank"] for pair in zip(pixels, masks, strict=True)]
    keep("patches/mean", {"rank": np.array(means)})

    # What has no answer: an empty mask, no relevance, none that is positive.
    maps = np.array([[[1.0, 2.0, 3.0, 4.0]], [[0.0] * 4], [[-1.0, -2.0, -3.0, -4.0]]])
    masks = np.array([[[0, 0, 0, 0]], [[0, 1, 1, 0]], [[0, 1, 1, 0]]], bool)
    found |= {"quantus/undefined/maps": maps, "quantus/undefined/masks": masks}
    keep("undefined/plain", quantus_scores(maps, masks))  # a batch of zeros alone is refused

    # One place of four, the first or the last, where all tie; a batch of one value is refused.
    maps, masks = np.repeat([[[1.0]], [[2.0]]], 4, 2), np.array([[[1, 0, 0, 0]], [[0, 0, 0, 1]]])
    found |= {"quantus/constant/maps": maps, "quantus/constant/masks": masks.astype(bool)}
    keep("constant/plain", quantus_scores(maps, masks))


if __name__ == "__main__":
    arrays = inputs()
    grad_cams(arrays)
    localisation(arrays)
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE.name}: {len(arrays)} arrays, {FILE.stat().st_size} bytes")
