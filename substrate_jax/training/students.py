"""Small networks to train from scratch.

`resnet18` is ResNet-18 with the 3 x 3 stem for small images (He et al. 2016, section 4.2);
`convnext_atto` and `vit_tiny` have the depths and widths of the smallest published ConvNeXt and
ViT, and small patches. `mini_` are cut to about 20 million multiplications and additions an image,
for machines without an accelerator: fewer channels, layers and positions.
"""

from collections.abc import Callable

import jax
import optax
from jaxtyping import PyTree

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


def student_rate(name: str) -> float:
    """The learning rate that a student is usually trained at, at its peak.

    Example:
        >>> student_rate("mini_resnet18"), student_rate("mini_vit_tiny")
        (0.1, 0.002)
    """
    return 0.1 if _by_momentum(name) else 2e-3


def student_optimizer(name: str, steps: int) -> optax.GradientTransformation:
    """How a student is trained, at a learning rate of 1 that rises over 5 % of the steps and falls.

    ResNets: gradient descent with momentum 0.9 and weight decay 5e-4; the others: AdamW with weight
    decay 0.05. Decay is of matrices and kernels only. Gradients are clipped to norm 5, and the rate
    falls by half a cosine.

    Args:
        name: one of `STUDENTS`.
        steps: of the whole training.

    Example:
        >>> student_optimizer("mini_resnet18", 100).init({}) is not None
        True
    """
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1.0, max(1, steps // 20), steps)
    if _by_momentum(name):
        rule = optax.chain(
            optax.add_decayed_weights(5e-4, mask=_matrices), optax.sgd(schedule, momentum=0.9)
        )
    else:
        rule = optax.adamw(schedule, weight_decay=0.05, mask=_matrices)
    return optax.chain(optax.clip_by_global_norm(5.0), rule)


def _by_momentum(name: str) -> bool:
    return student_config(name, 2).family == "resnet"


def _matrices(parameters: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, parameters)
