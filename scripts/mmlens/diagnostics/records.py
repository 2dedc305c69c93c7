"""All diagnostics of one model on all requested samples, as records of single samples."""

import numpy as np
import pandas as pd
import torch

from ..explanation.capture import recorded, target_logits
from ..explanation.propagation import readout_maps
from ..explanation.words import word_numbers
from ..perturbation.randomisation import randomised
from ..ranking import RANDOM
from .attention import summarised_attention
from .lens import OWN, divergence, layer_modules, logit_lens, why_not
from .outcomes import outcomes

COLUMNS = (
    "sample_id",
    "control",
    "outcome",
    "measure",
    "rows",
    "query",
    "key",
    "layer",
    "readout",
    "grid_rows",
    "grid_columns",
    "values",
    "note",
)
ATTENTION = ("entropy", "cross_modal_mass", "attention")
LENS = ("logit", "divergence", "agreement")
NO_MAPS = "not applicable: the model has no attention maps"
ONE_MODALITY = "not applicable: the model reads one modality"
NO_DECISION = "not applicable: the one logit of an image and its caption decides nothing"


@torch.no_grad()
def diagnose(
    model, data, predicted, *, thresholds=None, readouts=(OWN,), batch_size, device, seed=0
):
    """Records of all samples of `data`; every map is reduced when it is computed.

    Parameters
    ----------
    model : Model in eval mode
    data : EncodedSamples of N samples
    predicted : (N,) predicted classes, or numbers of the answers
    thresholds : (N,) probability from which on label 1 is predicted; None for many answers
    readouts : of `lens.logit_lens`; none where the logits are no decisions
    seed : int, order of the weights of the control

    Returns
    -------
    DataFrame of COLUMNS. `measure` says what `values` (list) holds:

    entropy : normalised entropy per head, mean over queries; of map `query` -> `key`, `layer`
    cross_modal_mass : share of attention on the other modality per head, mean over queries `rows`
    attention : of the readout token in `layer`, mean over heads, of `key`: per content token of an
        "image" (grid_rows, grid_columns; 0 where there is no grid), per word of a "text"
    logit, divergence, agreement : per layer, the lens's logit of the predicted class, its
        divergence (lens.divergence) and 1 where its decision is the model's, else 0; of `readout`

    Entropy and mass have a second record, whose `control` is RANDOM: of the same network with its
    weights in random order, which shows what the architecture alone gives. What does not apply is
    one record without sample and values; `note` says why.
    """
    records = []
    outcome = outcomes(data.samples, predicted)
    modules = layer_modules(model)

    def keep(chosen, found, control=""):
        for facts, values in found:
            for k, row in enumerate(chosen.tolist()):
                own = values[k].cpu().numpy().astype(np.float32)
                names = {"sample_id": data.samples["sample_id"].iat[row], "outcome": outcome[row]}
                records.append({**names, "control": control, "values": own, **facts})

    for chosen in torch.arange(len(data)).split(batch_size):
        tokens = model.embed(data.batch(chosen, device))
        layout = model.layout(tokens)
        with summarised_attention(model, layout) as seen, recorded(modules) as calls:
            logits = model(tokens)
        outputs = {module: found[0] for module, found in calls.items()}
        threshold = None if thresholds is None else np.asarray(thresholds)[chosen.numpy()]
        target = torch.as_tensor(np.asarray(predicted)[chosen.numpy()], device=logits.device)
        target = target == 1 if threshold is not None else target
        words = [
            word_numbers(data, row) if "text" in layout.spans else [] for row in chosen.tolist()
        ]
        found = [*map_records(seen), *readout_records(model, seen, words)]
        for readout in readouts:
            if not why_not(model, layout, readout):
                lens = logit_lens(model, tokens, outputs, readout)
                found += lens_records(lens, logits, target, threshold, readout)
        keep(chosen, found)
    if model.edges():
        with randomised(dict(model.named_parameters()), seed):
            for chosen in torch.arange(len(data)).split(batch_size):
                tokens = model.embed(data.batch(chosen, device))
                with summarised_attention(model, model.layout(tokens)) as seen:
                    model(tokens)
                keep(chosen, [row for row in map_records(seen) if not row[0].get("note")], RANDOM)
    records += not_applicable(model, layout, readouts)
    frame = pd.DataFrame(records, columns=COLUMNS)
    numbers = ["layer", "grid_rows", "grid_columns"]
    frame[numbers] = frame[numbers].fillna(0).astype(int)
    names = frame.columns.difference([*numbers, "values"])
    frame[names] = frame[names].fillna("")
    return frame


def map_records(seen):
    """[(facts, (B, H))] of entropy and cross-modal mass of every map."""
    found = []
    for m in seen.maps:
        place = {"query": m.query, "key": m.key, "layer": m.layer}
        found.append(({"measure": "entropy", **place}, m.entropy))
        for mass in m.masses:
            facts = {"measure": "cross_modal_mass", "rows": mass.rows, "note": mass.note, **place}
            found.append((facts, mass.share))
    return found


def readout_records(model, seen, words):
    """[(facts, B tensors (n,))] of what the readout token reads of each modality's content.

    words : per sample the number of the word that each piece of its text is of
    """
    if not seen.maps:
        return []
    found = []
    for modality, span in seen.layout.spans.items():
        content = seen.layout.content[modality]
        grid = (model.grid if modality == "image" else None) or (0, 0)
        facts = {"measure": "attention", "key": modality}
        facts |= {"grid_rows": grid[0], "grid_columns": grid[1]}
        for layer, attention in enumerate(readout_maps(seen, modality)[0], 1):
            own = zip(attention[:, span.slice], content, strict=True)
            values = [row[mask] for row, mask in own]
            if modality == "text":
                values = [
                    torch.bincount(torch.tensor(numbers, device=row.device), row)
                    if len(row)
                    else row
                    for row, numbers in zip(values, words, strict=True)
                ]
            found.append(({**facts, "layer": layer}, values))
    return found


def lens_records(lens, logits, target, threshold, readout):
    """[(facts, (B, L))] of the lens (L, B) or (L, B, C) of a model whose output is `logits`."""
    explained = torch.stack([target_logits(layer, target) for layer in lens])
    agrees = (decisions(lens, threshold) == decisions(logits[None], threshold)).to(explained.dtype)
    agrees[explained.isnan()] = torch.nan
    values = {
        "logit": explained,
        "divergence": divergence(logits, lens),
        "agreement": agrees,
    }
    return [({"measure": name, "readout": readout}, values[name].T) for name in LENS]


def decisions(logits, threshold):
    """Predicted classes (L, B) of logits (L, B), by the threshold (B,), or of (L, B, C)."""
    if threshold is None:
        return logits.argmax(-1)
    return logits.double().sigmoid() >= torch.as_tensor(threshold, device=logits.device)


def not_applicable(model, layout, readouts):
    """Records of what does not apply to a model, with the reason."""
    reasons = [({"measure": name}, NO_MAPS) for name in ATTENTION if not model.edges()]
    if model.edges() and len(layout.spans) < 2:
        reasons.append(({"measure": "cross_modal_mass"}, ONE_MODALITY))
    reasons += [({"measure": name}, NO_DECISION) for name in LENS if not readouts]
    for readout in readouts:
        if why := why_not(model, layout, readout):
            facts = [{"measure": name, "readout": readout} for name in LENS]
            reasons += [(fact, f"not applicable: {why}") for fact in facts]
    return [facts | {"note": why, "values": np.zeros(0, np.float32)} for facts, why in reasons]
