"""RegNetX and RegNetY."""

from substrate_jax.encoders.networks.regnet import RegNetConfig
from substrate_jax.encoders.records.timm import register_timm

# Who trained the weights -> license, crop
_SOURCES = {
    "pycls_in1k": ("mit", 0.875),
    "tv2_in1k": ("bsd-3-clause", 0.965),
    "ra_in1k": ("apache-2.0", 0.95),
    "ra3_in1k": ("apache-2.0", 0.95),
    "sw_in12k_ft_in1k": ("apache-2.0", 0.95),
}
# timm's name with its tag; depth, w_0, w_a, w_m and group width of the paper's tables
for _model, _depth, _initial_width, _slope, _multiplier, _group_width in (
    ("regnetx_002.pycls_in1k", 13, 24, 36.44, 2.49, 8),
    ("regnetx_004.pycls_in1k", 22, 24, 24.48, 2.54, 16),
    ("regnetx_006.pycls_in1k", 16, 48, 36.97, 2.24, 24),
    ("regnetx_008.tv2_in1k", 16, 56, 35.73, 2.28, 16),
    ("regnetx_016.tv2_in1k", 18, 80, 34.01, 2.25, 24),
    ("regnetx_032.tv2_in1k", 25, 88, 26.31, 2.25, 48),
    ("regnetx_040.pycls_in1k", 23, 96, 38.65, 2.43, 40),
    ("regnetx_064.pycls_in1k", 17, 184, 60.83, 2.07, 56),
    ("regnetx_080.tv2_in1k", 23, 80, 49.56, 2.88, 120),
    ("regnetx_120.pycls_in1k", 19, 168, 73.36, 2.37, 112),
    ("regnetx_160.tv2_in1k", 22, 216, 55.59, 2.1, 128),
    ("regnetx_320.tv2_in1k", 23, 320, 69.86, 2.0, 168),
    ("regnety_002.pycls_in1k", 13, 24, 36.44, 2.49, 8),
    ("regnety_004.tv2_in1k", 16, 48, 27.89, 2.09, 8),
    ("regnety_006.pycls_in1k", 15, 48, 32.54, 2.32, 16),
    ("regnety_008.pycls_in1k", 14, 56, 38.84, 2.4, 16),
    ("regnety_016.tv2_in1k", 27, 48, 20.71, 2.65, 24),
    ("regnety_032.ra_in1k", 21, 80, 42.63, 2.66, 24),
    ("regnety_040.ra3_in1k", 22, 96, 31.41, 2.24, 64),
    ("regnety_064.ra3_in1k", 25, 112, 33.22, 2.27, 72),
    ("regnety_080.ra3_in1k", 17, 192, 76.82, 2.19, 56),
    ("regnety_120.sw_in12k_ft_in1k", 19, 168, 73.36, 2.37, 112),
    ("regnety_160.sw_in12k_ft_in1k", 18, 200, 106.23, 2.48, 112),
    ("regnety_320.tv2_in1k", 20, 232, 115.89, 2.53, 232),
):
    _name, _tag = _model.split(".")
    _license, _crop = _SOURCES[_tag]
    register_timm(
        _name,
        _model,
        RegNetConfig(
            _depth,
            _initial_width,
            _slope,
            _multiplier,
            _group_width,
            se_ratio=0.25 if _name.startswith("regnety") else 0.0,
        ),
        crop_fraction=_crop,
        license=_license,
        paper="2003.13678",
    )
