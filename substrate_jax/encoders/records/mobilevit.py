"""MobileViTV2: Apple's weights, trained on pixels in [0, 1] without further normalization."""

from substrate_jax.encoders.networks.mobilevit import MobileViTV2Config
from substrate_jax.encoders.records.timm import register_timm

# suffix of our name, timm's tag, pixels, crop, widths in percent
for _suffix, _tag, _pixels, _crop, _widths in (
    ("", "in1k", 256, 0.888, (50, 75, 100, 125, 150, 175, 200)),
    ("_in22ft1k", "in22k_ft_in1k", 256, 0.888, (150, 175, 200)),
    ("_384_in22ft1k", "in22k_ft_in1k_384", 384, 1.0, (150, 175, 200)),
):
    for _width in _widths:
        _name = f"mobilevitv2_{_width:03d}"
        # The panel of arXiv:2606.07882 runs all its encoders at 224 pixels.
        _run_at = 224 if _name + _suffix == "mobilevitv2_175" else _pixels
        register_timm(
            _name + _suffix,
            f"{_name}.cvnets_{_tag}",
            MobileViTV2Config(_width / 100, image_size=_run_at),
            crop_fraction=_crop,
            normalization="none",
            license="cvnets-license",
            paper="2206.02680",
        )
