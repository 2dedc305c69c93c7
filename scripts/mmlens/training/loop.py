"""The training loop: epochs of steps, best checkpoint by validation, exact resume."""

import math

import pandas as pd
import torch
from tqdm import tqdm

from ..files import seed_from
from .adapters import add_adapters, merge_adapters
from .batches import epoch_batches, training_rows
from .objective import batch_loss, check_objective
from .optimisation import build_average, build_optimizer, build_schedule
from .processes import ALONE
from .selection import is_stopped, selection_score, validate
from .state import TrainingState, postponed_sigterm

TERMINATED = 143  # exit status of a process that SIGTERM ended: 128 + 15


def train(model, data, settings, *, seed, device, state_path, processes=ALONE, on_epoch=None):
    """Train on the split train, select on the split val.

    The state is saved after every epoch and, on demand, after every so many steps, with that of the
    random generators, so that a run that was killed at any moment and resumed ends in the same
    weights as one that was not.

    Parameters
    ----------
    model : Model on `device`
    data : EncodedSamples with the splits train and val
    settings : the config's section training
    state_path : file that carries the state of an unfinished training over a kill; `remove_state`
        deletes it when what came of it is saved
    processes : Processes that train this model together
    on_epoch : function called with each epoch's row of the history, once its state is saved, and
        after an interruption with the rows before it again

    Returns
    -------
    history : DataFrame, one row per epoch (epoch, train_loss, val_loss, val_auroc, ...); its
        attrs["trainable"] is the number of trained parameters
    The model holds the weights of the epoch that is best by settings["select"].

    Raises
    ------
    DataError if model, data and settings do not fit; ValueError if the warm-up is longer than the
    training or the model cannot compute layers again; FloatingPointError if the loss is no finite
    number, with the samples of the batch and the learning rate; SystemExit after SIGTERM, with the
    state saved.
    """
    check_objective(model, data, settings)
    if settings["gradient_checkpointing"]:
        model.checkpoint_gradients()
    adapters = add_adapters(model, settings["lora"], seed)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    rows = training_rows(data, settings["per_class"])
    per_epoch = math.ceil(len(rows) / (settings["batch_size"] * settings["accumulate"]))
    steps = settings["updates"] or per_epoch * settings["epochs"]
    optimizer = build_optimizer(model, settings)
    schedule = build_schedule(optimizer, steps, settings)
    average = build_average(model, settings["ema"])
    state = TrainingState(state_path, model, optimizer, schedule, average, processes)
    state.resume(device)
    on_epoch = on_epoch or ignore
    for record in state.history:
        on_epoch(record)
    with postponed_sigterm() as is_terminated:
        for epoch in range(state.epoch, math.ceil(steps / per_epoch)):
            if state.best and is_stopped(epoch, state.best["epoch"], settings["patience"]):
                print(
                    f"no better {settings['select']} for {settings['patience']} epochs", flush=True
                )
                break
            generator = torch.Generator().manual_seed(seed_from("epoch", seed, epoch))
            own = (processes.rank,) if processes.rank else ()
            torch.manual_seed(seed_from("dropout", seed, epoch, *own))
            batches = epoch_batches(data, rows, settings, generator)
            batches = batches[: (steps - epoch * per_epoch) * settings["accumulate"]]
            loss = train_epoch(state, data, batches, settings, generator, device, is_terminated)
            record = {"epoch": epoch + 1, "train_loss": loss}
            if processes.is_first:
                record |= validate(state.evaluated, data, settings, device)
                print(" ".join(f"{key}={value:.4g}" for key, value in record.items()), flush=True)
            record = processes.gather(record)[0]
            state.end_epoch(record, selection_score(record, settings["select"]))
            on_epoch(record)
            if processes.total(is_terminated()):
                leave(state)
    state.load_best(device)
    merge_adapters(adapters)
    history = pd.DataFrame(state.history)
    history.attrs["trainable"] = trainable
    return history


def train_epoch(state, data, batches, settings, generator, device, is_terminated):
    """The batches that are left of an epoch; returns its mean loss.

    state : TrainingState, which counts what is done
    is_terminated : function that tells whether to save and leave after the current step
    """
    model, processes, every = state.model, state.processes, settings["accumulate"]
    model.train()
    state.restore_random(generator)
    state.optimizer.zero_grad()
    todo = list(enumerate(batches, 1))[state.batch :]
    shown = {"desc": "train", "mininterval": 5, "ascii": True}
    for number, index in tqdm(todo, disable=not processes.is_first, **shown):
        part, share = processes.part(len(index))
        loss = batch_loss(model, data, index, settings, generator, device, part) * share
        value = processes.total(loss.item())
        if not math.isfinite(value):
            rate = state.schedule.get_last_lr()[0]
            samples = ", ".join(data.samples["sample_id"].iloc[index.numpy()])
            raise FloatingPointError(
                f"the loss is {value} at learning rate {rate:.3g}, in the batch of samples "
                f"{samples}; lower training.lr or training.clip, or look at these samples"
            )
        # The last group of an epoch may have fewer batches.
        group = min(every, len(batches) - (number - 1) // every * every)
        (loss / group).backward()
        state.total += value * len(index)
        if number % every == 0 or number == len(batches):
            step(state, settings["clip"])
            state.batch = number
            if processes.total(is_terminated()):
                state.save(generator)
                leave(state)
            if is_due(state.schedule.last_epoch, settings["save_every"]) and number < len(batches):
                state.save(generator)
    return state.total / sum(map(len, batches))


def ignore(record):
    """What happens with the record of an epoch where nobody asks for it: nothing."""


def step(state, clip):
    """Change the weights by the gradients that are there, and the averaged weights after them."""
    state.processes.add_gradients(state.model.parameters())
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), clip)
    state.optimizer.step()
    state.schedule.step()
    state.optimizer.zero_grad()
    if state.average is not None:
        state.average.update_parameters(state.model)


def is_due(step, save_every):
    """Whether the state is saved after this step."""
    return save_every is not None and step % save_every == 0


def leave(state):
    """End the process after SIGTERM, when the state is saved by whoever saves it."""
    state.processes.wait()
    print(f"ended by SIGTERM; the next run continues from {state.path}", flush=True)
    raise SystemExit(TERMINATED)
