"""Explain what a language model writes after a text, or what a classifier says of it.

The model is an unmodified AutoModelForCausalLM or AutoModelForSequenceClassification; no run is
needed.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from mmlens.explanation.causal import (
    classification_saliency,
    generation_attention,
    generation_saliency,
    saliency_matrix,
    token_attention,
)
from mmlens.figures.style import save
from mmlens.figures.token_bars import token_bars
from mmlens.figures.token_heatmap import token_heatmap


def options_of_command():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--model", required=True, help="folder of save_pretrained, with its tokenizer")
    add("--text", required=True, help="prompt of a generator, text of a classifier")
    add("--max-new-tokens", type=int, default=20, help="most tokens that a generator writes")
    add("--by", choices=["token", "loss"], default="token", help="what is explained of a generator")
    add("--target", type=int, help="number of the class; by default what the classifier says")
    add("--device", default="cpu")
    add("--output", default="text", type=Path, help="folder to write to, by default text")
    return parser.parse_args()


def explained(options):
    """Saliency table, attention (A, layers, heads, T), the A tokens that ask, and the T they read.

    Of a generator the A tokens are those that it wrote, of a classifier all of the text.
    """
    (name,) = AutoConfig.from_pretrained(options.model).architectures or ["unknown"]
    classifies = name.endswith("ForSequenceClassification")
    if not classifies and not name.endswith(("ForCausalLM", "LMHeadModel")):
        raise ValueError(
            f"{options.model}: found weights of {name}, expected those of a model with a head: "
            "...ForCausalLM, ...LMHeadModel or ...ForSequenceClassification"
        )
    kind = AutoModelForSequenceClassification if classifies else AutoModelForCausalLM
    # Small gradients would be 0 in half precision.
    model, found = kind.from_pretrained(options.model, dtype="float32", output_loading_info=True)
    if fresh := {*found["missing_keys"], *found["mismatched_keys"]}:
        raise ValueError(f"{options.model}: lacks {', '.join(sorted(map(str, fresh)))}")
    model = model.to(options.device).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    if classifies:
        saliency = classification_saliency(model, tokenizer, options.text, options.target)
        attention, tokens = token_attention(model, tokenizer, options.text)
        return saliency, attention.transpose(2, 0, 1, 3), tokens, tokens
    new = options.max_new_tokens
    saliency = generation_saliency(model, tokenizer, options.text, new, options.by)
    attention, made = generation_attention(model, tokenizer, options.text, new)
    return saliency, attention, made.written, made.tokens


def drawn(saliency):
    """Bars of one step, or a heatmap of several."""
    values, written, prompt = saliency_matrix(saliency)
    if len(values) == 1:
        return token_bars(prompt, values[0], f"saliency for {written[0]!r}")
    labels = ("written", "prompt")
    return token_heatmap(values, written, prompt, "saliency", labels, "share of saliency")


def main():
    options = options_of_command()
    try:
        saliency, attention, asking, tokens = explained(options)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    folder = options.output
    folder.mkdir(parents=True, exist_ok=True)
    saliency.to_csv(folder / "saliency.csv", index=False)
    np.savez(folder / "attention.npz", attention=attention, asking=asking, tokens=tokens)
    save(drawn(saliency), folder / "saliency.svg", folder / "saliency.png")
    if len(asking):
        title = "attention, mean over layers and heads"
        figure = token_heatmap(attention.mean((1, 2)), asking, tokens, title)
        save(figure, folder / "attention.svg", folder / "attention.png")
    print(f"written to {folder}")


main()
