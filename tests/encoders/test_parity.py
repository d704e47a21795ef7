"""Each encoder against timm: same checkpoint, same pictures, same features and intermediate maps.

The checkpoints are synthetic (tests/golden/weights.py), the references torch's in float64
(tests/golden/make_golden.py). One encoder is held at a time, its file deleted once loaded.
"""

import dataclasses
import gzip
import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import substrate_jax as sj
from substrate_jax.encoders import encoder_spec, list_encoders
from substrate_jax.encoders.weights import abstract_module
from substrate_jax.encoders.weights import inventory as module_inventory
from tests.golden import weights
from tests.helpers import long

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = sorted(path.stem for path in (GOLDEN / "encoders").glob("*.npz"))
# Networks in another size than one that is compared in every run.
SIZES = {"convnext_base", "dinov2_base", "fcmae_base", "maxvit_base", "mobilevitv2_175", "resnet50"}
SIZES |= {"resnet101", "vit_base", "vit_large"}
# Or of a family of which another is, with nothing of their own that its tests do not cover.
SIZES |= {"convnext_tiny", "regnety_032", "tf_efficientnet_b0", "resnext50_32x4d", "siglip_base"}
SIZES |= {"mae_base", "deit_tiny_distilled", "dinov2_small_reg4", "deit3_small"}
SIZES |= {"maxvit_tiny", "convnextv2_atto", "beitv2_base", "tf_efficientnet_lite2"}
# torch's own float32 is 1e-7 to 6e-7 from the reference. The mildest mistakes, made on purpose in
# torch, are 3e-5 away: tanh GELU in clip_base, a BatchNorm epsilon of 1e-6 in resnet50.
LIMIT = 1e-5


def inventory(name):
    """{parameter: shape} of the published checkpoint, from the golden."""
    text = gzip.decompress((GOLDEN / "inventory" / f"{name}.json.gz").read_bytes())
    return {key: tuple(shape) for key, shape in json.loads(text).items()}


def golden(name):
    with np.load(GOLDEN / "encoders" / f"{name}.npz") as file:
        return dict(file)


def distance(got, want):
    """||got - want|| / ||want|| in float64."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def load(name, folder):
    """An encoder on its synthetic checkpoint, and pictures of its size."""
    path = folder / "model.safetensors"
    weights.write_safetensors(path, inventory(name))
    try:
        encoder = sj.load_encoder(name, weights=str(path))
    finally:
        path.unlink()
    return encoder, weights.images(encoder.spec.config.image_size)


@pytest.fixture(scope="module", params=[long(n) if n in SIZES else n for n in NAMES])
def loaded(request, tmp_path_factory):
    """An encoder's name, the encoder, and pictures."""
    return request.param, *load(request.param, tmp_path_factory.mktemp(request.param))


def test_features_and_taps_are_those_of_timm(loaded):
    """Both from one program: compiling and running each twice would double the file's time."""
    name, encoder, pictures = loaded
    want = golden(name)
    features = want["features"]
    taps = {k.removeprefix("tap:"): v for k, v in want.items() if k.startswith("tap:")}
    got = encoder.taps(pictures, names=[*taps, "features"])
    assert list(got) == [*taps, "features"]
    assert got["features"].shape == features.shape
    assert all(array.dtype == np.float32 for array in got.values())
    means = {tap: np.asarray(got[tap]).mean(tuple(range(1, got[tap].ndim - 1))) for tap in taps}
    errors = {tap: distance(means[tap], taps[tap]) for tap in taps}
    errors["features"] = distance(got["features"], features)
    report = f"{name} from timm: " + "  ".join(
        f"{tap} {error:.1e}" for tap, error in errors.items()
    )
    report += f" (torch float32 features: {want['float32_error']:.1e})"
    print(report)
    assert max(errors.values()) <= LIMIT, report


@pytest.mark.parametrize("name", [long("mobilevitv2_050"), "vit_tiny"])
def test_optimized_code_agrees_too(name, tmp_path):
    """Tests compile without optimization (conftest), users with XLA's default, which is 3."""
    encoder, pictures = load(name, tmp_path)
    function, state = encoder.functional()
    optimized = jax.jit(function, compiler_options={"xla_backend_optimization_level": 3})
    assert distance(optimized(state, pictures), golden(name)["features"]) <= LIMIT


def is_of_images(name):
    """Those of sounds are compared in test_sounds.py."""
    return encoder_spec(name).modality == "image"


PUBLISHED = [n for n in list_encoders() if is_of_images(n) and not encoder_spec(n).bundled]


def test_every_family_and_the_whole_panel_are_compared():
    families = {encoder_spec(name).family for name in list_encoders() if is_of_images(name)}
    assert {encoder_spec(name).family for name in NAMES} == families
    assert set(list_encoders("paper")) <= set(NAMES)


@pytest.mark.parametrize("name", [n if n in NAMES else long(n) for n in PUBLISHED])
def test_the_parameters_are_those_of_the_checkpoint(name):
    want = {k: s for k, s in inventory(name).items() if not k.endswith("num_batches_tracked")}
    assert module_inventory(abstract_module(as_published(name, want))) == want


def as_published(name, shapes):
    """The encoder's config at the image size its checkpoint was made for, read off the table."""
    config = encoder_spec(name).config
    if "pos_embed" not in shapes:
        return config
    side = math.isqrt(shapes["pos_embed"][1])
    return dataclasses.replace(config, image_size=side * config.patch_size)


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_depends_on_the_picture(name):
    first, second = golden(name)["features"]
    assert distance(first, second) > 0.05


def test_synthetic_weights_are_those_the_goldens_were_made_with():
    """NumPy may change a generator's stream between versions; this tells it from a faulty port."""
    want = {
        "layer1.0.bn1.running_var": [0.95135272, 1.6424835, 1.6039969],
        "norm.weight": [1.2146006, 0.59262353, 0.70415509],
        "norm.bias": [0.10402714, -0.10233702, -0.046445649],
        "bn1.num_batches_tracked": 45480,
    }
    for name, values in want.items():
        np.testing.assert_allclose(weights.tensor(name, np.shape(values)), values, rtol=1e-6)


def test_synthetic_checkpoints_are_safetensors(tmp_path):
    shapes = {"conv.weight": (4, 3, 2, 2), "bn.num_batches_tracked": (), "fc.bias": (5,)}
    weights.write_safetensors(tmp_path / "a.safetensors", shapes)
    read = load_file(tmp_path / "a.safetensors")
    assert set(read) == set(shapes)
    for name, shape in shapes.items():
        want = weights.tensor(name, shape)
        assert read[name].dtype == want.dtype
        np.testing.assert_array_equal(read[name], want)
