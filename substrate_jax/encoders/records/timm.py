"""What the records of timm's checkpoints share: preprocessing by name, and the paper's panel."""

from substrate_jax.data.preprocess import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    INCEPTION_MEAN,
    INCEPTION_STD,
    Preprocess,
)
from substrate_jax.encoders.networks.network import ImageConfig
from substrate_jax.encoders.registry import EncoderSpec, Paradigm, register_encoder

# Members of the panel of arXiv:2606.07882, and those of its five-encoder panel across domains.
PAPER = {
    "resnet50",
    "resnet101",
    "regnety_032",
    "efficientnet_b0",
    "convnext_base",
    "vit_base",
    "vit_large",
    "swin_tiny",
    "mobilevitv2_175",
    "maxvit_base",
    "beitv2_base",
    "dinov2_base",
    "mae_base",
    "fcmae_base",
    "clip_base",
}
SHARED = {"resnet50", "convnext_base", "vit_base", "dinov2_base", "efficientnet_b0"}
NORMALIZATION = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "inception": (INCEPTION_MEAN, INCEPTION_STD),
    "clip": (CLIP_MEAN, CLIP_STD),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


def timm_model(spec: EncoderSpec) -> str:
    """timm's name, with its tag, of the network that a record describes.

    Networks with quick GELU share the hub's repository, and so the checkpoint, of those without.

    Example:
        >>> from substrate_jax.encoders import encoder_spec
        >>> timm_model(encoder_spec("dfn_large"))
        'vit_large_patch14_clip_quickgelu_224.dfn2b'
    """
    model = spec.checkpoint.removeprefix("timm/")
    if getattr(spec.config, "activation", None) == "quick_gelu":
        model = model.replace("_clip_", "_clip_quickgelu_")
    return model


def register_timm(
    name: str,
    model: str,
    config: ImageConfig,
    paradigm: Paradigm = "supervised",
    *,
    crop_fraction: float,
    normalization: str = "imagenet",
    interpolation: str = "bicubic",
    crop_mode: str = "center",
    license: str = "apache-2.0",
    paper: str,
    optional_keys: tuple[str, ...] = (),
) -> None:
    """Add the record of a published checkpoint.

    Args:
        name: the name users give.
        model: timm's name with its tag, such as `resnet50.a1_in1k`; the hub id is `timm/MODEL`.
        config: shape of the network at the size we run it.
        paradigm: what the weights were trained on.
        crop_fraction, normalization, interpolation, crop_mode: the checkpoint's preprocessing.
        license: of the weights.
        paper: arXiv id of the method.
        optional_keys: parameters the checkpoint may lack.
    """
    mean, std = NORMALIZATION[normalization]
    register_encoder(
        EncoderSpec(
            name=name,
            config=config,
            paradigm=paradigm,
            preprocess=Preprocess(
                config.image_size, crop_fraction, mean, std, interpolation, crop_mode
            ),
            checkpoint=f"timm/{model}",
            license=license,
            paper=paper,
            panel="paper" if name in PAPER else None,
            shared=name in SHARED,
            optional_keys=optional_keys,
        )
    )
