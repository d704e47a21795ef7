"""What the kernels under stress should give: textbook forms in NumPy and float64.

Each takes blocks in float64 and gives a tuple of arrays. NaN and inf of an encoder are carried to
what depends on it, and a constant encoder is 0, as the docstrings of the kernels say.
"""

from itertools import permutations

import numpy as np
import scipy.linalg
import scipy.stats

from substrate_jax.kernels.reference import measures, statistics
from tests.kernels.nulls.test_permutation_moments import cubic_sums
from tests.kernels.stress.cells import EPS


def finite(*blocks) -> bool:
    return all(np.isfinite(x).all() for x in blocks)


def constant(x) -> bool:
    return len(x) < 2 or bool((x == x[:1]).all())


def pairs(function, empty=constant):
    """The matrix of a measure of two encoders."""

    def value(x, y):
        if not finite(x, y):
            return np.nan
        return 0.0 if empty(x) or empty(y) else function(x, y)

    return lambda blocks: (np.array([[value(x, y) for y in blocks] for x in blocks]),)


def same_ranks(x, distance="correlation") -> bool:
    return constant(x) or np.ptp(measures.dissimilarities(x, distance)) == 0


def unit_gram(x):
    """Centered Gram matrix of trace 1 and the root of its trace."""
    if not finite(x):
        return np.full((len(x),) * 2, np.nan), np.nan
    if constant(x):
        return np.zeros((len(x),) * 2), 0.0
    largest = np.abs(x).max()
    gram = statistics.gram(x / largest)
    return gram / np.trace(gram), largest * np.sqrt(np.trace(gram))


def rbf_gram(x):
    """The same of the Gaussian kernel."""
    n = len(x)
    if not finite(x):
        return np.full((n, n), np.nan), np.nan
    square = measures.distances(x) ** 2
    median = measures.median_distance(x)
    kernel = np.where(square == 0, 1.0, 0.0 if median == 0 else np.exp(-square / 2 / median**2))
    h = np.eye(n) - 1 / n
    gram = h @ kernel @ h
    trace = 0.0 if constant(x) else np.trace(gram)
    return (gram / trace if trace else 0 * gram), np.sqrt(trace)


def distance_gram(x):
    """The same of distances with their sign changed."""
    n = len(x)
    if not finite(x):
        return np.full((n, n), np.nan), np.nan
    h = np.eye(n) - 1 / n
    gram = -h @ measures.distances(x) @ h
    trace = 0.0 if constant(x) else np.trace(gram)
    return (gram / trace if trace else 0 * gram), np.sqrt(trace)


def hsic(blocks, of=unit_gram):
    """inner, diagonal, trace, scale."""
    grams, scales = zip(*map(of, blocks), strict=True)
    inner = np.array([[np.sum(k * l) for l in grams] for k in grams])  # noqa: E741
    diagonal = np.array([[np.diag(k) @ np.diag(l) for l in grams] for k in grams])  # noqa: E741
    return inner, diagonal, np.array([np.trace(k) for k in grams]), np.array(scales)


def cubic(blocks):
    sums = [cubic_sums(gram) if scale else [0.0] * 5 for gram, scale in map(unit_gram, blocks)]
    return (*hsic(blocks), np.array(sums).T)


def ratio(inner):
    """inner / sqrt(inner_ii inner_jj), 0 for 0 / 0."""
    norm = np.sqrt(np.diag(inner))
    norm = norm[:, None] * norm[None]
    return np.where(norm == 0, 0, inner / np.where(norm == 0, 1, norm))


def cka(blocks, of=unit_gram):
    return (ratio(hsic(blocks, of)[0]),)


def debiased(blocks, of=unit_gram):
    if len(blocks[0]) < 4:
        return (np.full((len(blocks),) * 2, np.nan),)
    grams = [of(x)[0] for x in blocks]
    return (ratio(np.array([[statistics.hsic_unbiased(k, l) for l in grams] for k in grams])),)  # noqa: E741


def permuted_cka(blocks, orders):
    """CKA under each order of the second side, for i <= j, mirrored; and as it is."""
    grams = np.stack([unit_gram(x)[0] for x in blocks])
    norm = np.sqrt(np.einsum("iab,iab->i", grams, grams))
    norm = np.where(norm[:, None] * norm == 0, 1, norm[:, None] * norm)

    def score(order):
        found = np.einsum("iab,jab->ij", grams, grams[:, order][:, :, order]) / norm
        return np.triu(found) + np.triu(found, 1).T

    return np.array([score(np.asarray(order)) for order in orders]), score(np.arange(len(grams[0])))


