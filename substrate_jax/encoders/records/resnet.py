"""ResNets, ResNeXts and wide ResNets."""

from substrate_jax.encoders.networks.resnet import ResNetConfig
from substrate_jax.encoders.records.timm import register_timm

# timm's architecture -> its shape
_SHAPES = {
    "resnet18": ResNetConfig((2, 2, 2, 2), bottleneck=False),
    "resnet34": ResNetConfig((3, 4, 6, 3), bottleneck=False),
    "resnet50": ResNetConfig((3, 4, 6, 3), bottleneck=True),
    "resnet101": ResNetConfig((3, 4, 23, 3), bottleneck=True),
    "resnet152": ResNetConfig((3, 8, 36, 3), bottleneck=True),
    "wide_resnet50_2": ResNetConfig((3, 4, 6, 3), bottleneck=True, base_width=128),
    "wide_resnet101_2": ResNetConfig((3, 4, 23, 3), bottleneck=True, base_width=128),
    "resnext50_32x4d": ResNetConfig((3, 4, 6, 3), True, cardinality=32, base_width=4),
    "resnext101_32x4d": ResNetConfig((3, 4, 23, 3), True, cardinality=32, base_width=4),
    "resnext101_32x8d": ResNetConfig((3, 4, 23, 3), True, cardinality=32, base_width=8),
    "resnext101_32x16d": ResNetConfig((3, 4, 23, 3), True, cardinality=32, base_width=16),
    "resnext101_32x32d": ResNetConfig((3, 4, 23, 3), True, cardinality=32, base_width=32),
    "resnext101_64x4d": ResNetConfig((3, 4, 23, 3), True, cardinality=64, base_width=4),
}
_STRIKES_BACK = {"crop_fraction": 0.95, "paper": "2110.00476"}
_TORCHVISION = {"crop_fraction": 0.875, "interpolation": "bilinear", "license": "bsd-3-clause"}
_FACEBOOK = {"crop_fraction": 0.875, "interpolation": "bilinear", "license": "cc-by-nc-4.0"}
_RESNEXT, _WIDE = "1611.05431", "1605.07146"

# our name, timm's name with its tag, facts
_MODELS = [
    ("resnet18", "resnet18.a1_in1k", _STRIKES_BACK),
    ("resnet34", "resnet34.a1_in1k", _STRIKES_BACK),
    ("resnet50", "resnet50.a1_in1k", _STRIKES_BACK),
    ("resnet101", "resnet101.a1h_in1k", _STRIKES_BACK),
    ("resnet152", "resnet152.a1h_in1k", _STRIKES_BACK),
    ("resnext50_32x4d", "resnext50_32x4d.a1h_in1k", _STRIKES_BACK | {"paper": _RESNEXT}),
    ("resnext101_64x4d", "resnext101_64x4d.c1_in1k", _STRIKES_BACK | {"paper": _RESNEXT}),
    ("resnext101_32x8d", "resnext101_32x8d.tv_in1k", _TORCHVISION | {"paper": _RESNEXT}),
    ("wide_resnet50_2", "wide_resnet50_2.racm_in1k", {"crop_fraction": 0.875, "paper": _WIDE}),
    ("wide_resnet101_2", "wide_resnet101_2.tv_in1k", _TORCHVISION | {"paper": _WIDE}),
]
# The weights that torchvision published first.
for _name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
    _MODELS.append((f"{_name}_tv", f"{_name}.tv_in1k", _TORCHVISION | {"paper": "1512.03385"}))
# Trained on a teacher's labels (ssl), on hashtags and a teacher's labels (swsl), on hashtags (wsl);
# then all on ImageNet's labels.
for _suffix, _tag, _paper, _names in (
    (
        "ssl",
        "fb_ssl_yfcc100m_ft_in1k",
        "1905.00546",
        ("resnet18", "resnet50", "resnext50_32x4d", "resnext101_32x4d", "resnext101_32x8d"),
    ),
    (
        "swsl",
        "fb_swsl_ig1b_ft_in1k",
        "1905.00546",
        ("resnet18", "resnet50", "resnext50_32x4d", "resnext101_32x4d", "resnext101_32x8d"),
    ),
    (
        "wsl",
        "fb_wsl_ig1b_ft_in1k",
        "1805.00932",
        ("resnext101_32x8d", "resnext101_32x16d", "resnext101_32x32d"),
    ),
):
    for _name in _names:
        _MODELS.append((f"{_name}_{_suffix}", f"{_name}.{_tag}", _FACEBOOK | {"paper": _paper}))

for _name, _model, _facts in _MODELS:
    register_timm(_name, _model, _SHAPES[_model.split(".")[0]], **_facts)
