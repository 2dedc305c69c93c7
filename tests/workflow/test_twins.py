"""The small twins of the studies: the real configurations on small checkpoints, end to end."""

import json

import pandas as pd
import pytest
import twins
import yaml
from conftest import ROOT, SHARED, snakemake

from mmlens.datasets.generated import generate

pytestmark = pytest.mark.slow
OPEN = SHARED / "data/coco_open"
needs_open = pytest.mark.skipif(not OPEN.is_dir(), reason=f"no {OPEN}")


def run(name, directory):
    """Folder of the results of config/<name>.yaml with its twin laid over it."""
    configs = [ROOT / "config" / f"{name}.yaml", ROOT / "config/test" / f"{name}.yaml"]
    done = snakemake("--cores", "2", "--configfile", *configs, directory=directory, timeout=2400)
    assert done.returncode == 0, done.stdout + done.stderr
    again = snakemake("--cores", "1", "--configfile", *configs, directory=directory)
    assert "Nothing to be done" in again.stdout + again.stderr
    return directory / "results" / yaml.safe_load(configs[1].read_text())["run"]


def open_photographs(directory):
    (directory / "resources").mkdir()
    (directory / "resources/coco_open").symlink_to(OPEN)
    return directory / "resources/twins"


def check(results, models, explained=True):
    """Every model has predictions, a row of metrics, and, explained, maps and curves."""
    comparison = pd.read_csv(results / "tables/comparison.csv")
    overall = comparison[comparison["subset"] == "all"]
    assert overall["model"].tolist() == models
    assert (results / "report/index.html").stat().st_size > 10_000
    if explained:
        for name in ("perturbation_auc", "localisation"):
            assert (results / f"tables/{name}.csv").is_file()
        areas = pd.read_csv(results / "tables/perturbation_auc.csv")
        assert areas["auc"].notna().all()
        assert set(areas["model"]) == set(models)
    check_evaluation(results, models)
    return overall.set_index("model")


