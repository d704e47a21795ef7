r"""The least effect by planting it: a signal of known strength in rows that have none.

X are the scores of one side on its components and Y those of the other, both n x K with columns by
descending variance. A draw puts the rows of Y in a random order P, so that nothing is shared, and
arranges a share w of Y's variance as X:

    Y_w = sqrt(1 - w) P Y + sqrt(w) U diag(sigma_Y),    U = X / sigma_X,

U the scores of X with deviation 1. Y_w has the variances of Y but for the chance agreement of PY
and U. It is found if its p by the closed form is at most alpha. The share w at which a share
`power` of draws is found is looked for by halving log w; all w see the same orders. The mean of the
measure there is the least effect, to be held against the one that the null predicts (`measure`).

**Expected.** That one is too low, for what is shared and what is not meet in a term of mean 0 that
the null does not have. With s_k, t_k the variances of the components of X and Y, and the mean m,
deviation d and tau of the null, CKA has about the mean and variance

    (1 - w) m + w c,    c = sum s_k t_k / sqrt(sum s_k^2 sum t_k^2),
    (1 - w)^2 d^2 + 4 w (1 - w) v,    v = sum s_k^2 t_k^2 / (n sum s_k^2 sum t_k^2),

(the term is 2 sqrt(w (1-w)) sum_k n sqrt(s_k t_k) (X'PY)_kk in the units of ||X'Y||^2, and an entry
of X'PY has the variance n s_k t_k). The w at which the normal law with them is above tau with the
wanted power gives the least effect in closed form.

Cost: 10 strengths of `draws` pairs of blocks of K features, n^2 K each.

Not guaranteed: the last digits on another number of devices, nor that a real effect has this form.
What is shared here is shared by all components
alike; one that lies in the weakest alone is harder to see.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float
from scipy import stats

from substrate_jax import kernels
from substrate_jax.analyses.crossmodal.results import CKA, KNN, Null, Planted
from substrate_jax.kernels.arithmetic import divide, from_first, gather_rows
from substrate_jax.kernels.nulls.orders import row_orders
from substrate_jax.mesh import DATA_AXIS, EVERYWHERE, ROWS, over_rows, replicate, shard_rows

LEAST_SHARE, HALVINGS = 1e-4, 9
STRENGTHS = HALVINGS + 2  # that are tried at most: none, all, and those between


def plant(
    left: Float[np.ndarray, "n K"],
    right: Float[np.ndarray, "n K"],
    measure: str,
    null: Null,
    *,
    neighbors: int,
    alpha: float,
    power: float,
    draws: int,
    seed: int,
    mesh: Mesh,
    progress: Callable[[], object] = lambda: None,
) -> Planted:
    """Plants a shared signal, and finds the strength at which it is detected often enough.

    Args:
        left: scores on components, by descending variance.
        right: those of the other side; their order of rows does not matter.
        measure: "cka" or "mutual_knn".
        null: of the measure against all orders of the rows.
        neighbors: of mutual kNN.
        alpha: level.
        power: share of draws to be detected.
        draws: orders of the rows.
        seed: of them.
        mesh: whose devices share the draws.
        progress: called after each strength.

    Returns:
        What was tried, by ascending strength from none, and the least effect.

    Example:
        >>> from substrate_jax.mesh import make_mesh
        >>> x, y = np.random.default_rng(0).normal(size=(2, 60, 2)).astype(np.float32)
        >>> options = dict(neighbors=5, alpha=0.05, power=0.8, draws=40, seed=0)
        >>> null = Null(0.03, 0.02, 0.08, 1.0, 0.0, 0.1, "closed_form")
        >>> found = plant(x, y, "cka", null, **options, mesh=make_mesh("data=1"))
        >>> float(found.detected[-1]), 0.03 < found.least < 0.3
        (1.0, True)
    """
    key = jax.random.key(seed)
    orders, _ = shard_rows(np.asarray(row_orders(key, draws, len(left)), np.int32), mesh)
    blocks = replicate((np.asarray(left), np.asarray(right)), mesh)
    program = _program(mesh, measure, neighbors, alpha)
    tried: dict[float, tuple[float, float]] = {}

    def rate(share: float) -> float:
        value, found = program(*blocks, replicate(np.float32(share), mesh), orders)
        tried[share] = (
            float(np.asarray(value)[:draws].mean(dtype=np.float64)),
            float(np.asarray(found)[:draws].mean()),
        )
        progress()
        return tried[share][1]

    rate(0.0)
    if rate(1.0) >= power:
        low, high = LEAST_SHARE, 1.0
        for _ in range(HALVINGS):
            middle = float(np.sqrt(low * high))
            low, high = (low, middle) if rate(middle) >= power else (middle, high)
    shares = sorted(tried)
    values, rates = (np.array([tried[share][i] for share in shares]) for i in (0, 1))
    least_share, least = _crossing(shares, values, rates, power)
    expected = expected_cka(left, right, null, power) if measure == CKA else float("nan")
    by_null = null.least
    return Planted(measure, shares, values, rates, draws, least_share, least, by_null, expected)


def expected_cka(
    left: Float[np.ndarray, "n K"], right: Float[np.ndarray, "n K"], null: Null, power: float
) -> float:
    """The least effect of a planted signal in closed form; NaN where none is enough.

    Args:
        left: scores on components.
        right: those of the other side.
        null: of CKA against all orders of the rows.
        power: share of draws to be detected.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(400, 2))
        >>> null = Null(0.005, 0.004, 0.013, 1.0, 0.0, 0.015, "closed_form")
        >>> round(expected_cka(x, x, null, 0.8), 3)
        0.021
    """
    s, t = (np.var(np.asarray(block, np.float64), axis=0) for block in (left, right))
    norm = np.sum(s**2) * np.sum(t**2)
    if norm == 0:
        return float("nan")
    most, meeting = np.sum(s * t) / np.sqrt(norm), np.sum(s**2 * t**2) / norm / len(left)
    shares = np.geomspace(LEAST_SHARE, 1, 4096)
    mean = (1 - shares) * null.mean + shares * most
    variance = (1 - shares) ** 2 * null.deviation**2 + 4 * shares * (1 - shares) * meeting
    enough = np.flatnonzero(mean - stats.norm.ppf(power) * np.sqrt(variance) >= null.tau)
    return float(mean[enough[0]]) if len(enough) else float("nan")


def _crossing(shares: Sequence[float], values, rates, power: float) -> tuple[float, float]:
    """Strength and value where the rate of detection passes the power, between two that were tried.

    Example:
        >>> _crossing([0.1, 0.2], np.array([0.3, 0.5]), np.array([0.7, 0.9]), 0.8)
        (0.15000000000000002, 0.4)
    """
    above = np.flatnonzero(rates >= power)
    if not len(above):
        return float("nan"), float("nan")
    after = int(above[0])
    if after == 0:  # found without a signal: the null does not hold
        return float(shares[0]), float(values[0])
    before = after - 1
    part = (power - rates[before]) / (rates[after] - rates[before])
    found = (a[before] + part * (a[after] - a[before]) for a in (np.asarray(shares), values))
    share, value = map(float, found)
    return share, value


@functools.lru_cache
def _program(mesh: Mesh, measure: str, neighbors: int, alpha: float):
    def compute(left, right, share, orders):
        x, y = (kernels.center(block) for block in (left, right))
        sigma_x, sigma_y = (jnp.sqrt(jnp.mean(block**2, axis=0)) for block in (x, y))
        signal = divide(x, sigma_x[None]) * sigma_y[None]

        def draw(order):
            mixed = jnp.sqrt(1 - share) * y[order] + jnp.sqrt(share) * signal
            if measure == KNN:
                found = kernels.calibrate_mutual_knn([x, mixed], (neighbors,), alpha=alpha)
                value, p_value = found.observed[0, 0, 1], found.p_value[0, 0, 1]
            else:
                found = kernels.calibrate_cka([x, mixed], alpha=alpha, skewness="exact")
                value, p_value = found.observed[0, 1], found.p_value[0, 1]
            return value, (p_value <= alpha).astype(jnp.float32)

        everyone = (gather_rows(a, DATA_AXIS) for a in jax.lax.map(draw, orders))
        return tuple(from_first(a, DATA_AXIS) for a in everyone)

    assert measure in (CKA, KNN)
    return over_rows(compute, mesh, (EVERYWHERE, EVERYWHERE, EVERYWHERE, ROWS))
