"""Samples and predictions of a made-up run, for the tests of evaluation tables."""

import numpy as np
import pandas as pd


def claims(quads, seed=0, groups=("a", "b", "c")):
    """A samples table of quads: two images x two texts, each with both labels."""
    rng = np.random.default_rng(seed)
    rows = []
    for quad in range(quads):
        group = groups[rng.integers(len(groups))]
        for image in (0, 1):
            for text in (0, 1):
                rows.append(
                    {
                        "sample_id": f"{len(rows):05d}",
                        "split": "val" if quad % 4 == 0 else "test",
                        "image": f"{quad}_{image}.png",
                        "image_sha256": f"{quad}_{image}",
                        "text": f"{quad}_{text}",
                        "label": int(image != text),
                        "cluster_id": f"q{quad}",
                        "quad_id": f"q{quad}",
                        "group_kind": group,
                    }
                )
    return pd.DataFrame(rows)


def predicted(samples, signal, seed=0, threshold=0.5):
    """Predictions whose logits are `signal` (number or (N,)) towards the label, plus noise."""
    rng = np.random.default_rng(seed)
    logit = signal * (2 * samples["label"] - 1) + rng.normal(size=len(samples))
    probability = 1 / (1 + np.exp(-logit))
    known = samples[["sample_id", "split", "label"]]
    return known.assign(
        logit=logit,
        probability=probability,
        prediction=(probability >= threshold).astype(int),
        threshold=threshold,
    )
