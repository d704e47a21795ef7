"""Preprocessing that preprocessor_config.json asks for, and what is refused."""

import numpy as np
import pytest
import transformers

from substrate_jax.data.preprocess import CLIP_STD, IMAGENET_MEAN, preprocess
from substrate_jax.encoders.transformers.format import from_transformers
from substrate_jax.encoders.transformers.preprocessing import PROCESSORS
from tests.golden import transformers_weights

# (model type, preprocessor) -> side, resized, way, filter, mean and std of the first channel
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
PREPROCESSING = {
    "squash": ("vit", {"size": 224, **HALF}, (224, 224, "squash", "bilinear", 0.5, 0.5)),
    "squash by height and width": (
        "siglip",
        {"image_processor_type": "SiglipImageProcessor", "size": {"height": 224, "width": 224}},
        (224, 224, "squash", "bicubic", 0.5, 0.5),
    ),
    "squash and crop": (
        "vit",
        {"feature_extractor_type": "DeiTFeatureExtractor", "size": 256, "crop_size": 224},
        (224, 256, "squash", "bicubic", 0.5, 0.5),
    ),
    "shorter side and crop": (
        "dinov2",
        {
            "image_processor_type": "BitImageProcessorFast",
            "size": {"shortest_edge": 257},
            "crop_size": {"height": 224, "width": 224},
            "image_mean": [0.25] * 3,
        },
        (224, 257, "center", "bicubic", 0.25, CLIP_STD[0]),
    ),
    "share of the crop": (
        "convnext",
        {"size": 224, "crop_pct": 0.95, "resample": 1},
        (224, 235, "center", "lanczos", 0.5, 0.5),
    ),
    "large and squashed": (
        "resnet",
        {"size": {"shortest_edge": 384}, "crop_pct": 0.95},
        (384, 384, "squash", "bicubic", 0.5, 0.5),
    ),
    "not normalized": (
        "resnet",
        {"size": 224, "do_normalize": False},
        (224, 256, "center", "bicubic", 0.0, 1.0),
    ),
    "not scaled": (
        "resnet",
        {"size": 224, "do_rescale": False, "image_mean": [51.0] * 3, "image_std": 51.0},
        (224, 256, "center", "bicubic", 0.2, 0.2),
    ),
    "deviation twice, pixels from -1 to 1": (
        "efficientnet",
        {"size": 224, "rescale_factor": 1 / 127.5, "rescale_offset": True, "resample": 0, **HALF},
        (224, 224, "squash", "nearest", 0.75, 0.125),
    ),
}


@pytest.mark.parametrize("case", PREPROCESSING)
def test_preprocessing_is_that_of_the_file(case):
    model_type, preprocessor, want = PREPROCESSING[case]
    config = {"model_type": model_type}
    if model_type == "efficientnet":
        config |= {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280}
    got = from_transformers(config, preprocessor)[1]
    assert (got.size, got.resized, got.crop_mode, got.interpolation) == want[:4]
    # Folding the scale into mean and deviation rounds a few times.
    np.testing.assert_allclose((got.mean[0], got.std[0]), want[4:], rtol=1e-14, atol=1e-15)


REFUSED = {
    "image_processor_type": ("OwlViTImageProcessor", "give one of ViTImageProcessor, "),
    "do_resize": (False, "give True"),
    "do_pad": (True, "give False"),
    "resample": (4, "give one of 0, 1, 2, 3"),
    "size": ({"height": 224, "width": 448}, "a height and width that are equal"),
    "crop_size": (448, "a square within the resized 224 pixels"),
    "do_center_crop": (False, "leaves no square"),
    "do_flip_channel_order": (True, "resnet takes RGB"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_preprocessing_that_we_do_not_do_is_refused(name):
    value, fix = REFUSED[name]
    kind = "MobileViT" if name == "do_flip_channel_order" else "CLIP"
    preprocessor = {"image_processor_type": f"{kind}ImageProcessor", name: value}
    message = rf"{name}=.* is not supported; .*{fix}"
    with pytest.raises(ValueError, match=message):
        from_transformers({"model_type": "resnet"}, preprocessor)


def test_settings_of_other_processors_change_nothing():
    """Files hold some that were saved along; transformers does not read them."""
    stray = {"include_top": True, "rescale_offset": True, "do_flip_channel_order": True}
    for kind in ("CLIP", "ViT"):
        given = {"image_processor_type": f"{kind}ImageProcessor"}
        want = from_transformers({"model_type": "resnet"}, given)
        assert (
            from_transformers({"model_type": "resnet"}, given | stray | {"crop_pct": 0.5}) == want
        )


def test_the_processor_is_that_of_the_model_type_where_a_file_names_none():
    spec = from_transformers({"model_type": "dinov3_vit"}, {})[1]
    assert (spec.size, spec.interpolation, spec.mean) == (224, "bilinear", IMAGENET_MEAN)
    with pytest.raises(ValueError, match="image_processor_type=None is not supported; give one"):
        from_transformers({"model_type": "dinov2_with_registers"}, {})


# processor -> settings under which it makes squares, of which the crop cuts off an even number
SQUARES = {
    "ViT": [{}, {"size": 32, "resample": 3, "image_mean": [0.1, 0.2, 0.3]}],
    "CLIP": [{}, {"size": 40, "crop_size": {"height": 32, "width": 32}}],
    "Bit": [{}, {"size": {"shortest_edge": 40}, "crop_size": 24, "do_normalize": False}],
    "Siglip": [{}, {"size": {"height": 32, "width": 32}, "resample": 1}],
    "ConvNext": [{}, {"size": 28}, {"size": {"shortest_edge": 30}, "crop_pct": 0.9375}],
    "Beit": [{}, {"size": 40, "crop_size": 32, "do_center_crop": True, "rescale_factor": 1.0}],
    "DeiT": [{}, {"size": 40, "crop_size": 32, "image_std": [1.0, 2.0, 3.0]}],
    "EfficientNet": [{}, {"include_top": False, "rescale_offset": True, "size": 32, "resample": 0}],
    "MobileViT": [{"size": 288}, {"size": 136, "crop_size": 128, "do_rescale": False}],
}


@pytest.mark.parametrize(
    ("name", "given"), [(name, given) for name, cases in SQUARES.items() for given in cases]
)
def test_pixels_are_those_of_transformers_processors(name, given):
    processor = {"image_processor_type": f"{name}ImageProcessor"} | given
    model_type = "mobilevitv2" if name == "MobileViT" else "resnet"
    ours = from_transformers({"model_type": model_type}, processor)[1]
    photograph = transformers_weights.photograph()
    got = preprocess([photograph], ours)[0]
    make = getattr(transformers, f"{name}ImageProcessorPil")
    want = make(**given)(photograph, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    want = want[..., ::-1] if name == "MobileViT" else want
    # Both resample with Pillow to the same levels. Then each of ten operations may round in
    # float32, the largest of them on 255 over the least deviation.
    largest = max(1 / min(ours.std), np.abs(ours.mean).max() / min(ours.std), 1)
    atol = 10 * np.finfo(np.float32).eps * largest
    np.testing.assert_allclose(got, want, rtol=0, atol=atol)


def test_every_processor_is_compared():
    """DINOv3's needs PyTorch, and is compared by a golden."""
    assert {*SQUARES, "DINOv3ViT"} == set(PROCESSORS)
