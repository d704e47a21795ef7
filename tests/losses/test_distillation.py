"""Distillation losses against float64 oracles and published code, on one device and eight."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from substrate_jax import losses
from substrate_jax.mesh import DATA_AXIS, make_mesh
from tests.golden import make_losses_golden as golden
from tests.helpers import matrix_products, tolerance
from tests.losses import oracles

DATA = golden.drawn()
ROWS = golden.ROWS
GOLDEN = json.loads(golden.PATH.read_text())["losses"]
dkd_options = {"alpha": golden.ALPHA, "beta": golden.BETA, "temperature": golden.TEMPERATURE}


def labeled(loss, **options):
    """A loss of logits and target, with the labels of as many rows at hand."""

    def value(x, y, *, mask=None, axis_name=None, labels=None):
        labels = DATA["labels"].astype(np.int32) if labels is None else labels
        return loss(x, y, labels, mask=mask, axis_name=axis_name, **options)

    return value


def without_target(loss):
    return lambda x, y, **options: loss(x, **options)


distances = functools.partial(losses.relational_loss, distance=1.0, angle=0.0)
angles = functools.partial(losses.relational_loss, distance=0.0, angle=1.0)
kd = functools.partial(losses.kd_loss, temperature=golden.TEMPERATURE)
# Loss, oracle, and whether of logits or of features or of features as wide as the target.
LOSSES = {
    "similarity_preserving": (
        losses.similarity_preserving_loss,
        oracles.similarity_preserving,
        "features",
    ),
    "relational": (losses.relational_loss, oracles.relational, "features"),
    "distances": (distances, oracles.relational_distance, "features"),
    "pkt": (losses.pkt_loss, oracles.pkt, "features"),
    "variance": (
        without_target(losses.variance_loss),
        lambda x, y: oracles.variance(x),
        "features",
    ),
    "mse": (losses.mse_loss, oracles.mse, "projection"),
    "cosine": (losses.cosine_loss, oracles.cosine, "projection"),
    "kd": (kd, functools.partial(oracles.kd, temperature=golden.TEMPERATURE), "logits"),
    "decoupled_kd": (
        labeled(losses.decoupled_kd_loss, **dkd_options),
        lambda x, y: oracles.decoupled_kd(x, y, DATA["labels"], **dkd_options),
        "logits",
    ),
}


def inputs(kind):
    """Student's side, target, and a direction to go along."""
    if kind == "logits":
        return DATA["logits"], DATA["teacher"], DATA["along_logits"]
    x, y, along = DATA["features"], DATA["target"], DATA["along_features"]
    if kind == "projection":
        return x[:, : y.shape[1]], y, along[:, : y.shape[1]]
    return x, y, along


def change_along(function, x, along, step=1e-5):
    """The derivative along a direction by differences, good to 1e-9."""
    return (function(x + step * along) - function(x - step * along)) / (2 * step)


@functools.cache
def in_float32(name):
    return jax.jit(jax.value_and_grad(LOSSES[name][0]))


@functools.cache
def in_float64(name):
    """Value and both gradients on the data of the golden file, found once."""
    loss, _, kind = LOSSES[name]
    x, y, _ = inputs(kind)
    with jax.enable_x64(True):
        value, slopes = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(x, y)
        return float(value), *map(np.asarray, slopes)


@pytest.mark.parametrize("name", list(LOSSES))
def test_value_and_gradient_are_those_of_the_formula(name):
    _, oracle, kind = LOSSES[name]
    x, y, along = inputs(kind)
    value, slope, into_target = in_float64(name)
    np.testing.assert_allclose(value, oracle(x, y), rtol=1e-12)
    np.testing.assert_allclose(
        np.sum(slope * along), change_along(lambda x: oracle(x, y), x, along), rtol=1e-7
    )
    assert (into_target == 0).all()


