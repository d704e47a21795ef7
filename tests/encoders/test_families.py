"""What every family owes: named taps, gradients, bfloat16, checkpoints there and back, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from substrate_jax.encoders.encoder import Encoder
from substrate_jax.encoders.networks.beit import BEiTConfig
from substrate_jax.encoders.networks.convnext import ConvNeXtConfig
from substrate_jax.encoders.networks.efficientnet import EfficientNetConfig
from substrate_jax.encoders.networks.maxvit import MaxViTConfig
from substrate_jax.encoders.networks.mobilevit import MobileViTV2Config
from substrate_jax.encoders.networks.regnet import RegNetConfig
from substrate_jax.encoders.networks.resnet import ResNetConfig
from substrate_jax.encoders.networks.swin import SwinConfig
from substrate_jax.encoders.networks.vit import ViTConfig
from substrate_jax.encoders.registry import encoder_spec, list_encoders
from substrate_jax.encoders.weights import abstract_module, checkpoint_arrays, fill
from tests.encoders.networks.modules import arrays_of, check_round_trip, filled, quick_jit
from tests.helpers import long, relative_error

RESNET = ResNetConfig((1, 1), True, (64, 64), 4, 2, stem_channels=8, num_classes=3, image_size=8)
REGNET = RegNetConfig(
    2, 8, 8.0, 2.0, 4, se_ratio=0.25, stem_channels=8, num_classes=3, image_size=8
)
EFFICIENTNET = EfficientNetConfig(
    padding="same",
    stages=((3, 1, 1, 8, 1), (3, 2, 2, 8, 1)),
    stem_channels=8,
    head_channels=16,
    num_classes=3,
    image_size=8,
)
CONVNEXT = ConvNeXtConfig(
    (1, 1), (4, 8), 2, 3, 0.1, True, conv_mlp=True, head_hidden=6, num_classes=3, image_size=8
)
MOBILEVIT = MobileViTV2Config(0.25, ((32, 1, 0), (64, 1, 1)), image_size=8, num_classes=3)
MAXVIT = MaxViTConfig((1,), (32,), stem_channels=8, num_classes=3, image_size=16, window=2)
VIT = ViTConfig(
    12,
    1,
    3,
    patch_size=4,
    image_size=8,
    ffn="swiglu",
    activation="gelu_tanh",
    layer_scale=0.1,
    registers=2,
    prefix_positions=False,
    pool="map",
    num_classes=3,
)
SWIN = SwinConfig((2, 1), (4, 8), (2, 7), 2, patch_size=2, num_classes=3, image_size=8)
BEIT = BEiTConfig(8, 1, 2, patch_size=4, image_size=8, num_classes=3)

# One small network per family, with all of its options. Taps in order, where the classifier is:
FAMILIES = {
    "resnet": (RESNET, "stem layer1.0 layer1 layer2.0 layer2", "fc"),
    "regnet": (REGNET, "stem s1.b1 s1 s2.b1 s2", "head.fc"),
    "efficientnet": (
        EFFICIENTNET,
        "stem blocks.0.0 blocks.0 blocks.1.0 blocks.1 head",
        "classifier",
    ),
    "convnext": (
        CONVNEXT,
        "stem stages.0.blocks.0 stages.0 stages.1.blocks.0 stages.1",
        "head.fc",
    ),
    "mobilevit": (
        MOBILEVIT,
        "stem stages.0.0 stages.0 stages.1.0 stages.1.1 stages.1",
        "head.fc",
    ),
    "maxvit": (MAXVIT, "stem stages.0.blocks.0 stages.0", "head.fc"),
    "vit": (VIT, "patch_embed blocks.0 norm", "head"),
    "swin": (
        SWIN,
        "patch_embed layers.0.blocks.0 layers.0.blocks.1 layers.0 layers.1.blocks.0 layers.1 norm",
        "head.fc",
    ),
    "beit": (BEIT, "patch_embed blocks.0", "head"),
}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)


def test_every_family_is_here():
    assert {config.family for config, _, _ in FAMILIES.values()} == {
        encoder_spec(name).family
        for name in list_encoders()
        if encoder_spec(name).modality == "image"  # of sounds: test_sounds.py
    }


@pytest.mark.parametrize(
    "name", [n if n in ("vit", "convnext", "resnet") else long(n) for n in FAMILIES]
)
def test_taps_gradients_and_bfloat16(name, images):
    config, names, classifier = FAMILIES[name]
    module = filled(lambda: config.build(nnx.Rngs(0)))
    graph, parameters, rest = nnx.split(module, nnx.Param, ...)
    images = images[:, : config.image_size, : config.image_size]

    def loss(parameters, rest, images):
        found = {}
        network = nnx.merge(graph, parameters, rest)
        found["features"] = network.features(images, found.__setitem__)
        return jnp.square(found["features"]).sum(), found

    gradients, taps = quick_jit(jax.grad(loss, has_aux=True))(parameters, rest, images)
    assert taps.keys() == {*names.split(), "features"}
    for tap, value in taps.items():
        assert np.isfinite(value).all(), tap
        assert not np.array_equal(value[0], value[1]), tap
    assert taps["features"].shape == (2, config.width)
    assert module.classify(taps["features"]).shape == (2, config.num_classes)

    slopes = {".".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(gradients)}
    assert all(np.isfinite(slope).all() for slope in slopes.values())
    still = {key for key, slope in slopes.items() if not np.any(slope)}
    assert still == {f"{classifier}.weight", f"{classifier}.bias"}

    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (parameters, rest))
    features = quick_jit(lambda state, images: nnx.merge(graph, *state).features(images))
    got = features(half, images.astype(jnp.bfloat16))
    assert got.dtype == jnp.bfloat16
    # Some 16 roundings in a row.
    assert relative_error(got, taps["features"]) <= 16 * float(jnp.finfo(jnp.bfloat16).eps)


@pytest.mark.parametrize("name", FAMILIES)
def test_taps_come_in_order_and_other_sizes_are_refused(name, images):
    config, names, _ = FAMILIES[name]
    spec = dataclasses.replace(encoder_spec("resnet50"), name=name, config=config)
    encoder = Encoder(spec, abstract_module(config), source="none", sha256="none")
    assert encoder.tap_names() == (*names.split(), "features")
    size = config.image_size
    with pytest.raises(ValueError, match=rf"{name} takes \[n, {size}, {size}, 3\]; see") as caught:
        encoder(images[:, : size - 1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_without_classes_says_so(name):
    network = abstract_module(dataclasses.replace(FAMILIES[name][0], num_classes=0))
    message = f"num_classes=0: this {type(network).__name__} has no classifier"
    with pytest.raises(ValueError, match=message):
        network.classify(np.zeros((1, network.config.width), np.float32))


@pytest.mark.parametrize("name", FAMILIES)
def test_arrays_survive_the_round_trip(name):
    check_round_trip(FAMILIES[name][0])


@pytest.mark.parametrize(
    ("config", "tables"),
    [
        (SWIN, ("layers.0.blocks.0.attn.relative_position_index", "layers.0.blocks.1.attn_mask")),
        (BEIT, ("blocks.0.attn.relative_position_index",)),
    ],
    ids=["swin", "beit"],
)
def test_tables_of_older_files_are_left_out_and_nothing_else(config, tables):
    arrays = arrays_of(config)
    older = arrays | {key: np.zeros((4, 4)) for key in tables}
    assert (
        checkpoint_arrays(fill(abstract_module(config), older, source="a")).keys() == arrays.keys()
    )
    with pytest.raises(ValueError, match=r"1 unused: blocks.mask$"):
        fill(abstract_module(config), older | {"blocks.mask": np.zeros(4)}, source="a")


# configuration, what is changed, message
REFUSED = [
    (RESNET, {"bottleneck": False}, "cardinality=4, base_width=2: basic blocks have 1 and 64"),
    (REGNET, {"depth": 0}, "depth=0: give 1 or more"),
    (REGNET, {"group_width": 0}, "group_width=0: give 1 or more"),
    (REGNET, {"initial_width": 20}, "initial_width=20: give a multiple of 8"),
    (REGNET, {"slope": -1.0}, r"slope=-1\.0: give 0 or more"),
    (REGNET, {"multiplier": 1.0}, r"multiplier=1\.0: give more than 1"),
    (EFFICIENTNET, {"padding": "SAME"}, "padding='SAME': choose symmetric or same"),
    (EFFICIENTNET, {"width_multiplier": 0.0}, r"width_multiplier=0\.0: give a positive number"),
    (EFFICIENTNET, {"depth_multiplier": -1.0}, r"depth_multiplier=-1\.0: give a positive number"),
    (MOBILEVIT, {"multiplier": 0.01}, r"multiplier=0\.01: give at least 0\.03125"),
    (MAXVIT, {"image_size": 18}, "image_size=18: .* multiples of 8"),
    (MAXVIT, {"image_size": 230, "window": None}, "image_size=230: .* multiples of 32"),
    (MAXVIT, {"image_size": 0}, "image_size=0: "),
    (MAXVIT, {"channels": (40,)}, r"channels=\(40,\): heads are 32 wide"),
    (VIT, {"heads": 5}, "heads=5: choose a divisor of width=12"),
    (VIT, {"heads": 2, "rotary": 9.0}, "heads=2: rotary positions want heads of a multiple of 4"),
    (VIT, {"class_token": False, "pool": "token"}, "pool='token': set class_token=True"),
    (SWIN, {"image_size": 32}, r"image_size=32: maps of \(16, 8\).*give a multiple of 56$"),
    (SWIN, {"image_size": 9}, "image_size=9: .*give a multiple of 56$"),
    (SWIN, {"windows": (4,)}, r"windows=\(4,\) .*give one of each per stage"),
    (SWIN, {"head_width": 3}, "head_width=3 .*give a divisor"),
    (BEIT, {"image_size": 7}, "image_size=7 .*give a multiple of 4"),
    (BEIT, {"heads": 3}, "heads=3 .*give a divisor of 8"),
]


@pytest.mark.parametrize(("config", "changes", "message"), REFUSED)
def test_impossible_shapes_are_refused(config, changes, message):
    with pytest.raises(ValueError, match=f"^.*{message}") as caught:
        dataclasses.replace(config, **changes)
    assert "\n" not in str(caught.value)
