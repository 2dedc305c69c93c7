"""Explain what a model says of one image and text; no data set is needed."""

import sys

if "snakemake" in globals():
    sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import argparse
import json
from pathlib import Path

from mmlens.table import read_samples


def layer(text):
    """(modality, module path) of one value of --target-layer."""
    modality, _, path = text.partition("=")
    if modality not in ("image", "text") or not path:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, expected image=PATH or text=PATH; PATH is that of a module, such as "
            "image=network.resnet.encoder.stages.0"
        )
    return modality, path


def from_command_line():
    """Options of `explain_case`, and the folder to write to."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--model", required=True, help="folder: exported, of a run's checkpoint, save_pretrained")
    add("--architecture", help="name of the model in the registry, for a folder of save_pretrained")
    add("--model-arguments", type=json.loads, help='as JSON: {"head": "similarity"}')
    add("--image", help="path of an image file")
    add("--features", help=".npz of features (R, D), boxes (R, 4), valid (R,), for regions")
    add("--text")
    add("--method", nargs="+", default=["relevance"], help="one name of the registry, or several")
    add("--arguments", type=json.loads, help='of methods, as JSON: {"raw_attention": {"layer": 0}}')
    add("--target", help="class to explain; by default what the model says")
    add("--target-layer", nargs="+", type=layer, metavar="MODALITY=PATH", help="for Grad-CAM")
    add("--device", choices=["auto", "cpu", "cuda"], default="cpu")
    add("--output", default="case", help="folder to write to, by default case")
    options = vars(parser.parse_args())
    options["target_layer"] = dict(options["target_layer"] or [])
    return options, options.pop("output")


def from_workflow():
    """The same of one of the cases of a run."""
    params, inputs = snakemake.params, snakemake.input
    case = params.case
    options = {"sample_id": case.get("sample_id", "0")}
    given = {key: case[key] for key in ("image", "text") if key in case}
    if "sample_id" in case:
        rows = read_samples(inputs.samples).set_index("sample_id")
        if case["sample_id"] not in rows.index:
            sys.exit(f"cases.{case['name']}.sample_id: {case['sample_id']!r} is not in the run")
        given = rows.loc[case["sample_id"], ["image", "text"]].to_dict()
    options |= {"model": Path(inputs.weights).parent, "method": case["methods"], **given}
    options |= {"target": case.get("target"), "arguments": params.explain["arguments"]}
    layers = params.explain["grad_cam_layers"].get(case["model"])
    return options | {"target_layer": layers}, Path(snakemake.output.case).parent


def main():
    in_workflow = "snakemake" in globals()
    options, folder = from_workflow() if in_workflow else from_command_line()
    from mmlens.cases import explain_case
    from mmlens.device import torch_device
    from mmlens.training.loaded import read_features

    setting, threads = options.pop("device", None), 1
    if in_workflow:
        setting, threads = snakemake.params.device, snakemake.params.torch_threads
    try:
        if options.get("features") is not None:
            options["features"] = read_features(options["features"])
        with torch_device(setting, threads) as device:
            case = explain_case(**options, device=device)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    case.write(folder)
    said = {key: case.to_dict()[key] for key in ("prediction", "target", "logit", "probability")}
    print(json.dumps({**said, "not_applicable": case.not_applicable}, indent=1))
    print(f"written to {folder}")


main()
