"""Controls against float64 NumPy, limits where the answer is known, and bad input."""

import dataclasses
import itertools

import numpy as np
import pytest

from substrate_jax.analyses.domains.controls import control_agreement
from substrate_jax.analyses.domains.readings import READINGS
from substrate_jax.kernels.reference import statistics as reference
from substrate_jax.mesh import make_mesh

K = 3
WIDTHS = (9, 7, 5)
ROWS = {"plants": 45, "stones": 33, "clouds": 40}
# PCA stops at a residual of 1e-5; the relative gaps of these spectra are above 0.05.
LIMIT = 1e-3


def standardized(x) -> np.ndarray:
    x = np.asarray(x, np.float64)
    deviation = x.std(0)
    return (x - x.mean(0)) / np.where(deviation > 0, deviation, 1)


def decaying(rng, n: int, width: int) -> np.ndarray:
    """Features whose leading components are well apart."""
    latent = rng.normal(size=(n, 4)) * 2.0 ** -np.arange(4)
    return latent @ rng.normal(size=(4, width)) + 0.05 * rng.normal(size=(n, width)) + 1


def components(x, k: int = K) -> np.ndarray:
    return np.linalg.svd(x - x.mean(0), full_matrices=False)[2][:k].T


@dataclasses.dataclass
class Example:
    xs: dict
    bases: dict
    images: dict

    def run(self, **options):
        defaults = {"seeds": 0, "draws": 0}
        widths = options.pop("widths", WIDTHS)
        return control_agreement(self.xs, self.bases, widths, self.images, **defaults | options)

    def matrix(self, xs, bases) -> np.ndarray:
        """The PCKA of all pairs, in float64."""
        names = list(self.xs)
        return np.array(
            [[reference.pcka(xs[a], bases[a], xs[b], bases[b]) for b in names] for a in names]
        )


@pytest.fixture(scope="module")
def example():
    rng = np.random.default_rng(0)
    xs = {name: standardized(decaying(rng, n, sum(WIDTHS))) for name, n in ROWS.items()}
    images = {
        name: {
            "pixels": decaying(rng, n, 2).astype(np.float32),
            "handcrafted": decaying(rng, n, 6).astype(np.float32),
        }
        for name, n in ROWS.items()
    }
    images["stones"]["handcrafted"][:, 2:] = 0.25
    bases = {name: components(x).astype(np.float32) for name, x in xs.items()}
    return Example({name: x.astype(np.float32) for name, x in xs.items()}, bases, images)


@pytest.fixture(scope="module")
def found(example):
    """The panel's own features, scaled, stand for an untrained panel."""
    cuts = np.cumsum(WIDTHS)[:-1]
    panel = {
        name: {f"encoder{i}": 3 * b + 5 for i, b in enumerate(np.split(x, cuts, axis=1))}
        for name, x in example.xs.items()
    }
    steps = []
    result = example.run(
        seeds=40,
        draws=3,
        untrained_panels=[panel],
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(i, 49) for i in range(1, 50)]
    return result


def test_the_table_lists_what_is_computed_and_one_primary_reading_each(found):
    assert [(r.control, r.name) for r in READINGS] == [
        (control, name) for control, readings in found.items() for name in readings
    ]
    for control, readings in itertools.groupby(READINGS, lambda reading: reading.control):
        readings = list(readings)
        assert [r.primary for r in readings] == [True] + [False] * (len(readings) - 1)
        for reading in readings:
            result = found[control][reading.name]
            assert (result.paper, result.paper_high) == (reading.paper, reading.paper_high)
    paper = {r.control: (r.paper, r.paper_high) for r in READINGS if r.primary}
    assert paper["pixels"] == (0.263, None)
    assert paper["random"] == (0.041, 0.087)


# Pixels are two features here, and of the stones' hand-crafted ones two vary.
COUNTS = {"pixels": {}, "handcrafted": {"plants": K, "clouds": K}}


@pytest.mark.parametrize("control", COUNTS)
def test_image_features_are_read_as_the_oracle_reads_them(example, found, control):
    xs = {name: standardized(x) for name, x in example.xs.items()}
    fs = {name: standardized(blocks[control]) for name, blocks in example.images.items()}
    own = {name: components(f, COUNTS[control].get(name, 2)) for name, f in fs.items()}
    carried = {name: np.linalg.qr(xs[name].T @ fs[name] @ own[name])[0] for name in xs}
    overlap = [
        reference.pairwise_cka([xs[name] @ example.bases[name], fs[name] @ own[name]])[0, 1]
        for name in xs
    ]
    got = found[control]
    np.testing.assert_allclose(got["own"].matrix, example.matrix(fs, own), atol=LIMIT)
    np.testing.assert_allclose(got["carried"].matrix, example.matrix(xs, carried), atol=LIMIT)
    np.testing.assert_allclose(got["overlap"].values, overlap, atol=LIMIT)
    assert got["overlap"].median == np.median(got["overlap"].values)
    pairs = got["own"].matrix[np.triu_indices(3, 1)]
    np.testing.assert_array_equal(got["own"].values, pairs)
    assert got["own"].median == np.median(pairs)
    assert got["own"].low is got["own"].high is None


