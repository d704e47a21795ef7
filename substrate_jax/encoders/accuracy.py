"""Recorded accuracies of encoders on what they were trained on, to rank them without new data.

Top-1 on the validation set of ImageNet-1k, of checkpoints that classify its 1,000 classes, as
published with them at the size of the record (results/results-imagenet.csv of timm, commit 4e5207c;
`mobilevitv2_175` at 256 pixels). Members of the mini panel have the accuracy of their linear probe
on held-out images of CIFAR-100, measured by `experiments.pretrain`.
"""

import functools
import json
from collections.abc import Mapping
from importlib import resources

from substrate_jax.encoders.registry import EncoderSpec

IMAGENET, CIFAR = "ImageNet-1k top-1", "CIFAR-100 linear probe"


def source_accuracy(spec: EncoderSpec) -> tuple[str, float] | None:
    """What was measured, and the accuracy in percent; None where nothing is recorded.

    Example:
        >>> from substrate_jax.encoders import encoder_spec
        >>> source_accuracy(encoder_spec("resnet50"))
        ('ImageNet-1k top-1', 80.38)
        >>> source_accuracy(encoder_spec("dinov2_base")) is None
        True
    """
    if spec.bundled:
        path = resources.files("substrate_jax") / "mini" / f"{spec.name}.json"
        return CIFAR, 100 * json.loads(path.read_text())["accuracy"]["probe"]
    found = _imagenet().get(spec.name)
    return None if found is None else (IMAGENET, found)


@functools.cache
def _imagenet() -> Mapping[str, float]:
    path = resources.files("substrate_jax.encoders") / "imagenet_top1.json"
    return json.loads(path.read_text())