def check_evaluation(results, models):
    """The tables that every run has beside the comparison, with intervals and controls."""
    read = {
        name: pd.read_csv(results / f"tables/{name}.csv")
        for name in ("checks", "fairness", "fairness_gaps", "model_pairs", "seeds")
    }
    checks = read["checks"]
    judged = checks[checks["model"].notna()]
    assert set(judged["model"]) == set(models)
    counted = ("no_null_predictions", "valid_probability_range", "prediction_count")
    assert (judged.loc[judged["check"].isin(counted), "passed"] == "yes").all()
    assert (checks["check"] == "leakage_near_duplicate_images").sum() == 1
    known = read["fairness"].dropna(subset=["value"])
    assert known["value"].between(0, 1).all()
    assert (known["low"] <= known["value"] + 1e-6).all()
    gaps = read["fairness_gaps"].dropna(subset=["gap"])
    assert gaps["shuffled"].notna().all()
    assert gaps["p_shuffled"].between(0, 1).all()
    if len(models) > 1:
        assert len(read["model_pairs"]) % (len(models) * (len(models) - 1) // 2) == 0
        assert (read["model_pairs"]["p_holm"] >= read["model_pairs"]["p"]).all()


@needs_open
def test_vqa(tmp_path):
    folder = open_photographs(tmp_path)
    path = OPEN / "vqa/v2_OpenEnded_mscoco_val2014_questions.json"
    questions = json.loads(path.read_text())["questions"]
    twins.make(folder, [question["question"] for question in questions])
    images = sorted({f"{question['image_id']:012d}.jpg" for question in questions})
    twins.write_regions(folder / "regions.tsv", images)
    results = run("vqa_v2", tmp_path)
    overall = check(results, ["meter", "lxmert", "vilt"])
    assert overall["n"].eq(76).all()
    assert overall["accuracy_high"].between(0, 1).all()
    types = pd.read_csv(results / "tables/vqa.csv").fillna({"control": ""})
    assert {"answer_type=yes/no", "answer_type=other"} <= set(types["subset"])
    assert set(types["control"]) == {"", "shuffled_answers"}
    published = pd.read_csv(results / "tables/reproduction.csv")
    areas = published[published["metric"] == "perturbation_auc"]
    assert areas["run_model"].eq("meter").all()
    assert areas["low"].le(areas["high"]).all()
    predictions = pd.read_parquet(results / "predictions/meter/seed0.parquet")
    assert predictions["prediction"].between(0, 3128).all()
    assert predictions["logit"].nunique() > 10


@needs_open
def test_coco_zero_shot(tmp_path):
    folder = open_photographs(tmp_path)
    captions = json.loads((OPEN / "annotations/captions_val2017.json").read_text())
    boxes = json.loads((OPEN / "annotations/instances_val2017_boxes.json").read_text())
    texts = [annotation["caption"] for annotation in captions["annotations"]]
    twins.make(folder, [*texts, *(c["name"] for c in boxes["categories"]), "a photo of a"])
    results = run("coco_zero_shot", tmp_path)
    overall = check(results, ["clip", "siglip", "blip", "vilt", "dual_encoder"], explained=False)
    assert (overall["accuracy_top5"] >= overall["accuracy"]).all()
    zero_shot = pd.read_csv(results / "tables/zero_shot.csv").fillna({"control": "", "rule": ""})
    whole = zero_shot[zero_shot["category"] == "all"]
    for _, rows in whole.groupby(["model", "control"]):
        wanted = {("largest", "top1"), ("any", "top5"), ("any", "map")}
        assert wanted <= set(zip(rows["rule"], rows["metric"], strict=True))
    top1 = whole[(whole["rule"] == "largest") & (whole["metric"] == "top1")]
    assert top1.loc[top1["control"] == "", "value"].tolist() == overall["accuracy"].tolist()
    controls = top1[top1["control"] != ""]
    assert set(controls["control"]) == {"shuffled_labels", "random_weights"}
    ranked = whole[(whole["control"] != "") & whole["shuffled"].notna()]
    at_chance = (ranked["low"] <= ranked["shuffled"]) & (ranked["shuffled"] <= ranked["high"])
    assert at_chance.mean() >= 0.9  # 95% intervals
    origins = dict(zip(whole["model"], whole["weights"], strict=True))
    assert origins == {**dict.fromkeys(overall.index, "pretrained"), "dual_encoder": "from scratch"}
    retrieval = pd.read_csv(results / "tables/retrieval.csv").fillna({"control": ""})
    assert set(retrieval["metric"]) == {"r1", "r5", "r10", "similarity"}
    inside = retrieval[(retrieval["control"] != "") & (retrieval["metric"] == "r10")]
    assert (inside["low"] <= inside["chance"] + 0.1).all()
    robustness = pd.read_csv(results / "tables/robustness.csv")
    same = robustness[(robustness["corruption"] == "gaussian_blur") & (robustness["severity"] == 1)]
    clean = robustness[robustness["corruption"] == "clean"]
    assert same["value"].tolist() == clean["value"].tolist()
    assert {"gaussian_noise", "occlusion"} <= set(robustness["corruption"])
    assert {"accuracy", "error", "similarity"} <= set(robustness["metric"])
    entropy = pd.read_csv(results / "tables/attention_entropy.csv")
    assert entropy.loc[entropy["note"].isna(), "value"].between(0, 1).all()
    assert set(entropy["control"].dropna()) == {"random_weights"}
    assert len(pd.read_csv(results / "tables/fairness_gaps.csv"))
    published = pd.read_csv(results / "tables/reproduction.csv")
    assert set(published["run_model"].dropna()) == {"clip", "blip"}
    history = pd.read_csv(results / "checkpoints/dual_encoder/seed0/history.csv")
    assert history["val_recall"].between(0, 1).all()


def test_hateful_memes(tmp_path):
    twins.make(tmp_path / "resources/twins", twins.generated_texts())
    generate(tmp_path / "resources/memes", quads={"train": 40, "val": 8, "test": 10})
    results = run("hateful_memes", tmp_path)
    models = yaml.safe_load((ROOT / "config/test/hateful_memes.yaml").read_text())["models"]
    overall = check(results, models)
    assert overall["n"].eq(40).all()
    # Without the image the answer cannot be known, and equal texts get equal answers.
    assert overall.loc["clip_mlp_text", "auroc"] == overall.loc["bert", "auroc"] == 0.5
    captioned = pd.read_csv(results / "data/samples.csv")["text"]
    plain = pd.read_csv(results / "data/plain/samples.csv")["text"]
    assert (captioned.str.len() > plain.str.len()).all()


def test_architectures(tmp_path):
    results = run("architectures", tmp_path)
    check(results, ["vilt", "blip", "vilbert", "meter", "lxmert"])
    page = (results / "report/index.html").read_text()
    everyone = "vilt, blip, vilbert, meter, lxmert"
    assert f"{everyone}: the convolutional stem was pretrained for 30 steps" in page


def test_vqa_generated(tmp_path):
    results = run("vqa_generated", tmp_path)
    overall = check(results, ["text_only", "vilt_scratch", "blip_scratch"])
    assert overall["n"].eq(80).all()
    audit = pd.read_csv(results / "tables/audit.csv")
    assert (audit["passed"] == "yes").all()
    areas = pd.read_csv(results / "tables/perturbation_auc.csv")
    assert set(areas["score"]) == {"accuracy", "probability", "logit"}
    assert set(areas["subset"]) == {"all", "colour", "shape"}
    # The truth knows the object and the word that names it.
    found = pd.read_csv(results / "tables/localisation.csv")
    assert set(found["modality"]) == {"image", "text"}
    pointing = found[(found["metric"] == "pointing") & (found["subset"] == "all")]
    assert set(pointing["n"]) == {20}
    assert "generated questions about coloured shapes" in (results / "report/report.md").read_text()


def test_zero_shot_generated(tmp_path):
    results = run("zero_shot_generated", tmp_path)
    overall = check(results, ["clip"], explained=False)
    samples = pd.read_csv(results / "data/samples.csv")
    assert overall["n"].tolist() == [(samples["split"] == "test").sum()]
    assert (overall["accuracy_top5"] >= overall["accuracy"]).all()
    page = (results / "report/report.md").read_text()
    assert "generated images of one to three coloured shapes" in page
    assert "clip: the convolutional stem was pretrained for 30 steps" in page