def test_random_readings_are_those_of_the_oracle_with_the_same_draws(example, found):
    names, xs = list(example.xs), example.xs
    for_bases, for_scores, _ = np.random.default_rng(0).spawn(3)
    want = {"both": [], "one": [], "carried": [], "overlap": []}
    for _ in range(40):
        drawn = for_bases.standard_normal((3, sum(WIDTHS), K), np.float32)
        random = {name: np.linalg.qr(block)[0] for name, block in zip(names, drawn, strict=True)}
        one = np.array(
            [
                [reference.pairwise_cka([x @ example.bases[a], x @ random[b]])[0, 1] for b in names]
                for a, x in xs.items()
            ]
        )
        want["both"].append(example.matrix(xs, random))
        want["one"].append((one + one.T) / 2)
    for _ in range(3):
        scores = {name: for_scores.standard_normal((ROWS[name], K), np.float32) for name in names}
        carried = {name: np.linalg.qr(x.T @ scores[name])[0] for name, x in xs.items()}
        want["carried"].append(example.matrix(xs, carried))
        want["overlap"].append(
            [
                reference.pairwise_cka([x @ example.bases[name], scores[name]])[0, 1]
                for name, x in xs.items()
            ]
        )
    for name, matrices in want.items():
        got, items = found["random"][name], np.array(matrices)
        if name != "overlap":
            np.testing.assert_allclose(got.matrix, np.median(items, axis=0), atol=LIMIT)
            items = items[:, *np.triu_indices(3, 1)]
        medians = np.median(items, axis=1)
        np.testing.assert_allclose(got.values, medians, atol=LIMIT)
        assert got.draws == len(matrices)
        assert got.median == pytest.approx(np.median(medians), abs=LIMIT)
        assert got.low == pytest.approx(np.quantile(medians, 0.05), abs=LIMIT)
        assert got.high == pytest.approx(np.quantile(medians, 0.95), abs=LIMIT)
        assert got.item_high == pytest.approx(np.quantile(items, 0.95), abs=LIMIT)


def test_an_untrained_panel_is_fitted_as_the_trained_one(example, found):
    want = example.matrix(example.xs, example.bases)
    np.testing.assert_allclose(found["untrained"]["panel"].matrix, want, atol=LIMIT)


def test_shuffling_destroys_what_encoders_share_and_nothing_else(example):
    rng = np.random.default_rng(1)
    blocks = {name: decaying(rng, n, 21) for name, n in ROWS.items()}
    alone, twice = (
        {name: np.concatenate([b, other(b)], axis=1) for name, b in blocks.items()}
        for other in (np.zeros_like, np.copy)
    )
    for features, same in ((alone, True), (twice, False)):
        xs = {name: standardized(x) for name, x in features.items()}
        bases = {name: components(x) for name, x in xs.items()}
        shuffled = Example(xs, bases, example.images).run(draws=3, widths=(21, 21))["shuffled"]
        # Components of two halves side by side, one shuffled, mix them at random.
        error = np.abs(shuffled["panel"].matrix - example.matrix(xs, bases)).max()
        assert (error < LIMIT) == same, error
        assert shuffled["panel"].draws == 3


def test_a_single_encoder_cannot_be_shuffled_against_others(example):
    assert "shuffled" not in example.run(draws=2, widths=(21,))


def test_draws_depend_on_the_seed_and_not_on_the_devices(example):
    options = {"seeds": 2, "draws": 2}
    one, again, other = (
        example.run(seed=seed, mesh=make_mesh(f"data={devices}"), **options)
        for seed, devices in ((0, 8), (0, 1), (1, 8))
    )
    for control in ("random", "shuffled"):
        for name, result in one[control].items():
            np.testing.assert_allclose(again[control][name].values, result.values, atol=LIMIT)
            assert np.abs(np.subtract(other[control][name].values, result.values)).min() > 0


def test_one_domain_has_no_pairs(example):
    lone = Example(*({"plants": part["plants"]} for part in vars(example).values()))
    found = lone.run()["pixels"]
    assert found["own"].median is None
    assert found["own"].matrix.shape == (1, 1)
    assert 0 < found["overlap"].median < 1


def without(part: dict, name: str) -> dict:
    return {key: value for key, value in part.items() if key != name}


def flat(images: dict, control: str) -> dict:
    blocks = images["stones"]
    return images | {"stones": blocks | {control: np.full_like(blocks[control], 0.5)}}


BAD = {
    "few images": (
        lambda e: {"xs": e.xs | {"clouds": e.xs["clouds"][:3]}},
        "domain 'clouds' has 3 images: give 4 or more",
    ),
    "more components than images": (
        lambda e: {
            "xs": e.xs | {"clouds": e.xs["clouds"][:6]},
            "bases": {name: np.eye(21, 7, dtype=np.float32) for name in e.xs},
        },
        "domain 'clouds' has 6 images: k=7 components need 8 or more",
    ),
    "equal pixels": (
        lambda e: {"images": flat(e.images, "pixels")},
        "domain 'stones': all 33 images have the same pixels",
    ),
    "equal features": (
        lambda e: {"images": flat(e.images, "handcrafted")},
        "domain 'stones': all 33 images have the same handcrafted",
    ),
    "other rows": (
        lambda e: {"images": e.images | {"stones": e.images["clouds"]}},
        "domain 'stones': images have 40 rows, the features 33",
    ),
    "other domains": (lambda e: {"images": without(e.images, "stones")}, "images are of"),
    "no base": (lambda e: {"bases": without(e.bases, "stones")}, "bases are of"),
    "other k": (
        lambda e: {"bases": e.bases | {"stones": e.bases["stones"][:, :2]}},
        r"domain 'stones' has features \(33, 21\) and basis \(21, 2\)",
    ),
    "not finite": (
        lambda e: {"xs": e.xs | {"stones": e.xs["stones"] * np.nan}},
        "stones, features holds NaN",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(example, case):
    change, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(example, **change(example)).run()