# Published loss -> ours and what theirs is in terms of it.
PUBLISHED = {
    "sp_repdistiller": ("similarity_preserving", 1),
    "rkd_distance_repdistiller": ("distances", (ROWS - 1) / ROWS),
    "pkt_repdistiller": ("pkt", 1 / ROWS),
    "pkt_torchdistill": ("pkt", 1 / ROWS),
    "variance_vicreg": ("variance", 1),
    "kd_repdistiller": ("kd", 1),
    "kd_torchdistill": ("kd", golden.TEMPERATURE**-2),
    "dkd_mdistiller": ("decoupled_kd", 1),
}


def assert_published(name, value, slope, along):
    theirs = GOLDEN[name]
    # 1e-7 is added to lengths there (PKT), and 1e-12 to squares.
    found = [value, np.linalg.norm(slope), np.sum(slope * along)]
    np.testing.assert_allclose(found, list(theirs.values()), rtol=1e-6)


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_published_code_gives_the_same_but_for_its_factor(name):
    ours, factor = PUBLISHED[name]
    value, slope, _ = in_float64(ours)
    assert_published(name, factor * value, factor * slope, inputs(LOSSES[ours][2])[2])


def test_published_angles_are_averaged_over_all_triples():
    """Ours are those of the relational loss less its distances."""
    (both, slope, _), (distance, distance_slope, _) = map(in_float64, ("relational", "distances"))
    along = DATA["along_features"]
    factor = (ROWS - 1) * (ROWS - 2) / ROWS**2
    angle, angle_slope = factor * (both - distance) / 2, factor * (slope - distance_slope) / 2
    assert_published("rkd_angle_repdistiller", angle, angle_slope, along)
    factor = (ROWS - 1) / ROWS
    value = factor * distance + 2 * angle
    assert_published("rkd_torchdistill", value, factor * distance_slope + 2 * angle_slope, along)


def test_torchdistill_divides_grams_by_their_absolute_sums():
    x, y, along = inputs("features")

    def value(x):
        return oracles.similarity_preserving(x, y, oracles.by_absolute_sum)

    theirs = GOLDEN["sp_torchdistill"]
    np.testing.assert_allclose(value(x), theirs["value"], rtol=1e-12)
    np.testing.assert_allclose(change_along(value, x, along), theirs["gradient_along"], rtol=1e-7)


def degenerate(x, y):
    """Points where square roots, quotients or logarithms have no derivative of their own."""
    n, d = x.shape
    some = x.copy()
    some[2:5] = 0
    alike = x.copy()
    alike[3:] = x[0]
    points = {
        "constant": np.ones((n, d)),
        "zero": np.zeros((n, d)),
        "zero rows": some,
        "identical rows": alike,
        "rank one": np.outer(np.arange(n), np.ones(d)),
        "one feature": np.eye(d)[[0]] * x[:, :1],
        "opposite rows": np.sign(x[:, :1]) * np.ones((1, d)),
        "large": 1e18 * x,
        "small": 1e-30 * x,
    }
    if d == y.shape[1]:
        points["the target"] = y
    return points


@pytest.mark.parametrize("name", list(LOSSES))
def test_gradients_at_degenerate_points_are_finite(name):
    x, y, _ = inputs(LOSSES[name][2])
    points = degenerate(x, y)
    targets = [y, np.zeros_like(y), np.ones_like(y)]
    for target in targets:
        for point, features in points.items():
            if name == "mse" and point == "large":  # whose square float32 does not hold
                features = 1e-6 * features
            value, slope = in_float32(name)(features.astype(np.float32), target.astype(np.float32))
            assert np.isfinite(value), point
            assert value > -1e-5, point
            assert np.isfinite(slope).all(), point
    for point in ("constant", "zero"):
        if name in ("relational", "distances", "variance"):
            _, slope = in_float32(name)(points[point].astype(np.float32), y.astype(np.float32))
            assert (np.asarray(slope) == 0).all()