def of_null(observed, null, alpha, *, every_order=False, slack=16 * EPS):
    """score, tau and p of scores [...] against a null [draws, ...]."""
    if every_order:
        draws, rank = null, np.ceil(round((1 - alpha) * len(null), 9))
        p = np.mean(null >= observed - slack, axis=0)
    else:
        draws = np.concatenate([null, observed[None]])
        rank = np.ceil(round((1 - alpha) * len(draws), 9))
        p = (1 + np.sum(null >= observed - slack, axis=0)) / len(draws)
    tau = np.sort(draws, axis=0)[int(rank) - 1]
    room = np.where(1 - tau <= 16 * EPS, 0, 1 - tau)
    score = np.where(room > 0, np.maximum(observed - tau, 0) / np.where(room > 0, room, 1), 0)
    missing = np.isnan(observed)
    return tuple(np.where(missing, np.nan, a) for a in (score, tau, p))


def calibrated(blocks, orders, alpha, slack=16 * EPS):
    null, observed = permuted_cka(blocks, orders)
    return of_null(observed, null, alpha, slack=slack)


def every_order(n):
    return list(permutations(range(n)))


def moments(null):
    """Mean, variance and skewness over draws; a point has the skewness 0."""
    mean = null.mean(0)
    variance = ((null - mean) ** 2).mean(0)
    point = variance < 1e-20
    third = ((null - mean) ** 3).mean(0) / np.where(point, 1, variance) ** 1.5
    return mean, np.where(point, 0, variance), np.where(point, 0, third)


def products(blocks):
    """[n!, E, E] of <K, P L P'>."""
    grams = np.stack([unit_gram(x)[0] for x in blocks])
    orders = every_order(len(grams[0]))
    return np.stack(
        [np.einsum("iab,jab->ij", grams, grams[:, list(o)][:, :, list(o)]) for o in orders]
    )


def of_four_rows(oracle):
    """NaN where fewer than 4 rows are given."""

    def value(blocks):
        found = oracle(blocks)
        return tuple(a + np.nan if len(blocks[0]) < 4 else a for a in found)

    return value


@of_four_rows
def product_moments(blocks):
    null = products(blocks)
    mean = null.mean(0)
    return mean, ((null - mean) ** 2).mean(0)


@of_four_rows
def product_third(blocks):
    null = products(blocks)
    return (((null - null.mean(0)) ** 3).mean(0),)


@of_four_rows
def cka_moments(blocks):
    return moments(permuted_cka(blocks, every_order(len(blocks[0])))[0])


def cka_of_every_order(blocks, alpha, slack=16 * EPS):
    null, observed = permuted_cka(blocks, every_order(len(blocks[0])))
    return of_null(observed, null, alpha, every_order=True, slack=slack)


def knn_null(blocks, k):
    """[n!, E, E] and [E, E] of mutual k-NN recall."""
    n = len(blocks[0])

    def null(x, y):
        if not finite(x, y):
            return np.full(len(every_order(n)), np.nan)
        if constant(x) or constant(y):
            return np.zeros(len(every_order(n)))
        return statistics.mutual_knn_null(x, y, k)

    draws = np.array([[null(x, y) for y in blocks] for x in blocks])
    return np.moveaxis(draws, -1, 0), draws[..., 0]


def knn_moments(blocks, k):
    return moments(knn_null(blocks, k)[0])


def knn_of_every_order(blocks, k, alpha):
    null, observed = knn_null(blocks, k)
    score, tau, p = of_null(observed, null, alpha, every_order=True)
    return score, tau, p


def gamma_calibrated(blocks, alpha):
    """score, tau and log10 p of CKA, moments as printed by Josse, Pages and Husson (2008)."""
    n = len(blocks[0])
    if n <= 8:
        score, tau, p = cka_of_every_order(blocks, alpha)
        return score, tau, np.log10(p)
    inner, diagonal, trace, _ = hsic(blocks)
    observed = ratio(inner)
    result = np.zeros((3, *observed.shape))
    for i, j in np.ndindex(observed.shape):
        if np.isnan(observed[i, j]) or trace[i] * trace[j] == 0:
            result[:, i, j] = np.nan if np.isnan(observed[i, j]) else 0
            continue
        beta = [1 / inner[e, e] for e in (i, j)]
        tau = [
            (n - 1)
            / ((n - 3) * (n - 1 - b))
            * (n * (n + 1) * diagonal[e, e] * b - (n - 1) * (b + 2))
            for b, e in zip(beta, (i, j), strict=True)
        ]
        mean = np.sqrt(beta[0] * beta[1]) / (n - 1)
        variance = 2 * (n - 1 - beta[0]) * (n - 1 - beta[1]) / ((n + 1) * (n - 1) ** 2 * (n - 2))
        variance *= 1 + (n - 3) / (2 * n * (n - 1)) * tau[0] * tau[1]
        law = scipy.stats.gamma(mean**2 / variance, scale=variance / mean)
        log10 = max(law.logsf(observed[i, j]), -np.sum(np.log(np.arange(1, n + 1)))) / np.log(10)
        high = law.isf(alpha)
        result[:, i, j] = max((observed[i, j] - high) / (1 - high), 0), high, log10
    return tuple(result)


