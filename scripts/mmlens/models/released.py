"""Published weights: what a file holds is matched to a network by name and shape, and reported."""

from dataclasses import dataclass, replace

import torch

from ..table import DataError
from ..weights import read_content, state_of
from .answers import read_answers
from .base import Model
from .folders import is_export, settings_beside, weights_file


@dataclass(frozen=True)
class LoadReport:
    """What became of the tensors of a file and of a network.

    matched : names that are the same in both; renamed : {name in the file: name in the network};
    unexpected : names of the file that were not read; missing : names of the network that keep
    their fresh weights; adapted : names of the network whose tensors were made to fit.
    """

    path: str
    matched: tuple
    renamed: dict
    unexpected: tuple
    missing: tuple
    adapted: tuple = ()

    def __str__(self):
        lines = [
            f"{self.path}: {len(self.matched)} tensors matched, {len(self.renamed)} renamed, "
            f"{len(self.unexpected)} not read, {len(self.missing)} of the network missing"
        ]
        lines += [f"  not read: {name}" for name in self.unexpected]
        lines += [f"  made to fit: {name}" for name in self.adapted]
        return "\n".join([*lines, *(f"  missing: {name}" for name in self.missing)])


class ReleasedModel(Model):
    """Base of the models that may start from published weights."""

    report = None  # the `LoadReport` of a model that did
    answers = None  # what the outputs of its head stand for, in order, if that was read

    def read(self, load, weights, head, answers=None, published=None):
        """Fill the network with published weights, and say what was read.

        A head of two classes is read where the file has one of that size, a head of answers only
        if it is known what its outputs stand for: of another it would be worth nothing.

        Parameters
        ----------
        load : function of network, path, fitted and fresh, as in `load_released`, -> `LoadReport`
        weights : folder or file
        head : prefix of the head's names in the network
        answers : file that names the answers of a head that must fit
        published : names of the answers of a head that is read if it fits
        """
        names = published if answers is None else read_answers(answers)
        unnamed = self.outputs > 1 and names is None
        self.report = load(
            self.network,
            weights_file(weights),
            fitted=(head,) if answers is None else (),
            fresh=(head,) if unnamed else (),
        )
        print(self.report)
        if not any(name.startswith(head) for name in self.report.missing):
            self.answers = names
            print_labels(weights)

    def report_fresh(self, part):
        """Count a part of the model, which no published file holds, as missing in the report.

        part : name of a submodule beside the network
        """
        if not is_export(self.report.path):
            own = [n for n, _ in self.named_parameters() if n.startswith(f"{part}.")]
            self.report = replace(self.report, missing=(*self.report.missing, *own))


def print_labels(weights):
    """Say which names of labels lie beside the weights: that of 1 must be that of the run's."""
    names = settings_beside(weights).get("id2label")
    if names and len(names) == 2:
        print(f"labels of the head that was read: {names}; the logit is that of 1")


def load_released(module, path, *, rename, parts, required, known, fitted=(), fresh=(), adapt=None):
    """Fill a network with the tensors of a published file; a `LoadReport`.

    Parameters
    ----------
    module : torch module
    path : of the file
    rename : function, name in the file -> name in the network
    parts : prefixes; of the network's names with such a prefix a file holds all or none
    required : those of `parts` that a file must hold
    known : prefixes of names that a file may hold for which the network has no place
    fitted : those of `parts` that are not read where a file has them in another size
    fresh : those of `parts` that keep their fresh weights, whatever the file holds
    adapt : {name in the network: function, tensor of the file -> tensor for the network}

    Raises
    ------
    DataError naming every tensor that is missing, unexpected, of another shape, or there twice.
    """
    if is_export(path):  # which holds the state of the whole model, read when it is built
        return LoadReport(str(path), (), {}, (), ())
    found, old_names, problems, adapted = {}, {}, [], []
    for name, tensor in state_of(read_content(path), path).items():
        new = rename(name)
        if new in found:
            problems.append(f"{path}: {old_names[new]} and {name} are both {new}; expected one")
        found[new], old_names[new] = tensor, name
    for name in (adapt or {}).keys() & found.keys():
        changed = adapt[name](found[name])
        adapted += [name] if changed is not found[name] else []
        found[name] = changed
    expected = module.state_dict(keep_vars=True)
    left = (*fresh, *(part for part in fitted if not fits(part, found, expected)))
    unread = [name for name in found if name.startswith(left)]
    found = {name: tensor for name, tensor in found.items() if name not in unread}
    tied = tied_names(expected)
    for alias, name in tied.items():
        own = found.get(alias)
        if own is not None and not torch.equal(own, found.setdefault(name, own)):
            problems.append(f"{path}: {alias} differs from {name}; expected the same tensor")
    untied = [name for name in expected if name not in tied]
    missing = [name for name in untied if name not in found]
    absent = absent_parts(untied, missing, parts, [part for part in required if part not in left])
    problems += [
        f"{path}: no {name}; expected {tuple(expected[name].shape)}"
        for name in missing
        if not name.startswith(absent)
    ]
    unexpected = [name for name in found if name not in expected]
    problems += [
        f"{path}: unexpected {old_names[name]} {tuple(found[name].shape)}; the network has no "
        "such tensor"
        for name in unexpected
        if not name.startswith(known)
    ]
    taken = {name: tensor for name, tensor in found.items() if name in expected}
    problems += [
        f"{path}: {name} has shape {tuple(tensor.shape)}; expected {tuple(expected[name].shape)}"
        for name, tensor in taken.items()
        if tensor.shape != expected[name].shape
    ]
    if problems:
        raise DataError("weights", problems)
    module.load_state_dict(taken, strict=False)
    renamed = {old_names[name]: name for name in old_names if old_names[name] != name}
    return LoadReport(
        path=str(path),
        matched=tuple(name for name in taken if old_names.get(name) == name),
        renamed={old: name for old, name in renamed.items() if name in taken},
        unexpected=tuple(old_names[name] for name in [*unexpected, *unread]),
        missing=tuple(missing),
        adapted=tuple(adapted),
    )


def fresh_weights(model, batch):
    """Names of weights that no file held and that the logits of a batch depend on.

    What a model that is not trained says would be worth nothing with any. They are told by their
    gradients, since a file may well lack heads that are not asked.
    """
    missing = set(model.report.missing) if getattr(model, "report", None) else set()
    own = (*model.network.named_parameters(), *model.named_parameters()) if missing else ()
    named = {name: parameter for name, parameter in own if name in missing}
    if not named:
        return []
    logits = model.eval()(model.embed(batch)).sum()
    gradients = torch.autograd.grad(logits, list(named.values()), allow_unused=True)
    return [name for name, g in zip(named, gradients, strict=True) if g is not None]


def fits(part, found, expected):
    """Whether the tensors of a part have the network's shapes, as far as both have them."""
    names = [name for name in found if name.startswith(part) and name in expected]
    return all(found[name].shape == expected[name].shape for name in names)


def tied_names(state):
    """{second name: first name} of tensors that a state has under two names."""
    first = {}
    for name, tensor in state.items():
        first.setdefault(id(tensor), name)
    return {name: first[id(t)] for name, t in state.items() if first[id(t)] != name}


def absent_parts(names, missing, parts, required):
    """Those of `parts` that may be, and are, missing as a whole, as a tuple."""
    present = [name for name in names if name not in set(missing)]
    optional = [part for part in parts if part not in required]
    return tuple(p for p in optional if not any(name.startswith(p) for name in present))
