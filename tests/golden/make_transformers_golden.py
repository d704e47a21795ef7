"""Makes the reference outputs that tests/encoders/transformers/test_format.py compares with.

    pip install torch==2.13.0 timm==1.0.31 torchvision==0.28.0 transformers==5.24.0
    python -m tests.golden.make_transformers_golden            # or with names of CASES

For each case transformers saves a tiny network as it would for the hub; its checkpoint is replaced
by the synthetic one of transformers_weights.py under the same names, read back by transformers'
own loading path, and run in float64 on the two pictures of weights.py. Stored in
transformers/NAME.json: the config and preprocessor files, the names and shapes of the checkpoint,
the features, the side of the pictures, the block means of what transformers' preprocessor on
Pillow makes of a photograph, and the versions.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

from tests.golden import transformers_weights, weights
from tests.golden.timm_import import import_timm

import_timm()  # with it torchvision, which transformers imports, repaired where it needs that
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
HERE = Path(__file__).parent / "transformers"
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
SCALED = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}


def squashed(processor: str, side: int, **changes) -> dict:
    """A preprocessor that resizes both sides."""
    size = {"height": side, "width": side}
    return {
        **({"image_processor_type": processor} if processor else {}),
        **SCALED,
        "resample": 2,
        "size": size,
        **HALF,
    } | changes


def cropped(processor: str, short: int, side: int, **changes) -> dict:
    """A preprocessor that resizes the shorter side and cuts out the center."""
    return {
        "image_processor_type": processor,
        **SCALED,
        "resample": 3,
        "size": {"shortest_edge": short},
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        **IMAGENET,
    } | changes


VIT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "patch_size": 8}
MLP = {"intermediate_size": 43}  # 43 / 24 is no float, and its float times 24 is not 43
TEXT = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "vocab_size": 11,
    "max_position_embeddings": 4,
}
STAGES = {"hidden_sizes": [8, 12, 24], "depths": [1, 2, 1]}
CONVNEXT = {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 32, "crop_pct": 0.875}
CONVNEXT = CONVNEXT | {"do_resize": True, "do_normalize": True, "resample": 3, **IMAGENET}

# name -> (class that saves, its config, preprocessor, side of the pictures)
CASES = {
    "vit": (
        "ViTForImageClassification",
        {**VIT, **MLP, "image_size": 32},
        squashed("ViTImageProcessor", 32),
        32,
    ),
    "vit_pooler": (
        "ViTModel",
        {**VIT, **MLP, "image_size": 32, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-3},
        {"do_normalize": True, "do_resize": True, "size": 32, **HALF},
        32,
    ),
    "dinov2": (
        "Dinov2ForImageClassification",
        {**VIT, "mlp_ratio": 3, "image_size": 56},
        cropped("BitImageProcessor", 44, 40),
        40,
    ),
    "dinov2_swiglu": (
        "Dinov2Model",
        {**VIT, "image_size": 32, "use_swiglu_ffn": True},
        cropped("BitImageProcessor", 36, 32),
        32,
    ),
    "dinov2_with_registers": (
        "Dinov2WithRegistersModel",
        {**VIT, "image_size": 56, "num_register_tokens": 3},
        cropped("BitImageProcessor", 44, 40),
        40,
    ),
    "vit_mae": (
        "ViTMAEForPreTraining",
        {
            **VIT,
            **MLP,
            "image_size": 32,
            "decoder_hidden_size": 16,
            "decoder_num_attention_heads": 2,
            "decoder_num_hidden_layers": 1,
            "decoder_intermediate_size": 16,
        },
        squashed("", 32, feature_extractor_type="ViTFeatureExtractor", **IMAGENET),
        32,
    ),
    "deit": (
        "DeiTForImageClassificationWithTeacher",
        {**VIT, **MLP, "image_size": 32},
        squashed("DeiTImageProcessor", 40, **cropped("DeiTImageProcessor", 40, 32, size=40)),
        32,
    ),
    "vit_msn": (
        "ViTMSNForImageClassification",
        {**VIT, **MLP, "image_size": 32},
        squashed("ViTImageProcessor", 32, **IMAGENET),
        32,
    ),
    "ijepa": (
        "IJepaForImageClassification",
        {**VIT, **MLP, "image_size": 32},
        squashed("ViTImageProcessor", 32),
        32,
    ),
    "data2vec": (
        "Data2VecVisionForImageClassification",
        {**VIT, **MLP, "image_size": 32, "use_relative_position_bias": True},
        squashed("BeitImageProcessor", 32),
        32,
    ),
    "dinov3_vit": (
        "DINOv3ViTModel",
        {**VIT, **MLP, "image_size": 56, "num_register_tokens": 3},
        squashed("DINOv3ViTImageProcessorFast", 40, **IMAGENET),
        40,
    ),
    "dinov3_vit_gated": (
        "DINOv3ViTModel",
        {
            **VIT,
            **MLP,
            "image_size": 32,
            "use_gated_mlp": True,
            "hidden_act": "silu",
            "query_bias": False,
            "key_bias": True,
            "rope_theta": 10.0,
        },
        squashed("DINOv3ViTImageProcessorFast", 32, **IMAGENET),
        32,
    ),
    "dinov3_convnext": (
        "DINOv3ConvNextModel",
        {**STAGES, "layer_norm_eps": 1e-2},
        squashed("DINOv3ViTImageProcessorFast", 32, **IMAGENET),
        32,
    ),
    "clip": (
        "CLIPModel",
        {
            "vision_config": {**VIT, **MLP, "image_size": 32},
            "text_config": TEXT,
            "projection_dim": 6,
        },
        {
            "feature_extractor_type": "CLIPFeatureExtractor",
            "size": 32,
            "crop_size": 32,
            "do_center_crop": True,
            "do_normalize": True,
            "do_resize": True,
            "resample": 3,
            **IMAGENET,
        },
        32,
    ),
    "clip_vision_model": (
        "CLIPVisionModelWithProjection",
        {**VIT, **MLP, "image_size": 32, "hidden_act": "gelu"},
        cropped("CLIPImageProcessor", 32, 32),
        32,
    ),
    "siglip": (
        "SiglipModel",
        {"vision_config": {**VIT, **MLP, "image_size": 32}, "text_config": TEXT},
        squashed("SiglipImageProcessor", 32, resample=3),
        32,
    ),
    "siglip_vision_model": (
        "SiglipVisionModel",
        {**VIT, **MLP, "image_size": 32},
        squashed("SiglipImageProcessor", 32, resample=3),
        32,
    ),
    "beit": (
        "BeitForImageClassification",
        {**VIT, **MLP, "image_size": 32, "use_relative_position_bias": True},
        squashed("BeitImageProcessor", 40, **cropped("BeitImageProcessor", 40, 32, size=40)),
        32,
    ),
    "convnext": ("ConvNextForImageClassification", {**STAGES, "num_stages": 3}, CONVNEXT, 32),
    "convnextv2": (
        "ConvNextV2ForImageClassification",
        {**STAGES, "num_stages": 3, "layer_norm_eps": 1e-2},
        CONVNEXT,
        32,
    ),
    "resnet": (
        "ResNetForImageClassification",
        {**STAGES, "embedding_size": 8},
        CONVNEXT,
        32,
    ),
    "resnet_basic": (
        "ResNetModel",
        {**STAGES, "embedding_size": 8, "layer_type": "basic"},
        CONVNEXT | {"size": {"shortest_edge": 32}},
        32,
    ),
    "regnet": (
        "RegNetForImageClassification",
        {**STAGES, "embedding_size": 8, "groups_width": 4},
        CONVNEXT,
        32,
    ),
    "regnet_x": (
        "RegNetModel",
        {**STAGES, "embedding_size": 8, "groups_width": 4, "layer_type": "x"},
        CONVNEXT,
        32,
    ),
    "swin": (
        "SwinForImageClassification",
        {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "image_size": 32},
        squashed("ViTImageProcessor", 32, **IMAGENET),
        32,
    ),
    "efficientnet": (
        "EfficientNetForImageClassification",
        {
            "width_coefficient": 0.5,
            "depth_coefficient": 0.5,
            "hidden_dim": 640,
            "image_size": 40,
            "depthwise_padding": [3, 7],
        },
        squashed("EfficientNetImageProcessor", 40, resample=0, include_top=True),
        40,
    ),
    "mobilevitv2": (
        "MobileViTV2ForImageClassification",
        {"width_multiplier": 0.5, "image_size": 128},
        {
            "image_processor_type": "MobileViTImageProcessor",
            "size": {"shortest_edge": 144},
            "crop_size": {"height": 128, "width": 128},
            "do_center_crop": True,
            "do_flip_channel_order": True,
            "do_rescale": True,
            "do_resize": True,
            "resample": 2,
            "rescale_factor": 1 / 255,
        },
        128,
    ),
}
# Classes that give what the class of a model type has not, the pooled tokens of Data2Vec.
CLASSES = {
    "clip": "CLIPVisionModel",
    "siglip": "SiglipVisionModel",
    "data2vec-vision": "Data2VecVisionForImageClassification",
}
CLASS_TOKEN = (
    "vit",
    "vit_mae",
    "vit_msn",
    "deit",
)  # model types whose pooler is absent or not part of the features


def features(folder: Path, model_type: str, pictures: np.ndarray) -> np.ndarray:
    """What transformers makes of the pictures in float64."""
    name = CLASSES.get(model_type, "AutoModel")
    options = {"mask_ratio": 0.0} if model_type == "vit_mae" else {}
    model, report = getattr(transformers, name).from_pretrained(
        folder, dtype=torch.float64, output_loading_info=True, **options
    )
    unused = ("pooler.",) if model_type in CLASS_TOKEN else ()
    missing = [key for key in report["missing_keys"] if not key.startswith(unused)]
    if missing or report["mismatched_keys"]:
        raise ValueError(f"{model_type}: transformers did not read {missing} {report}")
    with torch.inference_mode():
        base = model.eval().base_model if model_type.startswith("data2vec") else model.eval()
        output = base(torch.from_numpy(pictures).double().permute(0, 3, 1, 2))
    if model_type in CLASS_TOKEN:
        return output.last_hidden_state[:, 0].numpy()
    if model_type == "ijepa":  # as its classifier pools
        return output.last_hidden_state.mean(1).numpy()
    return output.pooler_output.flatten(1).numpy()


def pixels(folder: Path, preprocessor: dict) -> np.ndarray:
    """Block means of the preprocessed photograph, in order of RGB."""
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    dinov3 = "DINOv3" in preprocessor.get("image_processor_type", "")  # for PyTorch alone
    backend = "torchvision" if dinov3 else "pil"
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend=backend)
    if type(processor).__name__.endswith("Pil") == dinov3:
        raise ValueError(f"{type(processor).__name__} does not resample as it should")
    output = processor(transformers_weights.photograph(), return_tensors="pt")["pixel_values"][0]
    output = output.numpy()
    output = output[::-1] if preprocessor.get("do_flip_channel_order") else output
    return transformers_weights.block_means(output.transpose(1, 2, 0).astype(np.float64))


def make(name: str) -> dict:
    """One golden."""
    kind, options, preprocessor, side = CASES[name]
    network = getattr(transformers, kind)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        network(network.config_class(**options)).save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        checkpoint = folder / "model.safetensors"
        inventory = {key: list(value.shape) for key, value in sorted(load_file(checkpoint).items())}
        save_file(transformers_weights.arrays(inventory), checkpoint, {"format": "pt"})
        # The pictures are what the network takes: BGR where the preprocessor flips the channels.
        pictures = weights.images(side)
        flipped = pictures[..., ::-1] if preprocessor.get("do_flip_channel_order") else pictures
        outputs = features(folder, config["model_type"], np.ascontiguousarray(flipped))
        blocks = pixels(folder, preprocessor)
    first, second = outputs
    contrast = float(np.linalg.norm(first - second) / np.linalg.norm(outputs.mean(0)))
    size = float(np.sqrt(np.mean(outputs**2)))
    print(f"{name:22s} {outputs.shape} contrast {contrast:.3f} size {size:.3g}", flush=True)
    if contrast < 0.05 or not 1e-3 < size < 1e2:
        raise ValueError(f"{name}: contrast {contrast:.3f}, size {size:.3g}; a weak golden")
    return {
        "config": config,
        "preprocessor": preprocessor,
        "inventory": inventory,
        "features": outputs.tolist(),
        "pixels": blocks.round(7).tolist(),
        "side": side,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def write(name: str, golden: dict) -> None:
    (HERE / f"{name}.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


def main(names: list[str]) -> None:
    HERE.mkdir(exist_ok=True)
    for name in names or CASES:
        write(name, make(name))


if __name__ == "__main__":
    main(sys.argv[1:])
