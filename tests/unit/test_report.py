"""The report: verdicts follow from intervals, text from data is escaped."""

import numpy as np
import pandas as pd
from conftest import ROOT

from mmlens.report.findings import model_findings, number, verdicts
from mmlens.report.page import render_html, render_markdown
from mmlens.report.pairs import best_against_others, pair_findings
from mmlens.report.tables import Shown, pairs_table, perturbation_table
from mmlens.report.texts import explanation_findings, introduction, origins

TEMPLATE = ROOT / "scripts/mmlens/report/page.html.j2"


def comparison(low, high):
    row = {"model": "m", "seeds": "0", "subset": "all", "n": 100}
    return pd.DataFrame([{**row, "auroc": (low + high) / 2, "auroc_low": low, "auroc_high": high}])


def perturbation(**areas):
    """Rows image positive probability from method_subset=(low, high)."""
    rows = []
    for name, (low, high) in areas.items():
        method, subset = name.split("__")
        rows.append(
            {
                "model": "m",
                "seed": 0,
                "method": method,
                "modality": "image",
                "direction": "positive",
                "operator": "token_drop",
                "procedure": "deletion",
                "protocol": "default",
                "score": "probability",
                "subset": subset,
                "auc": (low + high) / 2,
                "auc_low": low,
                "auc_high": high,
                "n": 100,
                "flagged": 0,
            }
        )
    return pd.DataFrame(rows)


def paired(table):
    """Pairs with random of the methods of `perturbation`, separable where no interval overlaps."""
    of_all = table[table["subset"] == "all"]
    random = of_all[of_all["method"] == "random"].iloc[0]
    rows = []
    for row in of_all[of_all["method"] != "random"].to_dict("records"):
        pair = [(row["method"], row["auc"]), ("random", random["auc"])]
        (a, auc_a), (b, auc_b) = sorted(pair)
        apart = row["auc_high"] < random["auc_low"] or row["auc_low"] > random["auc_high"]
        better = "A better" if auc_a < auc_b else "B better"
        facts = {"method_a": a, "method_b": b, "auc_a": auc_a, "auc_b": auc_b, "p_holm": 0.2}
        facts |= {"difference": auc_a - auc_b, "difference_low": auc_a - auc_b - 1}
        facts |= {"difference_high": auc_a - auc_b + 2}
        rows.append({**row, **facts, "verdict": better if apart else "not separable"})
    return pd.DataFrame(rows)


def judged(table, compared, modality="image"):
    """`verdicts` of a table of areas with the pairs that follow from it."""
    return verdicts(table, paired(table), compared, modality)


def test_verdicts_are_of_deletion_by_the_first_operator_of_a_model():
    table = perturbation(random__all=(60, 64), rollout__all=(50, 59))
    other = perturbation(random__all=(60, 64), rollout__all=(65, 69))
    more = [other.assign(operator="mean_fill"), other.assign(procedure="insertion")]
    for frames in ([table, *more], [more[1], table, more[0]]):
        frame, pairs = pd.concat(frames), pd.concat(map(paired, frames))
        found = verdicts(frame, pairs, comparison(0.6, 0.7))
        assert found["verdict"].tolist() == ["better than random"]
        assert len(perturbation_table(frame)) == 2
    frames = [more[0], table]
    found = verdicts(pd.concat(frames), pd.concat(map(paired, frames)), comparison(0.6, 0.7))
    assert found["verdict"].tolist() == ["worse than random"]


def test_a_verdict_follows_from_the_pair_and_not_from_overlapping_intervals():
    table = perturbation(random__all=(60, 64), rollout__all=(55, 61), worse__all=(63, 70))
    pairs = paired(table)
    assert set(pairs["verdict"]) == {"not separable"}
    pairs["verdict"] = ["B better", "A better"]  # of random and rollout, of random and worse
    found = verdicts(table, pairs, comparison(0.6, 0.7)).set_index("method")
    assert found["verdict"].tolist() == ["better than random", "worse than random"]
    bounds = found.loc["rollout", ["auc", "random", "difference", "difference_low"]]
    assert bounds.tolist() == [58, 62, -4, -6]


def test_without_methods_there_are_no_verdicts():
    table = perturbation(random__all=(60, 64))
    columns = [*table.columns, "method_a", "method_b", "verdict"]
    found = verdicts(table, pd.DataFrame(columns=columns), comparison(0.6, 0.7))
    assert found.empty
    assert explanation_findings(found) == []


