"""Speed of the published protocol on METER: eight methods and their perturbation tests.

    python benchmarks/explanations.py [--samples 8] [--repeats 3] [--threads 2] [--clock wall]

writes benchmarks/results/explanations.json. Of every sample eight methods are computed for the
predicted answer, and each is tested by removing words and image tokens, most and least relevant
first, in nine steps. The baseline does so as the published code does (plain_protocol.py), on the
same weights and samples. METER-base has the published sizes at 224 pixels, "small" is 128 wide;
weights are random: they change what is computed, not how long it takes. Images are decoded before
the clock starts, and predictions are those that a run has made before.

Seconds are per sample. Both sides are measured in one run, in pairs: the library on all samples,
after a run of it off the clock, the baseline on one of them, another one in every pair, whose first
of sixteen tests does as much; the ratio is the median of the pairs, its range the least and the
greatest. `--clock cpu` counts the CPU seconds of all threads, where other work on the machine would
count, and `--threads 1` keeps waiting threads out of them. Peak memory is that of a process of its
own for each side; that of the baseline is of one method on one sample, and `start_mb` were there
before.

`agreement` is the share of answers of all steps that are those of the baseline, `agreement_of` that
of each method, `answers` the mean number of different ones per sample. `floor_seconds` is what the
least of operations that give the same answers would take at the machine's best rate of matrix
products in single precision, measured in the same run (`operations`), and `floor_share` what of the
library's time that is. Rows of "bfloat16" are with `perturbation.precision: bfloat16`;
`perturbation_ratio` is how much less time the tests take then, `same_answers` the share of answers
that do not change. Rows of "scaling" have no baseline: their ratio is the time per sample with the
fewest samples over their own.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import torch
from floor import best_rate, operations
from measuring import in_own_process, record, timed
from PIL import Image
from plain_protocol import METHODS, PlainMeter

from mmlens.datasets.vocabulary import train_tokenizer
from mmlens.explanation.explain import explain
from mmlens.files import write_json
from mmlens.models import build_model, input_spec
from mmlens.models.inputs import EncodedSamples
from mmlens.models.meter import ANSWERS, Meter
from mmlens.perturbation import engine
from mmlens.perturbation.blocks import explain_and_perturb
from mmlens.perturbation.sources import Sources

WORDS = 2000  # of the vocabulary
SIDE, PATCH = 224, 16
IMAGES = 50  # different ones at most
ARGUMENTS = {"relevance": {"preset": "published"}, "rollout": {"crosses": False}}
EXPLAINING = {"methods": list(METHODS), "draws": 1, "arguments": ARGUMENTS}
PERTURBING = {"steps": engine.PUBLISHED_STEPS, "protocol": "published", "words": False}
AT_ONCE = 8  # samples whose tests run together
SUBSETS = 32  # per forward pass
BASE = {"image_size": SIDE}
SMALL = {"hidden_size": 128, "num_heads": 4, "num_top_layer": 3, "image_size": SIDE}
SMALL |= {"text_hidden_size": 128, "text_num_hidden_layers": 6, "text_num_attention_heads": 4}
SMALL |= {"text_intermediate_size": 512, "vision_width": 128, "vision_heads": 4}
CASES = {
    "METER-base, 12 tokens": (BASE, 12),
    "METER-base, 9 tokens": (BASE, 9),
    "small, 12 tokens": (SMALL, 12),
}
SCALING = (50, 200, 800)
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
KEYS = ["sample_id", "method", "modality", "direction"]


def write_samples(folder, count, tokens):
    """A samples table of random words and patches of random colours, and their tokenizer."""
    generator = np.random.default_rng(0)
    for number in range(min(count, IMAGES)):
        colours = generator.integers(0, 256, (SIDE // PATCH, SIDE // PATCH, 3), dtype=np.uint8)
        pixels = colours.repeat(PATCH, 0).repeat(PATCH, 1)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    chosen = generator.integers(0, WORDS, (count, tokens - 2))
    texts = [" ".join(f"word{k}" for k in words) for words in chosen]
    known = [f"word{k}" for k in range(WORDS)]
    train_tokenizer(known, texts).save(str(folder / "tokenizer.json"))
    return pd.DataFrame(
        {
            "sample_id": [f"sample{k}" for k in range(count)],
            "text": texts,
            "image": [str(folder / f"{k % IMAGES}.png") for k in range(count)],
            "label": 0,
            "answers": [json.dumps({"1": 1.0, "2": 0.3})] * count,
        }
    )


@torch.no_grad()
def randomise(model):
    """Weights with which the answer depends on every token: those of initialisation hardly let it.

    Linear layers N(0, 1 / inputs), queries and keys 2.5 times as large; embeddings N(0, 1 / 4).
    """
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(std=0.05)
        elif "embedding" in name and "LayerNorm" not in name:
            parameter.normal_(std=0.5)
        elif parameter.ndim > 1:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
            if ".query." in name or ".key." in name:
                parameter *= 2.5


class Case:
    """METER of some sizes on `count` samples of a length, run by either side."""

    def __init__(self, sizes, tokens, count, threads):
        torch.set_num_threads(threads)
        arguments = {"preset": "published", "sizes": sizes, "image_tokens": "encoded"}
        with tempfile.TemporaryDirectory() as name:
            samples = write_samples(Path(name), count, tokens)
            spec = input_spec("meter", arguments, Path(name) / "tokenizer.json")
            names = [str(k) for k in range(ANSWERS)]
            self.data = EncodedSamples(samples, spec, answers=names)
            self.data.batch(torch.arange(1))  # decodes all images, which are gone after this
        self.model = build_model("meter", arguments, self.data)
        randomise(self.model)
        self.model.eval()
        predicted = [self.predict(rows) for rows in torch.arange(count).split(AT_ONCE)]
        self.predicted = torch.cat(predicted)
        self.data.samples["prediction"] = self.predicted.numpy()

    @torch.no_grad()
    def predict(self, rows):
        return self.model(self.model.embed(self.data.batch(rows))).argmax(1)

    def explain(self):
        """Attributions of all samples."""
        return explain(
            self.model, self.data, self.predicted, batch_size=AT_ONCE, device="cpu", **EXPLAINING
        )

    def protocol(self, precision="float32"):
        """The tests of all attributions."""
        sources = Sources(self.data.samples, self.data.spec, [])
        options = {"precision": precision, "answers": self.data.answers, "batch_size": SUBSETS}
        return explain_and_perturb(
            self.model, self.data, self.predicted, sources, block=AT_ONCE, device="cpu",
            explaining=EXPLAINING, perturbing=PERTURBING | options,
        )[1]  # fmt: skip

    def answers(self, precision="float32"):
        """Answers (numbers) at all steps by KEYS; how many subsets of which length were computed.

        The second is a Counter of (modality, number of tokens left), of all samples together.
        """
        subsets, removal = Counter(), Meter.removal

        def counted(model, tokens, modality):
            logits = removal(model, tokens, modality)

            def count(rows, index):
                subsets[modality, index.shape[1]] += len(rows)
                return logits(rows, index)

            return count

        def number(logits, _rows):
            return logits.argmax(1).numpy()[:, None].repeat(len(engine.SCORES), 1)

        judge = mock.patch.object(engine, "judge_of", return_value=number)
        with judge, mock.patch.object(Meter, "removal", counted):
            found = self.protocol(precision)
        return found.groupby(KEYS)["accuracy"].apply(list), subsets

    def sample(self, row):
        """(word ids (1, T), pixels (1, 3, S, S)) of a sample."""
        batch = self.data.batch(torch.tensor([row]))
        return batch.input_ids, batch.image

    def plain(self):
        """The baseline on its own copy of the model; function from a row to its answers by KEYS."""
        meter = PlainMeter(copy.deepcopy(self.model))

        def answers(row):
            name = self.data.samples["sample_id"].iat[row]
            found = meter.protocol(self.sample(row), name)
            return pd.Series({(name, *keys): steps for keys, steps in found.items()})

        return answers


def in_library(precision, *case):
    """Function that runs the library on a case; for `in_own_process`."""
    return partial(Case(*case).protocol, precision)


def in_time(clock, *case):
    """Function that gives the seconds that the library takes for a case."""
    protocol = Case(*case).protocol
    return lambda: timed(protocol, now=CLOCKS[clock])[0]


def in_baseline(*case):
    """Function that runs two tests of one method on one sample by the baseline."""
    case = Case(*case)
    meter = PlainMeter(case.model)

    def work():
        for modality in ("text", "image"):
            meter.test(case.sample(0), "sample0", "relevance", modality, True)

    return work


def fast_bfloat16():
    """Whether this CPU multiplies in bfloat16."""
    flags = Path("/proc/cpuinfo").read_text()
    return "amx_bf16" in flags or "avx512_bf16" in flags


def share_equal(found, expected):
    """Share of equal answers of all steps; (tests, steps) each, of the tests of `expected`."""
    pairs = zip(found.loc[expected.index], expected, strict=True)
    return float(np.mean([np.equal(*pair) for pair in pairs]))


def of_explanations(case, pairs, options, **facts):
    """A record of this benchmark; pairs : seconds per sample of the library and of the baseline."""
    clock = {"threads": options.threads, "clock": options.clock}
    return record("explanations", case, pairs, **facts, **clock)


def measure(name, options, rate):
    """The records of one of CASES, in single precision and, where the CPU is fast at it, bf16."""
    chosen, now = (*CASES[name], options.samples, options.threads), CLOCKS[options.clock]
    case = Case(*chosen)
    plain = case.plain()
    precisions = ["float32", "bfloat16"] if fast_bfloat16() else ["float32"]

    explaining, baseline, expected = [], [], []
    ours = {precision: [] for precision in precisions}
    for repeat in range(options.repeats):
        for precision in precisions:
            case.protocol(precision)  # warms up: what the baseline freed went back to the system
            seconds, _ = timed(case.protocol, precision, now=now)
            ours[precision].append(seconds / options.samples)
        explaining.append(timed(case.explain, now=now)[0] / options.samples)
        seconds, answers = timed(plain, repeat % options.samples, now=now)
        baseline.append(seconds)
        expected.append(answers)
    perturbing = {
        p: [whole - own for whole, own in zip(ours[p], explaining, strict=True)] for p in precisions
    }
    expected = pd.concat(expected[: options.samples])
    answers, subsets = case.answers()
    floor = operations(case.model.network.config, CASES[name][1], subsets, options.samples)
    start, peak, _ = in_own_process(in_library, "float32", *chosen)
    _, plain_peak, _ = in_own_process(in_baseline, *chosen)
    records = []
    for precision in precisions:
        found = answers if precision == "float32" else case.answers(precision)[0]
        facts = {"agreement": share_equal(found, expected), "start_mb": start}
        facts["agreement_of"] = {
            method: share_equal(found, part) for method, part in expected.groupby(level=1)
        }
        if precision == "float32":
            facts |= {
                "peak_mb": peak,
                "baseline_peak_mb": plain_peak,
                "answers": float(found.explode().groupby(level=0).nunique().mean()),
                "explanation_seconds": statistics.median(explaining),
                "perturbation_seconds": statistics.median(perturbing[precision]),
                **{
                    f"{modality}_subsets": sum(n for (m, _), n in subsets.items() if m == modality)
                    / options.samples
                    for modality in ("text", "image")
                },
                "operations": floor,
                "operations_per_second": rate,
                "floor_seconds": floor / rate,
                "floor_share": floor / rate / statistics.median(ours[precision]),
            }
        else:
            both = zip(perturbing["float32"], perturbing[precision], strict=True)
            facts |= {
                "peak_mb": in_own_process(in_library, precision, *chosen)[1],
                "perturbation_ratio": statistics.median(full / half for full, half in both),
                "same_answers": share_equal(found, answers),
            }
        title = name if precision == "float32" else f"{name}, {precision}"
        records.append(
            of_explanations(
                title, list(zip(ours[precision], baseline, strict=True)), options, **facts
            )
        )
    return records


def scale(name, options):
    """Records of one of CASES on more and more samples, without a baseline."""
    records, few = [], None
    for count in options.scaling:
        case = (*CASES[name], count, options.threads)
        start, peak, seconds = in_own_process(in_time, options.clock, *case)
        few = few or seconds / count
        facts = {"agreement": None, "peak_mb": peak, "start_mb": start}
        title = f"{name}, scaling, {count} samples"
        records.append(of_explanations(title, [(seconds / count, few)], options, **facts))
    return records


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--scaling", type=int, nargs="*", default=list(SCALING), help="samples")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rate = best_rate(CLOCKS[options.clock])
    results = [found for name in options.cases for found in measure(name, options, rate)]
    results += scale("small, 12 tokens", options)
    write_json(Path(__file__).parent / "results/explanations.json", results, indent=1)


if __name__ == "__main__":
    main()