def neighbor_cosines(x, k, lists=None):
    """[n, k] cosines of the nearest rows, or of those in the lists; NaN where there is none."""
    usable = np.isfinite(x).all(1)
    with np.errstate(invalid="ignore"):
        size = np.abs(x).max(1, keepdims=True)
        unit = np.where(usable[:, None] & (size > 0), x / np.where(size > 0, size, 1), 0)
    norm = np.linalg.norm(unit, axis=1, keepdims=True)
    unit = unit / np.where(norm > 0, norm, 1)
    cosines = unit @ unit.T
    if lists is not None:
        assert all(len({*row}) == k or -1 in row for row in lists)
        assert not (lists == np.arange(len(x))[:, None]).any()
        found = np.take_along_axis(cosines, np.maximum(lists, 0), axis=1)
        return np.where(lists < 0, np.nan, found)
    cosines[:, ~usable] = -np.inf
    np.fill_diagonal(cosines, -np.inf)
    nearest = -np.sort(-cosines, axis=1)[:, :k]
    return np.where(usable[:, None] & np.isfinite(nearest), nearest, np.nan)


def column_means(x):
    """NaN where a column has NaN or inf."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(x).all(0), x.mean(0), np.nan)


def covariance(x):
    mean = column_means(x)
    return mean, (x - mean).T @ (x - mean) / max(len(x) - 1, 1)


def pca(x, k):
    """Mean, variances, their share, and V diag(share) V', which no sign or order changes."""
    if not finite(x):
        shapes = ((k,), (k,), (x.shape[1],) * 2)
        return column_means(x), *(np.full(shape, np.nan) for shape in shapes)
    if constant(x):
        return x[0], np.zeros(k), np.zeros(k), np.zeros((x.shape[1],) * 2)
    components, variance = statistics.pca(x, k)
    share = variance / (((x - x.mean(0)) ** 2).sum() / (len(x) - 1))
    return x.mean(0), variance, share, (components * share) @ components.T


def angles(a, b):
    """Principal angles, NaN where the columns of a basis are dependent within float32."""
    for basis in (a, b):
        size = np.linalg.norm(basis, axis=0)
        if not finite(basis) or not (size > 0).all():
            return np.full(min(a.shape[1], b.shape[1]), np.nan)
        values = np.linalg.svd(basis / size, compute_uv=False)
        if values[-1] <= basis.shape[1] * EPS * values[0]:
            return np.full(min(a.shape[1], b.shape[1]), np.nan)
    return scipy.linalg.subspace_angles(a, b)[::-1]


def alignment(a, b):
    """||B'A||_* / (||A|| ||B||), what the best rotation reaches."""
    if not finite(a, b):
        return np.nan
    sizes = np.linalg.norm(a), np.linalg.norm(b)
    if 0 in sizes:
        return 0.0
    return np.linalg.svd((b / sizes[1]).T @ (a / sizes[0]), compute_uv=False).sum()


def disparity(a, b):
    if not finite(a, b):
        return np.nan
    size = np.linalg.norm(a)
    other = np.linalg.norm(b)
    if size == 0:
        return np.nan if other == 0 else np.inf
    return max(1 + (other / size) ** 2 - 2 * alignment(a, b) * other / size, 0)


def two_block_loss(a, b):
    """The loss of generalized Procrustes for two blocks, where one rotation is all there is."""
    if not finite(a, b):
        return np.nan
    sizes = np.array([np.linalg.norm(a), np.linalg.norm(b)])
    sizes = sizes / max(sizes.max(), 1e-300)
    total = (sizes**2).sum()
    return 0.5 * (total - 2 * sizes.prod() * alignment(a, b)) / total if total else 0.0


def pcka(blocks, bases):
    """[2, 2]; CKA of scores that are constant is 0."""

    def one(x, i, j):
        if not finite(x):
            return np.nan
        centered = (x - x.mean(0)) / max(np.abs(x).max(), 1e-300)
        return cka([centered @ bases[i], centered @ bases[j]])[0][0, 1] if not constant(x) else 0.0

    return np.array(
        [[(one(blocks[i], i, j) + one(blocks[j], i, j)) / 2 for j in (0, 1)] for i in (0, 1)]
    )
