"""Small checkpoints in the formats of the published ones, for the runs of config/test.

    python tests/twins.py FOLDER [TEXTS]

writes to FOLDER what the twins of config/hateful_memes.yaml, vqa_v2.yaml, coco_zero_shot.yaml and
text_models.yaml start from: random weights, and tokenizers that know the words of TEXTS (a file, by
default the words of the generated data). So the real code loads, trains, explains and reports, in
minutes.
"""

import base64
import json
import re
import sys
from pathlib import Path

import numpy as np
import torch
from checkpoints import small_captioner, small_checkpoints
from stock_checkpoints import SMALL, SPECIAL, save_clip, save_siglip, save_vilt
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessor,
    GPT2LMHeadModel,
    LxmertConfig,
    LxmertForQuestionAnswering,
    PreTrainedTokenizerFast,
    ViltForImageAndTextRetrieval,
    ViltForMaskedLM,
    VisualBertConfig,
    VisualBertModel,
)
from unimodal_checkpoints import save_text, save_vit

from mmlens.datasets.generated import TEMPLATES
from mmlens.datasets.shapes import COLOURS, SHAPES
from mmlens.features.lxmert_rows import COLUMNS
from mmlens.models.meter_config import MeterConfig
from mmlens.models.meter_network import MeterNetwork
from mmlens.models.vilbert_config import VilbertConfig
from mmlens.models.vilbert_network import VilbertNetwork

ANSWERS = 3129  # of the published vocabulary
LENGTH = 40  # tokens
REGIONS, FEATURES = 36, 2048
# What the twins' configs give as sizes, since the published files come without a config.
METER = {
    "vocab_size": 500,
    "hidden_size": 16,
    "num_top_layer": 2,
    "num_heads": 2,
    "image_size": 64,
    "text_hidden_size": 16,
    "text_num_hidden_layers": 2,
    "text_num_attention_heads": 2,
    "text_intermediate_size": 32,
    "text_max_position_embeddings": 60,
    "vision_width": 16,
    "vision_layers": 3,
    "vision_heads": 2,
}
VILBERT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 128,
    "v_hidden_size": 16,
    "v_num_hidden_layers": 2,
    "v_num_attention_heads": 2,
    "v_intermediate_size": 32,
    "bi_hidden_size": 16,
    "bi_num_attention_heads": 2,
    "v_biattention_id": [0, 1],
    "t_biattention_id": [0, 1],
}


def words_in(texts):
    """The special words of BERT and all words and marks of texts, in order."""
    found = sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower())})
    return [*SPECIAL, *found]


def generated_texts():
    """Texts with all words of the generated claims."""
    return [*TEMPLATES, " ".join([*COLOURS, *SHAPES])]


def spread(network):
    """Weights that all matter: fresh biases are 0, and fresh heads hardly tell inputs apart."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return network.eval()


def save_bert(folder, words):
    BertTokenizerFast(vocab={word: k for k, word in enumerate(words)}).save_pretrained(folder)


def save_roberta(folder, texts):
    """A byte-level tokenizer of RoBERTa's kind, of at most METER["vocab_size"] tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=METER["vocab_size"], special_tokens=special, initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
    names |= {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=50, **names)
    fast.save_pretrained(folder)


def save_meter(folder):
    """A checkpoint as Lightning writes it, fine-tuned for VQA."""
    network = spread(MeterNetwork(MeterConfig(**METER), ("answers",), answers=ANSWERS))
    folder.mkdir(exist_ok=True)
    content = {"epoch": 9, "global_step": 1, "state_dict": network.state_dict()}
    torch.save(content, folder / "meter_vqa.ckpt")


def save_vilbert(folder, count):
    """A file of Facebook's names with the config beside it, pretrained on captions.

    count : number of words
    """
    sizes = {**VILBERT, "vocab_size": count, "v_feature_size": FEATURES}
    network = spread(VilbertNetwork(VilbertConfig.from_dict(sizes), ("words",)))
    folder.mkdir(exist_ok=True)
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(sizes))