@pytest.mark.parametrize("name", list(LOSSES))
def test_nothing_is_lost_where_target_and_features_agree(name):
    _, oracle, kind = LOSSES[name]
    x, y, _ = inputs(kind)
    if name == "variance":
        value, slope = in_float32(name)((9 * x).astype(np.float32), y.astype(np.float32))
        assert oracle(9 * x, y) == 0
    elif y.shape[1] == x.shape[1]:
        value, slope = in_float32(name)(y.astype(np.float32), y.astype(np.float32))
    else:  # twice the same numbers, padded with zeros
        x = np.pad(2 * y, ((0, 0), (0, x.shape[1] - y.shape[1])))
        value, slope = in_float32(name)(x.astype(np.float32), y.astype(np.float32))
    assert abs(value) <= tolerance(ROWS)
    assert np.abs(slope).max() <= tolerance(ROWS)


@pytest.mark.parametrize("name", list(LOSSES))
def test_what_is_not_finite_makes_no_finite_loss(name):
    x, y, _ = inputs(LOSSES[name][2])
    x = x.astype(np.float32)
    x[3, 2] = np.nan
    assert np.isnan(in_float32(name)(x, y.astype(np.float32))[0])


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "distances"])
def test_rows_over_devices_and_a_mask_give_the_formula_of_the_rows_that_count(name):
    """Nine rows that count and seven that do not, two on each device; those hold NaN."""
    loss, oracle, kind = LOSSES[name]
    x, y, _ = inputs(kind)
    place = np.sort(np.random.default_rng(5).permutation(16)[:ROWS])
    mask = np.isin(np.arange(16), place)

    def padded(rows, fill=np.nan):
        found = np.full((16, *rows.shape[1:]), fill, rows.dtype)
        found[place] = rows
        return found

    rows = PartitionSpec(DATA_AXIS)
    others = {"labels": padded(DATA["labels"].astype(np.int32), -1)} if "decoupled" in name else {}

    def local(x, y, mask, others):
        return loss(x, y, mask=mask, axis_name=DATA_AXIS, **others)

    mapped = jax.shard_map(
        local, mesh=make_mesh("data=8"), in_specs=(rows,) * 4, out_specs=PartitionSpec()
    )
    with jax.enable_x64(True):
        value, slope = jax.jit(jax.value_and_grad(mapped))(padded(x), padded(y), mask, others)
        value, slope = float(value), np.asarray(slope)
    np.testing.assert_allclose(value, oracle(x, y), rtol=1e-12)
    np.testing.assert_allclose(slope[mask], in_float64(name)[1], rtol=1e-9, atol=1e-12)
    assert (slope[~mask] == 0).all()


