"""The training loop: epochs of AdamW, best checkpoint by validation, exact resume."""

import math
from dataclasses import replace

import pandas as pd
import torch
import torch.nn.functional as F
from tqdm import tqdm

from ..datasets.vocabulary import MASK
from ..files import atomic, seed_from
from ..metrics import auroc
from .losses import classification_loss
from .predict import predict


def train(model, data, settings, *, seed, device, state_path):
    """Train on the split train, select on the split val.

    All randomness is keyed by (seed, epoch), and the state is saved after every epoch, so that
    a run that was killed and resumed ends in the same weights as one that was not.

    Parameters
    ----------
    model : Model on `device`
    data : EncodedSamples with the splits train and val
    settings : the config's section training
    state_path : file that carries the state of an unfinished training over a kill

    Returns
    -------
    history : DataFrame, one row per epoch (epoch, train_loss, val_loss, val_auroc, ...)
    The model holds the weights of the epoch that is best by settings["select"].

    Raises
    ------
    FloatingPointError if the loss is no finite number, with the samples of the batch and the
    learning rate; ValueError if the warm-up is longer than the training.
    """
    rows = data.split("train")
    optimizer = torch.optim.AdamW(
        parameter_groups(model, settings["weight_decay"]), lr=settings["lr"], betas=(0.9, 0.98)
    )
    per_step = settings["batch_size"] * settings["accumulate"]
    steps = math.ceil(len(rows) / per_step) * settings["epochs"]
    warmup = warmup_steps(settings["warmup"], steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate_factor(step, steps, warmup, settings["schedule"])
    )
    state = {"epoch": 0, "history": [], "best": None}
    if state_path.is_file():
        state = torch.load(state_path, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        print(f"resuming after epoch {state['epoch']} from {state_path}", flush=True)
    for epoch in range(state["epoch"], settings["epochs"]):
        if state["best"] and is_stopped(epoch, state["best"]["epoch"], settings["patience"]):
            print(f"no better {settings['select']} for {settings['patience']} epochs", flush=True)
            break
        generator = torch.Generator().manual_seed(seed_from("epoch", seed, epoch))
        torch.manual_seed(seed_from("dropout", seed, epoch))
        loss = train_epoch(model, data, rows, optimizer, schedule, settings, generator, device)
        record = {"epoch": epoch + 1, "train_loss": loss, **validate(model, data, device)}
        print(" ".join(f"{key}={value:.4g}" for key, value in record.items()), flush=True)
        state["history"].append(record)
        score = selection_score(record, settings["select"])
        if state["best"] is None or score > state["best"]["score"]:
            weights = {name: value.clone() for name, value in model.state_dict().items()}
            state["best"] = {"score": score, "epoch": epoch + 1, "weights": weights}
        state |= {
            "epoch": epoch + 1,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
        }
        with atomic(state_path) as temporary:
            torch.save(state, temporary)
    model.load_state_dict(state["best"]["weights"])
    return pd.DataFrame(state["history"])


def train_epoch(model, data, rows, optimizer, schedule, settings, generator, device):
    """One pass over `rows` in random order; returns the mean loss."""
    model.train()
    batches = shuffle(data.samples, rows, generator).split(settings["batch_size"])
    every = settings["accumulate"]
    total = 0.0
    optimizer.zero_grad()
    for number, index in enumerate(tqdm(batches, desc="train", mininterval=5, ascii=True), 1):
        loss = batch_loss(model, data, index, settings, generator, device)
        if not torch.isfinite(loss):
            rate = schedule.get_last_lr()[0]
            samples = ", ".join(data.samples["sample_id"].iloc[index.numpy()])
            raise FloatingPointError(
                f"the loss is {loss.item()} at learning rate {rate:.3g}, in the batch of samples "
                f"{samples}; lower training.lr or training.clip, or look at these samples"
            )
        # The last group of an epoch may have fewer batches.
        group = min(every, len(batches) - (number - 1) // every * every)
        (loss / group).backward()
        if number % every == 0 or number == len(batches):
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings["clip"])
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        total += loss.item() * len(index)
    return total / len(rows)


def batch_loss(model, data, index, settings, generator, device):
    """Loss of the samples `index`: classification, and masked words where the model has them."""
    batch = data.batch(index, device, share_images=True)
    labels = data.labels[index].to(device)
    kind = torch.device(device).type
    with torch.autocast(kind, torch.bfloat16, enabled=settings["precision"] == "bf16"):
        tokens = model.embed(batch)
        loss = classification_loss(model(tokens).float(), labels, settings["loss"])
        if model.masked_words and settings["masked_words"]["weight"]:
            masked = settings["masked_words"]
            chosen = (
                torch.ones_like(labels) if masked["label"] is None else labels == masked["label"]
            )
            words = masked_word_loss(
                model, batch, tokens, chosen.bool(), masked["probability"], generator
            )
            loss = loss + masked["weight"] * words
    return loss


def shuffle(samples, rows, generator):
    """`rows` in random order; the samples of a quad stay together.

    A batch of whole quads holds every image and text once with each label, so that its gradient
    carries nothing of one modality alone.
    """
    if "quad_id" not in samples:
        return rows[torch.randperm(len(rows), generator=generator)]
    units = samples["quad_id"].iloc[rows.numpy()].factorize()[0]
    order = torch.randperm(int(units.max()) + 1, generator=generator)
    return rows[torch.argsort(order[torch.from_numpy(units)], stable=True)]


def masked_word_loss(model, batch, tokens, chosen, probability, generator):
    """Cross-entropy of words hidden behind [MASK], each with `probability`; 0 if none is.

    The objective of BERT, ViLT and BLIP, which needs the image where the words do not tell.

    Parameters
    ----------
    tokens : {modality: Tokens} of the batch; the image's are used as they are
    chosen : bool (B,), the samples that take part
    """
    drawn = torch.rand(batch.input_ids.shape, generator=generator).to(chosen.device)
    hidden = (drawn < probability) & batch.text_content & chosen[:, None]
    if not hidden.any():
        return torch.zeros((), device=chosen.device)
    masked = replace(batch, input_ids=batch.input_ids.masked_fill(hidden, MASK))
    tokens = {"text": model.embed_text(masked).rows(chosen), "image": tokens["image"].rows(chosen)}
    logits = model.word_logits(model.encode(tokens), tokens)
    return F.cross_entropy(logits[hidden[chosen]], batch.input_ids[hidden])


@torch.no_grad()
def validate(model, data, device):
    """Cross-entropy, AUROC and accuracy (at probability 0.5) on the split val."""
    rows = data.split("val")
    logits = predict(model, data, rows, device)
    labels = data.labels[rows]
    return {
        "val_loss": F.binary_cross_entropy_with_logits(logits, labels).item(),
        "val_auroc": auroc(labels.numpy(), logits.numpy()),
        "val_accuracy": ((logits > 0) == (labels > 0.5)).float().mean().item(),
    }


def parameter_groups(model, weight_decay):
    """Weight decay on matrices and kernels only, not on biases, norms and single vectors."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    free = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0}]


def warmup_steps(warmup, steps):
    """Number of steps over which the rate rises, of `steps` in all.

    warmup : below 1 a share of the steps, else a number of them; ValueError if that is not less
        than all
    """
    start = round(warmup * steps) if warmup < 1 else round(warmup)
    if start >= steps and warmup:
        raise ValueError(
            f"training.warmup: found {warmup}, which is {start} of {steps} steps; expected fewer, "
            "or the rate never reaches training.lr; lower it or raise training.epochs"
        )
    return max(1, start)


def rate_factor(step, steps, warmup, schedule):
    """Factor of the learning rate: linear over `warmup` steps, then down to 0.

    schedule : cosine or linear, how it falls
    """
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * done)) if schedule == "cosine" else 1 - done


def selection_score(record, select):
    """The validation metric by which epochs are compared; more is better."""
    value = record[f"val_{select}"]
    return -value if select == "loss" else value


def is_stopped(epoch, best, patience):
    """Whether training ends before epoch number `epoch` (from 0), the best one being `best`."""
    return patience is not None and epoch - best >= patience
