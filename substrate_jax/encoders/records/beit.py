"""BEiT and BEiT V2, fine-tuned on labels.

The name alone is timm's default tag, fine-tuned on ImageNet-22k and then on ImageNet-1k; others
end with the one set they were fine-tuned on. V1 was pretrained on 22k, V2 on 1k.
"""

from substrate_jax.encoders.networks.beit import BEiTConfig
from substrate_jax.encoders.records.timm import register_timm

# width, depth, heads
_SIZES = {"base": (768, 12, 12), "large": (1024, 24, 16)}
_SUFFIXES = {"in22k_in1k": "", "in22k": "_in22k", "in1k": "_in1k"}
# size, pixels, sets of fine-tuning
for _size, _pixels, _tags in (
    ("base", 224, ("in22k_in1k", "in22k")),
    ("base", 384, ("in22k_in1k",)),
    ("large", 224, ("in22k_in1k", "in22k")),
    ("large", 384, ("in22k_in1k",)),
    ("large", 512, ("in22k_in1k",)),
):
    for _tag in _tags:
        register_timm(
            f"beit_{_size}" + ("" if _pixels == 224 else f"_{_pixels}") + _SUFFIXES[_tag],
            f"beit_{_size}_patch16_{_pixels}.in22k_ft_{_tag}",
            BEiTConfig(
                *_SIZES[_size],
                image_size=_pixels,
                layer_scale=0.1 if _size == "base" else 1e-5,
                num_classes=21841 if _tag == "in22k" else 1000,
            ),
            crop_fraction=0.9 if _pixels == 224 else 1.0,
            normalization="inception",
            paper="2106.08254",
        )
for _size in ("base", "large"):
    for _tag in ("in22k_in1k", "in1k", "in22k"):
        register_timm(
            f"beitv2_{_size}{_SUFFIXES[_tag]}",
            f"beitv2_{_size}_patch16_224.in1k_ft_{_tag}",
            BEiTConfig(*_SIZES[_size], num_classes=21841 if _tag == "in22k" else 1000),
            crop_fraction=0.95 if _size == "large" and _tag != "in22k" else 0.9,
            paper="2208.06366",
        )