def save_visual_bert(folder, count):
    """A file of MMF's names, pretrained on COCO."""
    sizes = {key: SMALL[key] for key in SMALL if key not in ("image_size", "patch_size")}
    config = VisualBertConfig(vocab_size=count, visual_embedding_dim=FEATURES, **sizes)
    network = spread(VisualBertModel(config))
    names = {"visual_token_type_embeddings": "token_type_embeddings_visual"}
    names |= {"visual_position_embeddings": "position_embeddings_visual"}
    names |= {"visual_projection": "projection"}
    state = {f"model.bert.{name}": tensor for name, tensor in network.state_dict().items()}
    for own, mmf in names.items():
        state = {name.replace(own, mmf): tensor for name, tensor in state.items()}
    folder.mkdir(exist_ok=True)
    torch.save({"model": state}, folder / "model.pth")


def save_lxmert(folder, words):
    sizes = {key: SMALL[key] for key in ("hidden_size", "num_attention_heads", "intermediate_size")}
    layers = {"l_layers": 2, "x_layers": 2, "r_layers": 1}
    config = LxmertConfig(
        vocab_size=len(words), num_qa_labels=ANSWERS, visual_feat_dim=FEATURES, **sizes, **layers
    )
    spread(LxmertForQuestionAnswering(config)).save_pretrained(folder)
    save_bert(folder, words)


def save_blip(folder, words):
    """With both heads, for matching and for comparing."""
    save_bert(folder, words)
    tower = {key: SMALL[key] for key in SMALL if key not in ("image_size", "patch_size")}
    text = {**tower, "vocab_size": len(words), "max_position_embeddings": 128}
    text |= {"encoder_hidden_size": 16, "bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    config = BlipConfig(text_config=text, vision_config=SMALL, image_text_hidden_size=12)
    spread(BlipForImageTextRetrieval(config)).save_pretrained(folder)
    BlipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


def write_regions(path, images):
    """A table in the form of LXMERT's features: random regions of these image files."""
    generator = np.random.default_rng(0)

    def coded(array):
        return base64.b64encode(array.tobytes()).decode()

    with open(path, "w", encoding="ascii", newline="") as file:
        for image in images:
            corners = np.sort(generator.uniform(0, 200, (REGIONS, 2, 2)), axis=1)
            row = {
                "img_id": Path(image).stem,
                "img_h": 200,
                "img_w": 200,
                "objects_id": coded(np.zeros(REGIONS, np.int64)),
                "objects_conf": coded(np.ones(REGIONS, np.float32)),
                "attrs_id": coded(np.zeros(REGIONS, np.int64)),
                "attrs_conf": coded(np.ones(REGIONS, np.float32)),
                "num_boxes": REGIONS,
                "boxes": coded(corners.reshape(REGIONS, 4).astype(np.float32)),
                "features": coded(generator.random((REGIONS, FEATURES), np.float32)),
            }
            file.write("\t".join(str(row[name]) for name in COLUMNS) + "\n")


def make(folder, texts):
    """Write all checkpoints to `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    words = words_in(texts)
    torch.manual_seed(0)
    small_checkpoints(folder)
    small_captioner(folder / "captioner")
    bert = save_text(folder / "bert", "bert", texts=texts, max_position_embeddings=LENGTH)
    for source in ("hub", "facebook"):
        save_vilbert(folder / f"vilbert_{source}", bert.config.vocab_size)
    save_visual_bert(folder / "visual_bert", bert.config.vocab_size)
    save_clip(folder / "clip")
    save_siglip(folder / "siglip", words=words)
    save_blip(folder / "blip", words)
    save_lxmert(folder / "lxmert", words)
    save_text(folder / "gpt2", "gpt2", GPT2LMHeadModel, texts, n_positions=LENGTH)
    save_vit(folder / "vit", num_labels=7)
    sizes = {"max_position_embeddings": LENGTH, "words": words}
    save_vilt(folder / "vilt", ViltForMaskedLM, **sizes)
    save_vilt(folder / "vilt_vqa", labels=ANSWERS, **sizes)
    save_vilt(folder / "vilt_matching", ViltForImageAndTextRetrieval, **sizes)
    save_roberta(folder / "roberta", texts)
    save_meter(folder / "meter")


if __name__ == "__main__":
    given = Path(sys.argv[2]).read_text(encoding="utf-8").splitlines() if sys.argv[2:] else None
    make(sys.argv[1], given or generated_texts())
