"""The mini panel: small networks of the same modules at 32 pixels, whose weights are bundled.

Each stands in for a member of the paper's panel, trained on the same paradigm.
"""

from substrate_jax.data.preprocess import Preprocess
from substrate_jax.encoders.networks.beit import BEiTConfig
from substrate_jax.encoders.networks.convnext import ConvNeXtConfig
from substrate_jax.encoders.networks.efficientnet import EfficientNetConfig
from substrate_jax.encoders.networks.maxvit import MaxViTConfig
from substrate_jax.encoders.networks.mobilevit import MobileViTV2Config
from substrate_jax.encoders.networks.network import ImageConfig
from substrate_jax.encoders.networks.regnet import RegNetConfig
from substrate_jax.encoders.networks.resnet import ResNetConfig
from substrate_jax.encoders.networks.swin import SwinConfig
from substrate_jax.encoders.networks.vit import ViTConfig
from substrate_jax.encoders.records.timm import SHARED
from substrate_jax.encoders.registry import EncoderSpec, Paradigm, register_encoder


def _resnet(depths: tuple[int, ...]) -> ResNetConfig:
    return ResNetConfig(
        depths,
        bottleneck=True,
        channels=(16, 32, 64, 128),
        stem_channels=32,
        stem_kernel=3,
        stem_stride=2,
        stem_pool=False,
        num_classes=100,
        image_size=32,
    )


def _vit(patch_size: int, **options) -> ViTConfig:
    return ViTConfig(96, 4, 3, patch_size=patch_size, image_size=32, **options)


def _vit_large() -> ViTConfig:
    return ViTConfig(128, 6, 4, patch_size=4, image_size=32, pool="avg", num_classes=100)


def _convnext(
    layer_scale: float | None, *, grn: bool = False, num_classes: int = 100
) -> ConvNeXtConfig:
    return ConvNeXtConfig(
        (2, 4),
        (64, 128),
        patch_size=4,
        layer_scale=layer_scale,
        grn=grn,
        num_classes=num_classes,
        image_size=32,
    )


def _regnet() -> RegNetConfig:
    return RegNetConfig(
        depth=7,
        initial_width=32,
        slope=32.0,
        multiplier=2.2,
        group_width=8,
        se_ratio=0.25,
        stem_channels=24,
        stem_stride=1,
        num_classes=100,
        image_size=32,
    )


def _efficientnet() -> EfficientNetConfig:
    return EfficientNetConfig(
        stages=((3, 1, 1, 16, 1), (3, 2, 4, 32, 2), (5, 2, 4, 64, 2), (3, 1, 4, 128, 3)),
        head_channels=384,
        num_classes=100,
        image_size=32,
    )


def _swin() -> SwinConfig:
    return SwinConfig((2, 4), (64, 128), windows=(4, 4), num_classes=100, image_size=32)


def _mobilevit() -> MobileViTV2Config:
    stages = ((64, 1, 0), (128, 2, 0), (256, 1, 3))
    return MobileViTV2Config(0.75, stages, num_classes=100, image_size=32)


def _maxvit() -> MaxViTConfig:
    return MaxViTConfig(
        (1, 1), (64, 96), stem_channels=32, window=4, num_classes=100, image_size=32
    )


def _beit() -> BEiTConfig:
    return BEiTConfig(96, 4, 3, patch_size=4, layer_scale=0.1, num_classes=100, image_size=32)


# stands in for, configuration, paper
_MEMBERS: dict[Paradigm, tuple[tuple[str, ImageConfig, str], ...]] = {
    "supervised": (
        ("resnet50", _resnet((1, 1, 2, 1)), "1512.03385"),
        ("resnet101", _resnet((1, 2, 4, 1)), "1512.03385"),
        ("convnext_base", _convnext(0.1), "2201.03545"),
        ("vit_base", _vit(4, pool="avg", num_classes=100), "2010.11929"),
        ("vit_large", _vit_large(), "2010.11929"),
        ("regnety_032", _regnet(), "2003.13678"),
        ("efficientnet_b0", _efficientnet(), "1905.11946"),
        ("swin_tiny", _swin(), "2103.14030"),
        ("mobilevitv2_175", _mobilevit(), "2206.02680"),
        ("maxvit_base", _maxvit(), "2204.01697"),
        ("beitv2_base", _beit(), "2208.06366"),
    ),
    "self_supervised": (("dinov2_base", _vit(8, layer_scale=0.1, num_classes=0), "2002.05709"),),
    "masked_reconstruction": (
        ("mae_base", _vit(4, num_classes=0), "2111.06377"),
        ("fcmae_base", _convnext(None, grn=True, num_classes=0), "2301.00808"),
    ),
    "image_text": (("clip_base", _vit(8, pre_norm=True, eps=1e-5, num_classes=64), "2103.00020"),),
}
for _paradigm, _members in _MEMBERS.items():
    for _name, _config, _paper in _members:
        register_encoder(
            EncoderSpec(
                name=f"mini_{_name}",
                config=_config,
                paradigm=_paradigm,
                preprocess=Preprocess(_config.image_size),
                checkpoint=f"mini_{_name}.safetensors",
                license="apache-2.0",
                paper=_paper,
                panel="mini",
                shared=_name in SHARED,
            )
        )
