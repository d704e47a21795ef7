"""Shapes that no network can have are refused, in one line, before any weight is made."""

import dataclasses

import jax
import numpy as np
import pytest

from substrate_jax.encoders import encoder_spec, list_encoders
from substrate_jax.encoders.networks.convolutions import Conv
from substrate_jax.encoders.networks.layers import constant_rngs

FAMILIES = {
    encoder_spec(name).config.family: encoder_spec(name).config
    for name in list_encoders(panel="mini")
}
# What keeps at least one position of any image, and what needs some pixels.
ANY = ("resnet", "regnet", "efficientnet", "mobilevit")
LEAST = {"convnext": 8, "vit": 8, "beit": 4, "swin": 32, "maxvit": 32}


def rngs():
    return constant_rngs(np.random.default_rng(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_keeps_a_position_or_is_refused(family):
    config = FAMILIES[family]
    least = LEAST.get(family, 1)
    fits = dataclasses.replace(config, image_size=least).build(rngs())
    maps = []
    images = jax.ShapeDtypeStruct((1, least, least, 3), np.float32)
    jax.eval_shape(lambda x: fits.features(x, lambda name, y: maps.append(y.size) or y), images)
    assert maps
    assert min(maps) > 0
    if least > 1:
        with pytest.raises(ValueError, match=f"image_size={least - 1}"):
            dataclasses.replace(config, image_size=least - 1).build(rngs())


def test_the_families_are_all():
    assert {*ANY, *LEAST} == set(FAMILIES)


@pytest.mark.parametrize(
    ("channels", "groups"), [((1, 0), 1), ((0, 4), 1), ((4, 8), 0), ((4, 6), 4), ((6, 4), 4)]
)
def test_convolutions_need_channels_and_groups_that_divide_them(channels, groups):
    with pytest.raises(ValueError, match="give channels, and groups that divide both"):
        Conv(*channels, 3, groups=groups, rngs=rngs())
