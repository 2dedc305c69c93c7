"""Saliency and attention of stock language models: classifiers of texts, and generators.

The models are unmodified classes of transformers, `AutoModelForSequenceClassification` and
`AutoModelForCausalLM`, with their tokenizers; no run is needed. Texts are explained one by one, so
there is no padding. Tokens are pieces of the tokenizer, special ones among them, whose saliency
is 0.
"""

from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd
import torch


@dataclass(frozen=True)
class Generation:
    """What a model was given and what it wrote.

    tokens : P + G strings, the first `prompt` = P of which it was given
    ids : long (P + G,); special : bool (P,), True for special tokens of the prompt
    """

    tokens: list
    prompt: int
    ids: torch.Tensor
    special: torch.Tensor

    @property
    def written(self):
        """The G tokens that the model wrote."""
        return self.tokens[self.prompt :]


def generate(model, tokenizer, prompt, max_new_tokens):
    """Greedy decoding: the most probable token, again and again; a `Generation`.

    It ends at `max_new_tokens` or with the token that ends a text, which is among those written.
    What the model's generation_config says of penalties and sampling is not applied.

    Raises
    ------
    ValueError for an empty prompt, for a model in training mode, and where prompt and new tokens
    are more than the model has places for.
    """
    ids, special = encoded(model, tokenizer, prompt)
    places = getattr(model.config, "max_position_embeddings", None)
    if places is not None and ids.shape[1] + max_new_tokens > places:
        raise ValueError(
            f"prompt: found {ids.shape[1]} tokens and max_new_tokens {max_new_tokens}, expected at "
            f"most {places} together, the places of the model; shorten one of them"
        )
    problem = (
        f"{type(model).__name__} does not generate: it reads texts in both directions; expected an "
        "AutoModelForCausalLM"
    )
    if not model.can_generate():
        raise ValueError(problem)
    ends = getattr(model.generation_config, "eos_token_id", None)
    ends = set(ends) if isinstance(ends, list) else {ends}
    written, given, past = ids, ids, None
    with torch.no_grad():
        for _ in range(max_new_tokens):
            out = model(input_ids=given, past_key_values=past, use_cache=True)
            if out.get("past_key_values") is None:
                raise ValueError(problem)
            given, past = out.logits[:, -1:].argmax(-1), out.past_key_values
            written = torch.cat([written, given], 1)
            if int(given) in ends:
                break
    return Generation(spelled(tokenizer, written[0]), ids.shape[1], written[0], special)


def generation_saliency(model, tokenizer, prompt, max_new_tokens, by="token"):
    """Saliency of every token of a prompt for what the model writes after it.

    The L2 norm of the gradient at the embedding of a prompt token (Simonyan et al. 2014; Li et al.
    2016 for texts), divided by its sum over the prompt, so that it is 1.

    Parameters
    ----------
    model, tokenizer : of an `AutoModelForCausalLM`, in eval mode
    prompt : str
    max_new_tokens : most tokens to write, greedily; with `by="loss"` 0 is allowed
    by : "token", the logit of each written token: one backward pass for each of them, of one
        forward pass; "loss", the mean cross-entropy of all of them, or, where none are written, of
        the prompt's own tokens after its first

    Returns
    -------
    DataFrame, one row per step and prompt token (G P rows, with "loss" P): step (from 0),
    generated (the token written in this step; with "loss" all of them), position (in the prompt),
    token, saliency. `saliency_matrix` gives it as an array (G, P).

    Raises
    ------
    ValueError as `generate`, for an unknown `by`, and where there is nothing to explain.
    """
    if by not in ("token", "loss"):
        raise ValueError(f"by: found {by!r}, expected token or loss")
    made = generate(model, tokenizer, prompt, max_new_tokens)
    if not made.written and (by == "token" or made.prompt < 2):
        raise ValueError("nothing to explain: no token was written; raise max_new_tokens")
    with torch.enable_grad(), embedded(model) as inputs:
        logits = model(input_ids=made.ids[None], use_cache=False).logits[0]
        first = made.prompt if made.written else 1
        said, predicted = made.ids[first:], logits[first - 1 : -1]
        if by == "token":
            scores = predicted.gather(1, said[:, None])[:, 0]
            names = made.written
        else:
            scores = torch.nn.functional.cross_entropy(predicted, said)[None]
            names = ["".join(made.written)]
        gradients = [
            torch.autograd.grad(score, inputs[0], retain_graph=True)[0][0] for score in scores
        ]
    norms = torch.stack([gradient[: made.prompt].norm(dim=-1) for gradient in gradients])
    return records(shares(norms, made.special), made.tokens[: made.prompt], names)


