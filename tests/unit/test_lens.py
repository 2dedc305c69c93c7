"""Logit lens: the model's own end on the states after its layers, and where decisions are made."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from stock_checkpoints import save_clip
from stock_samples import read_stock
from test_explanation import COUNT, NAMES, WORDS_PER_TEXT, close, make_batch, make_model

from mmlens.diagnostics.depth import decision_depth
from mmlens.diagnostics.lens import divergence, layer_modules, logit_lens, why_not
from mmlens.explanation.capture import recorded
from mmlens.models.image import Image

# Readouts that do not apply, and why: of modalities that are not read, by the model or its end.
TEXT_ENDS = ("blip_scratch", "blip_frozen", "blip", "lxmert")
ALONE = {"text_only": "image", "text": "image", "text_gpt2": "image", "image_only": "text"}


@torch.no_grad()
def looked_into(model, batch=None):
    """tokens, outputs of the layers and logits of one pass."""
    tokens = model.embed(batch or make_batch(frozen=model.frozen))
    with recorded(layer_modules(model)) as calls:
        logits = model(tokens)
    return tokens, {module: found[0] for module, found in calls.items()}, logits


@torch.no_grad()
def lens_of(model, readout="own", batch=None):
    tokens, outputs, _ = looked_into(model, batch)
    return logit_lens(model, tokens, outputs, readout)


@pytest.mark.parametrize("name", NAMES)
def test_the_last_layer_says_what_the_model_says(name):
    model = make_model(name)
    tokens, outputs, logits = looked_into(model)
    with torch.no_grad():
        lens = logit_lens(model, tokens, outputs)
        close(lens[-1], logits, 1e-5, 1e-5)
        assert (lens[0] - logits).abs().min() > 1e-4
        assert torch.equal(model(tokens), logits)  # nothing is left in its place
    assert not any("forward" in vars(module) for module in model.modules())
    layout = model.layout(tokens)
    for modality in ("text", "image"):
        applies = modality != ALONE.get(name) and not (modality == "image" and name in TEXT_ENDS)
        assert (why_not(model, layout, modality) == "") == applies
        if applies:
            with torch.no_grad():
                found = logit_lens(model, tokens, outputs, modality)
            exists = layout.content[modality].any(1)
            assert torch.equal(found.isfinite().all(0), exists)
        else:
            with pytest.raises(ValueError, match=f"{model.name}, readout {modality}: the "):
                logit_lens(model, tokens, outputs, modality)


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_says_the_same_alone_and_behind_padding(name):
    model = make_model(name)
    layout = model.layout(looked_into(model)[0])
    for readout in ("own", "text", "image", "text:1", "image:-1"):
        if not why_not(model, layout, readout):
            whole = lens_of(model, readout)
            for k in (0, 2, 4):
                alone = lens_of(model, readout, make_batch([k], 11, model.frozen))
                torch.testing.assert_close(
                    alone[:, 0], whole[:, k], rtol=1e-5, atol=1e-5, equal_nan=True
                )


def test_layers_of_one_stream_are_read_by_the_final_norm_and_the_head():
    model = make_model("vilt_scratch")
    tokens, outputs, _ = looked_into(model)
    with torch.no_grad():
        states = torch.stack([outputs[block] for block in model.blocks])
        ends = model.head(model.final_norm(states))[..., 0]
        close(logit_lens(model, tokens, outputs), ends[:, :, 0])
        words = tokens["text"].values.shape[1]
        close(logit_lens(model, tokens, outputs, "image:2"), ends[:, :, words + 1 + 2])
        mean = model.head(model.final_norm(states[:, 0, 1 : 1 + WORDS_PER_TEXT[0]].mean(1)))
        close(logit_lens(model, tokens, outputs, "text")[:, 0], mean[:, 0])
        last = logit_lens(model, tokens, outputs, "text:-1")[:, 4]
        close(last, ends[:, 4, WORDS_PER_TEXT[4]])
        assert logit_lens(model, tokens, outputs, "text:3")[:, 1].isnan().all()  # has one word


def test_bert_is_read_by_its_pooler_and_gpt2_by_its_norm_at_the_last_word():
    bert, gpt2 = make_model("text"), make_model("text_gpt2")
    batch = make_batch()
    with torch.no_grad():
        told = {"attention_mask": batch.text_valid, "output_hidden_states": True}
        states = bert.network(batch.input_ids, **told).hidden_states[1:]
        scores = [bert.network.classifier(bert.network.bert.pooler(state)) for state in states]
        expected = torch.stack([score[:, 1] - score[:, 0] for score in scores])
        close(lens_of(bert), expected, 1e-6, 1e-6)
        states = gpt2.network(batch.input_ids, **told).hidden_states[1:]
        norm = gpt2.network.transformer.ln_f
        states = [*map(norm, states[:-1]), states[-1]]  # the last has been normalised
        rows = torch.arange(COUNT)
        last = torch.tensor(WORDS_PER_TEXT) + 1
        scores = [gpt2.network.score(state[rows, last]) for state in states]
        expected = torch.stack([score[:, 1] - score[:, 0] for score in scores])
        close(lens_of(gpt2), expected, 1e-6, 1e-6)


def test_the_text_of_clip_is_read_at_its_end():
    model = make_model("clip")
    _, outputs, _ = looked_into(model)
    network, rows = model.network, torch.arange(COUNT)
    last = torch.tensor(WORDS_PER_TEXT) + 1
    expected = []
    with torch.no_grad():
        layers = zip(network.text_model.encoder.layers, network.vision_model.encoder.layers,
                     strict=True)  # fmt: skip
        for text, image in layers:
            words = outputs[text][0] if isinstance(outputs[text], tuple) else outputs[text]
            seen = outputs[image][0] if isinstance(outputs[image], tuple) else outputs[image]
            words = network.text_projection(network.text_model.final_layer_norm(words)[rows, last])
            seen = network.visual_projection(network.vision_model.post_layernorm(seen[:, 0]))
            expected.append(model.classifier(torch.cat([words, seen, words * seen], -1))[:, 0])
    found = lens_of(model)
    close(found, torch.stack(expected), 1e-6, 1e-6)
    # At its beginning every text is the same to a causal tower.
    assert found.std(1).min() > 1e-3


def test_layers_of_a_tower_of_meter_pass_what_leads_to_the_cross_modal_ones():
    model = make_model("meter")
    _, outputs, _ = looked_into(model)
    network = model.network
    with torch.no_grad():
        text, block = network.text_layers[0], network.visual.transformer["resblocks"][0]
        words = network.cross_modal_text_transform(outputs[text])
        seen = network.cross_modal_image_transform(network.visual.ln_post(outputs[block]))
        kinds = network.token_type_embeddings.weight
        scores = network.classifier(network.fuse(words + kinds[0], seen + kinds[1]))
        close(lens_of(model)[0], scores[:, 1] - scores[:, 0])


@pytest.mark.parametrize("reads", ["text", "image", "both"])
def test_a_frozen_encoder_is_read_through_its_head(reads, tmp_path):
    save_clip(tmp_path)
    model, data = read_stock("clip_mlp", tmp_path, ["a bc", "d", "e f g"], reads=reads)
    tokens, outputs, logits = looked_into(model, data.batch(torch.arange(3)))
    with torch.no_grad():
        lens = logit_lens(model, tokens, outputs)
    assert lens.shape == (2, 3)
    close(lens[-1], logits, 1e-5, 1e-5)
    assert (lens[0] - logits).abs().min() > 1e-4
    assert model.causal_streams == ("text",)


def test_vit_is_read_at_its_class_token():
    model = Image(1, 1, width=8, heads=2, image_size=48).double().eval()
    tokens, outputs, _ = looked_into(model)
    with torch.no_grad():
        network = model.network
        states = [outputs[layer] for layer in network.vit.layers]
        states = [state[0] if isinstance(state, tuple) else state for state in states]
        scores = [network.classifier(network.vit.layernorm(state)[:, 0]) for state in states]
        expected = torch.stack([score[:, 1] - score[:, 0] for score in scores])
        close(logit_lens(model, tokens, outputs), expected, 1e-6, 1e-6)


def test_a_network_without_attention_has_no_lens():
    model = Image(1, 1, width=8, image_size=40, architecture="resnet").eval()
    batch = make_batch()
    tokens = model.embed(replace(batch, image=batch.image[:, :, :40, :40].float()))
    assert why_not(model, model.layout(tokens), "own").startswith("the model has no layers with")


def test_the_decision_depth_is_the_layer_from_which_on_nothing_changes():
    agrees = np.array([[1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 0, 0]], bool)
    np.testing.assert_array_equal(decision_depth(agrees), [1, 2, 3, np.nan, np.nan])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_decision_that_is_planted_in_a_layer_is_found_there(depth):
    """Every layer but one passes on what it gets; that one writes the answer."""
    model = make_model("vilt_scratch")
    with torch.no_grad():
        for number, block in enumerate(model.blocks, 1):
            for linear in (block.attention.output, block.feed[-1]):
                linear.weight.zero_()
                linear.bias.zero_()
            if number == depth:
                block.feed[-1].bias.copy_(100 * model.head.weight[0])
        model.final_norm.weight.fill_(1)
        model.final_norm.bias.zero_()
        model.head.weight.sub_(model.head.weight.mean())
        for norm in model.norms.values():  # before it, the answer is no
            norm.weight.zero_()
            norm.bias.copy_(-model.head.weight[0])
    lens = lens_of(model)
    assert (lens[-1] > 0).all()
    agrees = ((lens > 0) == (lens[-1] > 0)).T.numpy()
    np.testing.assert_array_equal(decision_depth(agrees), [depth] * COUNT)


def test_divergence_is_that_of_the_probabilities():
    final, layers = torch.tensor([0.0, 2.0]), torch.tensor([[0.0, -1.0], [1.0, 2.0]])
    p, q = final.sigmoid(), layers.sigmoid()
    expected = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    torch.testing.assert_close(divergence(final, layers).float(), expected)
    scores = torch.stack([torch.zeros(2), final], -1)
    two = torch.stack([torch.zeros(2, 2), layers], -1)
    torch.testing.assert_close(divergence(scores, two).float(), expected)


def test_siglips_pooling_reads_a_chosen_patch_as_if_it_were_all_patches():
    model = make_model("siglip")
    tokens, outputs, _ = looked_into(model)
    tower = model.network.vision_model
    with torch.no_grad():
        states = outputs[tower.encoder.layers[0]]
        states = states[0] if isinstance(states, tuple) else states
        patch = tower.post_layernorm(states[:, 4:5])
        hidden = model.encode(tokens)
        hidden["pooling"] = model.pool(patch, torch.ones(COUNT, 1, dtype=torch.bool))
        found = logit_lens(model, tokens, outputs, "image:4")
        close(found[0], model.classify(hidden), 1e-6, 1e-6)