def test_a_value_without_an_interval_is_shown_alone():
    assert number(0.5, 0.25, 0.75) == "0.500 [0.250, 0.750]"
    assert number(0.5, np.nan, np.nan) == "0.500"


def test_model_sentences_follow_from_the_interval():
    for low, high, verdict in (
        (0.6, 0.7, "better than chance"),
        (0.45, 0.55, "not separable from chance"),
        (0.3, 0.4, "worse than chance"),
    ):
        (sentence,) = model_findings(comparison(low, high), "binary")
        assert sentence.endswith(f"{verdict}.")


def test_accuracies_have_the_name_of_their_task():
    row = {"model": "m", "seeds": "0", "subset": "all", "n": 50, "accuracy": 0.5}
    table = pd.DataFrame([{**row, "accuracy_low": 0.4, "accuracy_high": 0.99999}])
    for task, name in (("answers", "VQA accuracy"), ("classes", "top-1 accuracy")):
        (sentence,) = model_findings(table, task)
        assert sentence == f"m, seed 0: {name} 0.500 [0.400, 0.99999] (n = 50)."


def test_reasons_follow_from_the_tables():
    table = perturbation(
        random__all=(60, 64),
        rollout__all=(50, 59),
        relevance__all=(55, 61),
        saliency__all=(65, 70),
        relevance__pred_0=(30, 40),
        random__pred_0=(50, 60),
        relevance__pred_1=(80, 82),
        random__pred_1=(79, 81),
    )
    found = judged(table, comparison(0.8, 0.9)).set_index("method")
    assert found["verdict"].to_dict() == {
        "rollout": "better than random",
        "relevance": "not separable",
        "saliency": "worse than random",
    }
    assert "samples predicted 0 only" in found.loc["relevance", "why"]
    sentences = explanation_findings(judged(table, comparison(0.8, 0.9)))
    assert sentences[0].endswith("better than random orders are rollout of 3 methods.")
    assert sentences[1].startswith("m, seed 0, image: not separable from random orders are relev")
    assert sentences[2].startswith("m, seed 0, image: worse than random orders are saliency (5.5 p")


def test_a_run_without_images_is_judged_by_its_words():
    table = perturbation(random__all=(60, 64), rollout__all=(50, 59)).assign(modality="text")
    found = judged(table, comparison(0.8, 0.9), "text")
    (sentence,) = explanation_findings(found, "text")
    assert ", text: better than random orders are rollout of 1 methods." in sentence


def test_a_model_at_chance_explains_a_method_at_chance():
    table = perturbation(random__all=(50, 52), rollout__all=(49, 53))
    (why,) = judged(table, comparison(0.45, 0.55))["why"]
    assert "not better than chance" in why


def test_methods_with_one_reason_share_a_sentence():
    areas = {f"{name}__all": (50, 52) for name in ("random", "rollout", "relevance")}
    found = judged(perturbation(**areas), comparison(0.45, 0.55))
    _, sentence = explanation_findings(found)
    assert "from random orders are rollout, relevance (the model is not better than" in sentence


def pairs(*rows):
    """Rows of method_pairs from (a, b, AUC of a, AUC of b, verdict)."""
    table = pd.DataFrame(rows, columns=["method_a", "method_b", "auc_a", "auc_b", "verdict"])
    difference = table["auc_a"] - table["auc_b"]
    facts = {"model": "m", "seed": 0, "modality": "image", "direction": "positive"}
    facts |= {"operator": "token_drop", "procedure": "deletion", "protocol": "default"}
    facts["score"] = "probability"
    return table.assign(
        **facts,
        difference=difference,
        difference_low=difference - 1,
        difference_high=difference + 2,
        p_holm=0.01,
        n=100,
    )