def test_vertices_that_do_not_fill_their_blocks_count_too():
    """20 rows: blocks of 16 and of 4."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    found = jax.jit(losses.relational_loss)(x.astype(np.float32), y.astype(np.float32))
    np.testing.assert_allclose(found, oracles.relational(x, y), rtol=tolerance(20 * 20 * 3))


def test_a_batch_of_which_nothing_counts_adds_nothing():
    mask = np.zeros(ROWS, bool)
    for name, (loss, _, kind) in LOSSES.items():
        x, y, _ = (part.astype(np.float32) for part in inputs(kind))
        if name in ("mse", "decoupled_kd", "relational"):  # of each row, with labels, of all
            value, slope = jax.jit(jax.value_and_grad(loss))(x, y, mask=mask)
            assert value == 0
            assert (np.asarray(slope) == 0).all()


@pytest.mark.parametrize("name", list(LOSSES))
def test_half_precision_is_upcast_and_products_are_of_the_highest_precision(name):
    loss, _, kind = LOSSES[name]
    x, y, _ = (jnp.asarray(part, jnp.bfloat16) for part in inputs(kind))
    program = jax.make_jaxpr(jax.value_and_grad(loss))(x, y)
    assert [part.dtype for part in program.out_avals] == [jnp.float32, jnp.bfloat16]
    highest = (jax.lax.Precision.HIGHEST,) * 2
    assert all(precision == highest for _, precision in matrix_products(program.jaxpr))


def test_kd_is_its_two_parts_weighed_by_the_teachers_doubt():
    s, t, label = DATA["logits"][:1], DATA["teacher"][:1], DATA["labels"][:1].astype(np.int32)
    with jax.enable_x64(True):
        doubt = 1 - float(jax.nn.softmax(jnp.asarray(t[0]) / 4)[label[0]])
        both = losses.decoupled_kd_loss(s, t, label, alpha=1.0, beta=doubt)
        np.testing.assert_allclose(float(both), float(losses.kd_loss(s, t)), rtol=1e-12)


def test_sure_networks_have_the_divergence_that_logits_say():
    """Beyond rounding of probabilities, where a logarithm of their sum would be of 0."""
    student = jnp.array([[200.0, 0.0, 1.0]])
    teacher = jnp.array([[0.0, 200.0, -jnp.inf]])
    label = jnp.array([0])
    found, slope = jax.value_and_grad(losses.kd_loss)(student, teacher, temperature=1.0)
    assert found == 200
    np.testing.assert_allclose(slope, [[1.0, -1.0, 0.0]], atol=1e-6)
    options = {"alpha": 1.0, "beta": 1.0, "temperature": 1.0}
    found, slope = jax.value_and_grad(losses.decoupled_kd_loss)(student, teacher, label, **options)
    doubt = np.log1p(np.exp(1.0))  # of the student's other two classes, one is ruled out
    np.testing.assert_allclose(found, (200 - doubt) + doubt, rtol=1e-6)
    assert np.isfinite(slope).all()


def test_a_label_that_is_no_class_is_seen():
    x, y, _ = (part.astype(np.float32) for part in inputs("logits"))
    for label in (-1, golden.CLASSES):
        labels = DATA["labels"].astype(np.int32)
        labels[4] = label
        assert np.isnan(losses.decoupled_kd_loss(x, y, labels))


F32 = np.float32
WRONG = {
    "rows": (lambda x, y: losses.pkt_loss(x[:-1], y), r"features \[8, 6\] and target \[9, 4\]"),
    "widths": (lambda x, y: losses.mse_loss(x, y), "other widths: project the features"),
    "classes": (lambda x, y: losses.kd_loss(x, y), "other widths: give the teacher's logits"),
    "whole numbers": (lambda x, y: losses.cosine_loss(x, x.astype(int)), "target must be real fl"),
    "one row": (lambda x, y: losses.similarity_preserving_loss(x[:1], y[:1]), "at least 2 rows"),
    "two rows": (lambda x, y: losses.relational_loss(x[:2], y[:2]), "at least 3 rows, got 2"),
    "mask": (lambda x, y: losses.pkt_loss(x, y, mask=np.ones(3, bool)), "mask must be bool"),
    "temperature": (lambda x, y: losses.kd_loss(x, x, temperature=0.0), "temperature=0.0: give"),
    "weight": (lambda x, y: losses.relational_loss(x, y, angle=-1.0), "angle=-1.0: give weights"),
    "one class": (
        lambda x, y: losses.decoupled_kd_loss(x[:, :1], y[:, :1], DATA["labels"]),
        "logits have 1 class: a decoupled KD loss needs 2 or more",
    ),
    "labels": (lambda x, y: losses.decoupled_kd_loss(x, x, x[:, 0]), "labels must be whole"),
    "floor": (lambda x, y: losses.variance_loss(x, floor=0.0), "floor=0.0, epsilon=0.0001: give"),
    "vector": (lambda x, y: losses.variance_loss(x[0]), r"features must be \[rows, features\]"),
}


@pytest.mark.parametrize("case", list(WRONG))
def test_wrong_input_is_refused_in_one_line(case):
    call, message = WRONG[case]
    with pytest.raises(ValueError, match=message) as caught:
        call(DATA["features"].astype(F32), DATA["target"].astype(F32))
    assert "\n" not in str(caught.value)
