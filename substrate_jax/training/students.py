"""Small networks to train from scratch.

`resnet18` is ResNet-18 with the 3 x 3 stem for small images (He et al. 2016, section 4.2);
`convnext_atto` and `vit_tiny` have the depths and widths of the smallest published ConvNeXt and
ViT, and small patches. `mini_` are cut to about 20 million multiplications and additions an image,
for machines without an accelerator: fewer channels, layers and positions.
"""

from collections.abc import Callable

from substrate_jax.encoders.networks.convnext import ConvNeXtConfig
from substrate_jax.encoders.networks.network import Config
from substrate_jax.encoders.networks.resnet import ResNetConfig
from substrate_jax.encoders.networks.vit import ViTConfig

IMAGE_SIZE = 32


def _resnet18(channels: int, stride: int) -> Callable[[int], Config]:
    return lambda classes: ResNetConfig(
        (2, 2, 2, 2),
        bottleneck=False,
        channels=(channels, 2 * channels, 4 * channels, 8 * channels),
        stem_channels=channels,
        stem_kernel=3,
        stem_stride=stride,
        stem_pool=False,
        num_classes=classes,
        image_size=IMAGE_SIZE,
    )


def _convnext(
    depths: tuple[int, ...], widths: tuple[int, ...], patch_size: int
) -> Callable[[int], Config]:
    return lambda classes: ConvNeXtConfig(
        depths, widths, patch_size=patch_size, num_classes=classes, image_size=IMAGE_SIZE
    )


def _vit(width: int, depth: int, heads: int, patch_size: int) -> Callable[[int], Config]:
    return lambda classes: ViTConfig(
        width,
        depth,
        heads,
        patch_size=patch_size,
        pool="avg",
        num_classes=classes,
        image_size=IMAGE_SIZE,
    )


_STUDENTS: dict[str, Callable[[int], Config]] = {
    "resnet18": _resnet18(64, 1),
    "convnext_atto": _convnext((2, 2, 6, 2), (40, 80, 160, 320), 2),
    "vit_tiny": _vit(192, 12, 3, 4),
    "mini_resnet18": _resnet18(16, 2),
    "mini_convnext_atto": _convnext((2, 2, 2), (40, 80, 160), 4),
    "mini_vit_tiny": _vit(96, 6, 3, 8),
}
STUDENTS = tuple(_STUDENTS)


def student_config(name: str, classes: int) -> Config:
    """The shape of a student.

    Args:
        name: one of `STUDENTS`.
        classes: outputs of its classifier.

    Raises:
        ValueError: no such student.

    Example:
        >>> student_config("mini_resnet18", 10).width
        128
    """
    if name not in _STUDENTS:
        raise ValueError(f"student={name!r}: choose one of {', '.join(STUDENTS)}")
    return _STUDENTS[name](classes)
