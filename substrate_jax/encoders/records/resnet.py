"""ResNets."""

from substrate_jax.encoders.records.timm import register_timm
from substrate_jax.encoders.resnet import ResNetConfig

# timm's name with its tag, depths, bottleneck
for _model, _depths, _bottleneck in (
    ("resnet18.a1_in1k", (2, 2, 2, 2), False),
    ("resnet34.a1_in1k", (3, 4, 6, 3), False),
    ("resnet50.a1_in1k", (3, 4, 6, 3), True),
    ("resnet101.a1h_in1k", (3, 4, 23, 3), True),
    ("resnet152.a1h_in1k", (3, 8, 36, 3), True),
):
    register_timm(
        _model.split(".")[0],
        _model,
        ResNetConfig(_depths, _bottleneck),
        crop_fraction=0.95,
        paper="2110.00476",
    )
