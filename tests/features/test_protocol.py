"""What extraction reads of an encoder, and who gives it."""

import jax
import jax.numpy as jnp
import pytest

from substrate_jax.analyses.layers.rows import LayerRows
from substrate_jax.data.preprocess import Preprocess
from substrate_jax.encoders import load_encoder
from substrate_jax.features.image_readers import image_readers
from tests.features.fakes import LinearEncoder

EXTRACTORS = {
    "encoder": lambda: load_encoder("mini_vit_base"),
    "layers": lambda: LayerRows(load_encoder("mini_vit_base"), {"blocks.0": (65, 96)}, "mean"),
    "pixels": lambda: image_readers()[0],
    "handcrafted": lambda: image_readers()[1],
    "fake": LinearEncoder,
}


@pytest.mark.parametrize("kind", EXTRACTORS)
def test_everything_that_gives_rows_is_an_extractor(kind):
    extractor = EXTRACTORS[kind]()
    spec = extractor.spec
    assert isinstance(spec.name, str)
    assert isinstance(spec.preprocess, Preprocess)
    assert isinstance(extractor.fingerprint, str)
    assert jnp.dtype(extractor.dtype) == jnp.float32
    function, state = extractor.functional()
    shape = (2, spec.preprocess.size, spec.preprocess.size, 3)
    found = jax.eval_shape(function, state, jax.ShapeDtypeStruct(shape, jnp.float32))
    assert found.shape == (2, spec.width)
