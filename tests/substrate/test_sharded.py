"""PCKA of domains of few varying directions, against float64 NumPy, and one definition for all."""

import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax import kernels
from substrate_jax.analyses.domains.compare import compare_domains
from substrate_jax.kernels.reference import statistics as reference
from substrate_jax.mesh import make_mesh
from substrate_jax.substrate import Substrate, pairwise_pcka, pcka
from substrate_jax.substrate.sharded import PlacedDomains
from tests.helpers import relative_error, tolerance

WIDTHS = (30, 20)
K = 5


def domain(seed: int, rank: int, n: int) -> dict[str, np.ndarray]:
    """Features of `rank` varying directions, whose standardized ones are well apart."""
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(99).normal(size=(8, sum(WIDTHS)))[:rank]
    latent = rng.normal(size=(n, rank)) * 1.5 ** -np.arange(rank)
    x = (latent @ (shared + 3 * rng.normal(size=shared.shape)) + 1).astype(np.float32)
    return dict(zip(("one", "two"), np.split(x, np.cumsum(WIDTHS)[:-1], axis=1), strict=True))


def standardized(features) -> np.ndarray:
    x = np.concatenate([np.asarray(block, np.float64) for block in features.values()], axis=1)
    deviation = x.std(0)
    return (x - x.mean(0)) / np.where(deviation > 1e-6, deviation, np.inf)


def oracle(domains) -> np.ndarray:
    """PCKA in float64 of components that vary; 0 with a domain that does not."""
    parts = []
    for features in domains:
        x = standardized(features)
        _, sizes, rows = np.linalg.svd(x, full_matrices=False)
        parts.append((x, rows[:K][sizes[:K] ** 2 > 1e-9 * sizes[0] ** 2].T))
    return np.array(
        [[reference.pcka(*a, *b) if a[1].size and b[1].size else 0 for b in parts] for a in parts]
    )


RANKS = {
    "below k": (2, 3, 2),
    "one direction": (1, 6, 1),
    "no variance": (6, 0, 3),
    "all": (6, 7, 8),
}


@pytest.mark.parametrize("ranks", RANKS.values(), ids=RANKS)
@pytest.mark.parametrize(
    "rows",
    [
        pytest.param((40, 64, 33), id="wide"),
        pytest.param((90, 90, 90), id="tall", marks=pytest.mark.long),
    ],
)
def test_all_ways_to_pcka_agree_where_components_do_not_vary(ranks, rows):
    domains = [domain(seed, *shape) for seed, shape in enumerate(zip(ranks, rows, strict=True))]
    want = oracle(domains)
    # A direction is known to 1e-5 over its relative gap, above 0.05 here.
    limit = {"atol": 1e-3, "rtol": 0}
    got = pairwise_pcka(domains, K)
    np.testing.assert_allclose(got, want, **limit)
    blocks = [list(features.values()) for features in domains]
    fitted = PlacedDomains.place(blocks, make_mesh("data=1")).fit(K)
    np.testing.assert_allclose(fitted.placed.pcka(fitted.components), got, atol=1e-5)
    named = {str(i): features for i, features in enumerate(domains)}
    compared = compare_domains(named, ["f", "f"], k=K, ks=(), draws=0, splits=0)[0]
    np.testing.assert_allclose(compared.pcka.matrix, got, atol=1e-4)
    for features, basis, scores, rank in zip(
        domains, fitted.components, fitted.scores, ranks, strict=True
    ):
        held = np.asarray(basis).any(axis=0)
        assert held.sum() == min(rank, K)
        alone = Substrate.fit(features, K)
        np.testing.assert_array_equal(np.asarray(alone.basis).any(axis=0), held)
        assert (np.asarray(alone.explained_variance_ratio)[~held] == 0).all()
        own = np.asarray(scores)[: len(features["one"])]
        assert np.abs(own - alone.transform(features)).max() < 1e-4 * max(np.abs(own).max(), 1)


def test_directions_without_variance_would_count_in_full_bases():
    """What the test above rules out: PCA completes a basis, by directions the data do not have."""
    domains = [domain(seed, rank, 40) for seed, rank in enumerate(RANKS["below k"])]
    xs = [jnp.asarray(standardized(features), jnp.float32) for features in domains]
    full = kernels.pairwise_pcka(xs, [kernels.pca(x, K).components for x in xs])
    assert np.abs(full - oracle(domains)).max() > 0.02


def test_one_device_and_eight_agree():
    domains = [domain(0, 6, 61), domain(1, 7, 40)]
    one, eight = (pairwise_pcka(domains, K, mesh=make_mesh(f"data={n}")) for n in (1, 8))
    np.testing.assert_allclose(one, eight, atol=1e-5)
    assert pcka(*domains, K) == pytest.approx(one[0, 1], abs=1e-5)


def test_own_rows_of_one_sided_cka_are_those_of_all_pairs():
    features = [domain(0, 6, 50), domain(1, 7, 40)]
    rng = np.random.default_rng(0)
    bases = [np.linalg.qr(rng.normal(size=(50, 3)))[0].astype(np.float32) for _ in range(4)]
    placed = PlacedDomains.place([list(one.values()) for one in features], make_mesh())
    found = placed.one_sided_cka([bases, bases[:3]], [[0, 3], [1, 2]])
    for one, got, own, among in zip(
        features, found, ([0, 3], [1, 2]), (bases, bases[:3]), strict=True
    ):
        x = np.concatenate(list(one.values()), axis=1).astype(np.float64)
        want = reference.pairwise_cka([x @ basis for basis in among])[own]
        assert relative_error(got, want) < tolerance(50, condition=10)


def test_bad_domains_are_called_by_their_numbers():
    good = domain(0, 6, 40)
    with pytest.raises(ValueError, match="domain '1' has encoders of widths"):
        pairwise_pcka([good, {"one": good["one"]}], K)
    with pytest.raises(ValueError, match="domain 'b' has 5 images: k=5 components need 6"):
        pcka(good, {name: block[:5] for name, block in good.items()}, K)
