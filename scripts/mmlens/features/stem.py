"""Pretraining of the shared stem: which object covers each patch, learned from the masks."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from ..datasets.truth import coverage, decode_mask, with_masks
from ..files import seed_from
from ..models.layers import Stem

COVERED = 0.25  # share of a patch that an object must cover to name it


def patch_words(samples, truth, grid):
    """Words of the category of the object that covers each patch most.

    A category such as "red ring" gives two words, so that colour and shape are learned as
    attributes of their own, not as one of all their combinations.

    Parameters
    ----------
    samples : DataFrame, one row per distinct image
    truth : DataFrame, the truth table
    grid : (rows, columns)

    Returns
    -------
    targets : float array (N, words, rows, columns) of 0 and 1; all 0 where no object covers
        COVERED of the patch
    words : sorted list of str
    """
    words = sorted({word for name in truth["category"].unique() for word in name.split()})
    position_of = {sample_id: k for k, sample_id in enumerate(samples["sample_id"])}
    targets = np.zeros((len(samples), len(words), *grid), np.float32)
    most = np.full((len(samples), *grid), COVERED)
    for row in with_masks(truth[truth["sample_id"].isin(position_of)]).itertuples():
        position = position_of[row.sample_id]
        covered = coverage(decode_mask(row), grid)
        wins = covered > most[position]
        named = np.isin(words, row.category.split())
        targets[position][:, wins] = named[:, None]
        most[position][wins] = covered[wins]
    return targets, words


def pretrain_stem(data, truth, settings, *, width, grid, seed, device):
    """Train a Stem to name what covers each patch, on the images of the split train.

    Returns
    -------
    stem : Stem
    accuracy : float, share of covered patches with exactly the right words, last 50 steps
    """
    torch.manual_seed(seed_from("stem", seed))
    samples = data.samples[data.samples["split"] == "train"].drop_duplicates("image")
    rows = torch.tensor(samples.index.to_numpy())
    targets, words = patch_words(samples, truth, grid)
    targets = torch.from_numpy(targets)
    stem = Stem(width).to(device)
    head = nn.Conv2d(width, len(words), 1).to(device)
    parameters = [*stem.parameters(), *head.parameters()]
    steps = settings["steps"]
    optimizer = torch.optim.AdamW(parameters, lr=settings["lr"], weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings["lr"], total_steps=steps)
    generator = torch.Generator().manual_seed(seed_from("stem batches", seed))
    right = []
    for _ in tqdm(range(steps), desc="stem", mininterval=5, ascii=True):
        chosen = torch.randint(len(rows), (settings["batch_size"],), generator=generator)
        logits = head(stem(data.batch(rows[chosen], device).image))
        target = targets[chosen].to(device)
        loss = F.binary_cross_entropy_with_logits(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        named = ((logits > 0) == (target > 0)).all(1)
        right.append(named[target.any(1)].float().mean().item())
    return stem, float(np.mean(right[-50:]))
