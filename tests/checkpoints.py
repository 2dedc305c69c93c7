"""Small checkpoints with random weights, made by the tests in the formats of the real ones."""

import json

import torch
from safetensors.torch import save_file
from torchvision.models import resnet152
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn
from transformers import (
    BertTokenizerFast,
    BitImageProcessor,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from mmlens.features.vg_network import VGConfig, VGDetector


def small_checkpoints(folder):
    """{extractor: arguments}: networks with random weights, in the formats of the real ones."""
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    small |= {"intermediate_size": 32, "image_size": 32, "patch_size": 8}
    clip = CLIPVisionModelWithProjection(CLIPVisionConfig(**small, projection_dim=12))
    crop = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    save(folder / "clip", clip, CLIPImageProcessor(**crop))
    dino = Dinov2Model(Dinov2Config(**small, mlp_ratio=2))
    crop = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    save(folder / "dinov2", dino, BitImageProcessor(**crop, do_center_crop=True))
    siglip = SiglipVisionModel(SiglipVisionConfig(**small))
    stretch = {"height": 32, "width": 32}
    save(folder / "siglip2", siglip, SiglipImageProcessor(size=stretch, resample=2))
    network = resnet152()
    for name, parameter in network.named_parameters():
        if name.endswith("bn3.weight"):  # else 50 random blocks grow beyond float16
            torch.nn.init.constant_(parameter, 0.1)
    torch.save(network.state_dict(), folder / "resnet.pth")
    network = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    save_file(network.state_dict(), folder / "fasterrcnn.safetensors")
    torch.manual_seed(0)
    sizes = {"num_classes": 5, "bottleneck_blocks": [1, 1, 1, 1], "bottleneck_planes": [2, 2, 4, 4]}
    sizes |= {"stem_channels": 4, "rpn_channels": 8, "test_scale": 64, "test_max_size": 100}
    sizes |= {"rpn_pre_nms_top_n": 200, "rpn_post_nms_top_n": 40}
    (folder / "vg").mkdir()
    (folder / "vg/config.json").write_text(json.dumps(sizes))
    detector = VGDetector(VGConfig.from_dict(sizes))
    torch.save({"model": detector.state_dict()}, folder / "vg/faster_rcnn_vg.pth")
    return {
        "fasterrcnn_vg": {"weights": str(folder / "vg/faster_rcnn_vg.pth")},
        "clip": {"weights": str(folder / "clip")},
        "dinov2": {"weights": str(folder / "dinov2")},
        "siglip2": {"weights": str(folder / "siglip2")},
        "resnet": {"weights": str(folder / "resnet.pth")},
        "fasterrcnn": {
            "weights": str(folder / "fasterrcnn.safetensors"),
            "architecture": "fasterrcnn_mobilenet_v3_large_320_fpn",
            "threshold": 0.0,
        },
    }


def save(folder, model, processor):
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def small_captioner(folder):
    """Path of a BLIP captioner with random weights, which names the words of its vocabulary."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]
    words += ["a", "cat", "dog", "red", "two", "big", "house", "runs", "blue"]
    folder.mkdir(parents=True)
    torch.manual_seed(3)
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    small |= {"intermediate_size": 32}
    tokens = {"bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    text = {**small, **tokens, "vocab_size": len(words), "encoder_hidden_size": 16}
    vision = {**small, "image_size": 32, "patch_size": 8}
    model = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision))
    with torch.no_grad():
        for parameter in model.parameters():  # fresh weights hardly differ between images
            parameter += 0.3 * torch.randn_like(parameter)
        model.text_decoder.cls.predictions.bias[:7] = -10
    model.save_pretrained(folder)
    tokenizer = BertTokenizerFast(vocab={word: k for k, word in enumerate(words)})
    image_processor = BlipImageProcessor(size={"height": 32, "width": 32})
    BlipProcessor(image_processor, tokenizer).save_pretrained(folder)
    return folder