def test_the_best_method_is_compared_with_the_others_nearest_first():
    table = pairs(
        ("centre_prior", "random", 58, 60, "A better"),
        ("centre_prior", "rollout", 58, 50, "B better"),
        ("random", "rollout", 60, 50, "B better"),
        ("relevance", "rollout", 51, 50, "not separable"),
        ("random", "relevance", 60, 51, "B better"),
        ("centre_prior", "relevance", 58, 51, "B better"),
    )
    others = table.assign(direction="negative", auc_a=0.0)
    others = pd.concat([table.assign(procedure="insertion", auc_b=0.0), others])
    found = best_against_others(pd.concat([others, table]))
    assert found["best"].unique().tolist() == ["rollout"]
    assert found["other"].tolist() == ["relevance", "centre_prior", "random"]
    assert found["verdict"].tolist() == ["not separable", "better", "better"]
    names = ["difference", "difference_low", "difference_high"]
    assert found[names].iloc[0].tolist() == [-1, -3, 0]
    (sentence,) = pair_findings(found)
    assert sentence == (
        "m, seed 0, image: the lowest mean AUC is rollout's; it is not separable from relevance "
        "(paired, n = 100)."
    )
    (sentence,) = pair_findings(found[1:])
    assert "it is better than every other (" in sentence
    assert pairs_table(found)["difference"][0] == ("-1.00 [-3.00, 0.00]", -1)


def test_without_pairs_there_is_nothing_to_say():
    found = best_against_others(pairs())
    assert found.empty
    assert pair_findings(found) == []


def test_text_from_data_is_escaped():
    evil = "<script>alert(1)</script>|"
    table = Shown.of("T", "note", pd.DataFrame({"a": [evil], "b": [0.123456]}), "t.csv")
    content = {"title": evil, "paragraphs": [evil], "findings": [evil], "figures": []}
    page = render_html(
        TEMPLATE, tables=[table], version="0", versions="", reproduce=evil, **content
    )
    assert evil not in page
    assert "0.1235" in page
    markdown = render_markdown(tables=[table], reproduce="a: 1\n", **content)
    assert "| &lt;script>alert(1)&lt;/script>\\| | 0.1235 |" in markdown


def test_pivot_keeps_values_as_sort_keys():
    shown = Shown.of("T", "", perturbation_table(perturbation(rollout__all=(50, 60))), "t.csv")
    (row,) = shown.rows
    assert row[4] == ("55.0 [50.0, 60.0]", 55.0)
    assert row[6] == ("", "")


def test_the_report_says_what_every_model_started_from():
    scratch = {"weights": None, "train": True}
    config = {
        "models": ["a", "b", "c", "d"],
        "variants": {
            **{"a": scratch, "b": scratch},
            "c": {"weights": "cc", "train": True},
            "d": {"weights": "some/folder", "train": False},
        },
        "weights": {"cc": {"hub": "you/cc", "revision": "v1"}},
    }
    assert origins(config) == [
        "Trained from scratch in this run, on its data alone: a, b.",
        "Trained further in this run: c (weights: you/cc at v1).",
        "Not trained in this run, but used as the weights are: d (weights: some/folder).",
    ]
    assert origins({**config, "models": ["a"]}) == [
        "Trained from scratch in this run, on its data alone: a."
    ]


def test_models_of_one_source_are_named_together_and_copies_as_such():
    tuned = {"weights": "cc", "train": True}
    config = {
        "models": ["a", "b", "c"],
        "variants": {"a": tuned, "b": {**tuned, "weights": "copy"}, "c": tuned},
        "weights": {"cc": {"hub": "you/cc"}, "copy": {"url": "there/x.bin", "path": "x.bin"}},
    }
    (sentence,) = origins(config)
    assert sentence.endswith(
        ": a, c (weights: you/cc); b (weights: x.bin in place of there/x.bin)."
    )


def test_the_introduction_says_only_what_the_run_did():
    variant = {"weights": None, "train": True}
    config = {
        "dataset": {"kind": "coco", "root": "r"},
        "models": ["a", "b", "c"],
        "variants": {
            "a": {**variant, "captions": True},
            "b": {**variant, "captions": False},
            "c": {**variant, "captions": False},
        },
        "weights": {},
        "captions": {"enabled": True, "model": "blip"},
        "seeds": [3, 4],
        "explain": {"samples": 10, "split": "test", "seeds": None},
        "perturbation": {"protocol": "default", "operators": ["token_drop"]},
    }
    frozen = {"a": "clip", "b": "resnet", "c": "clip"}
    _, models = introduction(config, None, [], frozen, explained=0)
    assert "extractor clip are read by a, c. " in models
    assert models.endswith("by blip, is read by a.")
    *_, last = introduction(config, None, [], frozen, explained=10)
    whole = "Explanations are of the predicted class, on 10 samples of the split test"
    assert last.startswith(f"{whole}. Perturbation")
    config["explain"]["seeds"] = 1
    *_, last = introduction(config, None, [], frozen, explained=10)
    assert last.startswith(f"{whole}, by the models of seed 3. Perturbation")