def generation_attention(model, tokenizer, prompt, max_new_tokens):
    """Attention of every decoding step, in one forward pass: a written token changes none before.

    Returns
    -------
    (array (G, L, H, P + G), Generation) : what the query that wrote token g reads, per layer and
    head; NaN at tokens that were not there yet
    """
    made = generate(model, tokenizer, prompt, max_new_tokens)
    maps = attention_maps(model, made.ids[None])
    steps = [maps[:, :, position] for position in range(made.prompt - 1, maps.shape[2] - 1)]
    found = torch.stack(steps) if steps else maps.new_zeros(0, *maps.shape[:2], maps.shape[3])
    for step in range(len(found)):
        found[step, ..., made.prompt + step :] = torch.nan
    return found.cpu().numpy(), made


def classification_saliency(model, tokenizer, text, target=None):
    """Saliency of every token of a text for the logit of one class, as in `generation_saliency`.

    model, tokenizer : of an `AutoModelForSequenceClassification`, in eval mode
    target : number of the class; by default the predicted one

    Returns
    -------
    DataFrame, one row per token: step (0), generated (name of the class), position, token, saliency

    Raises
    ------
    ValueError as `generate`, and for a class that the model has not.
    """
    ids, special = encoded(model, tokenizer, text)
    with torch.enable_grad(), embedded(model) as inputs:
        logits = model(input_ids=ids).logits[0]
        target = int(logits.argmax()) if target is None else target
        if not 0 <= target < len(logits):
            raise ValueError(f"target: found {target}, expected 0 to {len(logits) - 1}")
        (gradient,) = torch.autograd.grad(logits[target], inputs[0])
    name = model.config.id2label[target]
    return records(
        shares(gradient[0].norm(dim=-1)[None], special), spelled(tokenizer, ids[0]), [name]
    )


def token_attention(model, tokenizer, text):
    """Attention of every token of a text on every other, of a classifier or a generator.

    Returns
    -------
    (array (L, H, T, T) of query and key, list of T tokens)
    """
    ids, _ = encoded(model, tokenizer, text)
    return attention_maps(model, ids).cpu().numpy(), spelled(tokenizer, ids[0])


def saliency_matrix(saliency):
    """(array (G, P), names of the G steps, P tokens) of what `generation_saliency` returns."""
    first = saliency[saliency["step"] == 0]
    values = saliency["saliency"].to_numpy().reshape(-1, len(first))
    return values, saliency["generated"].iloc[:: len(first)].tolist(), first["token"].tolist()


def encoded(model, tokenizer, text):
    """Ids (1, T) of a text with its special tokens, and which tokens are special: bool (T,)."""
    if model.training:
        raise ValueError("the model is in training mode; call model.eval() first")
    found = tokenizer(text, return_special_tokens_mask=True)
    if not found["input_ids"]:
        raise ValueError("the text has no tokens; expected at least one")
    ids = torch.tensor([found["input_ids"]], device=model.device)
    return ids, torch.tensor(found["special_tokens_mask"], device=model.device).bool()


def spelled(tokenizer, ids):
    """Every token as text; a character of several byte tokens shows as replacements."""
    return [tokenizer.decode([number]) for number in ids.tolist()]


def shares(norms, special):
    """Norms (S, T) as shares of their sum over all but special tokens, bool (T,), which get 0.

    Zeros where all are zero: nothing depends on the text then.
    """
    norms = norms.double().masked_fill(special, 0)
    total = norms.sum(1, keepdim=True)
    return (norms / torch.where(total > 0, total, 1)).cpu().numpy()


def records(values, tokens, names):
    """DataFrame of shares (S, T): step, generated, position, token, saliency."""
    rows = [
        (step, name, position, token, value)
        for step, (name, own) in enumerate(zip(names, values, strict=True))
        for position, (token, value) in enumerate(zip(tokens, own, strict=True))
    ]
    return pd.DataFrame(rows, columns=["step", "generated", "position", "token", "saliency"])


@torch.no_grad()
def attention_maps(model, ids):
    """All maps (L, H, T, T) of one text, with attention written out for this pass alone.

    Raises
    ------
    RuntimeError if the model gives other maps than one per layer.
    """
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        maps = model(input_ids=ids, output_attentions=True).attentions
    finally:
        model.set_attn_implementation(before)
    found = [None if part is None else tuple(part.shape) for part in maps or ()]
    if len(found) != model.config.num_hidden_layers or None in found:
        raise RuntimeError(
            f"attention of {type(model).__name__}: found {found}, expected "
            f"{model.config.num_hidden_layers} maps (1, heads, tokens, tokens)"
        )
    maps = torch.cat(maps)
    return maps.to(torch.promote_types(maps.dtype, torch.float32))  # numpy has no bfloat16


@contextmanager
def embedded(model):
    """Yield a list that gets the embeddings (1, T, D) of each forward pass, with a gradient.

    The parameters get none, and the hook goes away in every case.
    """
    found = []

    def keep(_module, _inputs, output):
        found.append(output.detach().requires_grad_())
        return found[-1]

    handle = model.get_input_embeddings().register_forward_hook(keep)
    try:
        yield found
    finally:
        handle.remove()
