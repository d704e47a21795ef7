"""For tests: float64 NumPy oracles of the similarity measures, for one pair of encoders.

As in `statistics`, each function states its formula in the most direct form and shares no code with
the kernel it judges. All take features [n, d] and [n, e] of the same rows.
"""

import numpy as np

from .statistics import gram, hsic_unbiased, neighbors


def distances(x) -> np.ndarray:
    """[n, n] Euclidean distances."""
    x = np.asarray(x, np.float64)
    return np.sqrt(((x[:, None] - x[None]) ** 2).sum(2))


def median_distance(x) -> float:
    """Median distance over the pairs i < j."""
    return float(np.median(distances(x)[np.triu_indices(len(x), 1)]))


def rbf_cka(x, y, bandwidth: float = 1.0, debiased: bool = False) -> float:
    """CKA of Gaussian kernels, of uncentered ones by eq. 5 of Song et al. if debiased."""
    kernels = [
        np.exp(-(distances(z) ** 2) / (2 * (bandwidth * median_distance(z)) ** 2)) for z in (x, y)
    ]
    h = np.eye(len(kernels[0])) - 1 / len(kernels[0])

    def hsic(k, l):  # noqa: E741
        return hsic_unbiased(k, l) if debiased else np.trace(k @ h @ l @ h)

    k, l = kernels  # noqa: E741
    return float(hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l)))


def distance_correlation(x, y, debiased: bool = False) -> float:
    """dCor by centered distances; its unbiased square by U-centered ones if debiased."""
    centered = []
    for z in (x, y):
        d = distances(z)
        n = len(d)
        if debiased:
            rows = d.sum(1) / (n - 2)
            a = d - rows[:, None] - rows[None] + d.sum() / ((n - 1) * (n - 2))
            np.fill_diagonal(a, 0)
        else:
            a = d - d.mean(0)[None] - d.mean(1)[:, None] + d.mean()
        centered.append(a)
    a, b = centered
    ratio = float(np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b)))
    return ratio if debiased else float(np.sqrt(max(ratio, 0)))


def cka(x, y, debiased: bool = False) -> float:
    """Linear CKA."""
    k, l = gram(x), gram(y)  # noqa: E741
    hsic = hsic_unbiased if debiased else lambda a, b: np.sum(a * b)
    return float(hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l)))


def cknna(x, y, k: int) -> float:
    """CKA of row-centered cosines over the neighbors that both sides share, by double loop."""

    def cosines(z):
        z = np.asarray(z, np.float64)
        norm = np.linalg.norm(z, axis=1, keepdims=True)
        unit = np.divide(z, norm, out=np.zeros_like(z), where=norm > 0)
        inner = unit @ unit.T
        return inner - inner.mean(1, keepdims=True)

    def align(a, b):
        lists = [neighbors(z, k) for z in (a, b)]
        left, right = cosines(a), cosines(b)
        return sum(
            left[i, j] * right[i, j] for i in range(len(a)) for j in {*lists[0][i]} & {*lists[1][i]}
        )

    return float(align(x, y) / np.sqrt(align(x, x) * align(y, y)))


def cycle_knn(x, y, k: int) -> float:
    """Share of rows i for which some j in N_Y(i) has i in N_X(j)."""
    first, back = neighbors(y, k), neighbors(x, k)
    return float(np.mean([any(i in back[j] for j in first[i]) for i in range(len(first))]))


def neighborhood_jaccard(x, y, k: int) -> float:
    """Mean Jaccard index of the sets of neighbors."""
    lists = zip(neighbors(x, k), neighbors(y, k), strict=True)
    return float(np.mean([len({*a} & {*b}) / len({*a} | {*b}) for a, b in lists]))


def second_order_cosine(x, y, k: int) -> float:
    """Mean cosine of the similarities to the neighbors of either; 0 of a row without any."""

    def cosines(z):
        z = np.asarray(z, np.float64)
        norm = np.linalg.norm(z, axis=1, keepdims=True)
        unit = np.divide(z, norm, out=np.zeros_like(z), where=norm > 0)
        return unit @ unit.T

    lists, values = (neighbors(x, k), neighbors(y, k)), (cosines(x), cosines(y))
    total = 0.0
    for i in range(len(x)):
        union = sorted({*lists[0][i]} | {*lists[1][i]})
        s, t = (value[i, union] for value in values)
        if min(np.abs(s).max(), np.abs(t).max()) > 1e-12:
            total += s @ t / np.linalg.norm(s) / np.linalg.norm(t)
    return float(total / len(x))


def leading(x, variance: float) -> tuple[np.ndarray, np.ndarray]:
    """Left singular vectors of the fewest components holding `variance`, and the centered rows."""
    x = np.asarray(x, np.float64)
    x = x - x.mean(0)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    share = np.cumsum(s**2) / np.sum(s**2)
    count = int(np.searchsorted(share, variance * (1 - 1e-12))) + 1
    return u[:, : min(count, np.linalg.matrix_rank(x))], x


def svcca(x, y, variance: float = 0.99) -> float:
    """Mean canonical correlation of the leading components."""
    (u, _), (v, _) = leading(x, variance), leading(y, variance)
    return float(np.linalg.svd(u.T @ v, compute_uv=False).mean())


def pwcca(x, y, variance: float = 0.99) -> float:
    """Canonical correlations weighted by the projections of x's columns on x's variables."""
    (u, centered), (v, _) = leading(x, variance), leading(y, variance)
    p, rho, _ = np.linalg.svd(u.T @ v, full_matrices=False)
    weights = np.abs((u @ p).T @ centered).sum(1)
    return float((weights * rho).sum() / weights.sum())


def gulp(x, y, ridge: float = 0.01, distance: bool = False) -> float:
    """By covariances and their regularized inverses, as printed; the cosine is of its terms."""
    shapes = []
    for z in (x, y):
        z = np.asarray(z, np.float64)
        z = z - z.mean(0)
        shapes.append(z / np.linalg.norm(z) if z.any() else z)

    def term(a, b):
        left, right = (np.linalg.inv(z.T @ z + ridge * np.eye(z.shape[1])) for z in (a, b))
        return np.trace(left @ (a.T @ b) @ right @ (b.T @ a))

    (a, b), both = shapes, term(*shapes)
    if distance:
        return float(np.sqrt(max(term(a, a) + term(b, b) - 2 * both, 0)))
    return float(both / np.sqrt(term(a, a) * term(b, b)))


def eigenspace_overlap(x, y, center: bool = True, floor: float = 1e-15) -> float:
    """||U'P||^2 over the larger rank, of singular values above max(n, d) floor of the largest."""
    bases = []
    for z in (x, y):
        z = np.asarray(z, np.float64)
        u, s, _ = np.linalg.svd(z - z.mean(0) if center else z, full_matrices=False)
        bases.append(u[:, s > max(z.shape) * floor * s[0]])
    larger = max(base.shape[1] for base in bases)
    return float(np.sum((bases[0].T @ bases[1]) ** 2) / larger)


def procrustes(x, y, reflections: bool = True) -> float:
    """Nuclear norm of X'Y over the Frobenius norms, by the best rotation of padded shapes."""
    shapes = []
    for z in (x, y):
        z = np.asarray(z, np.float64)
        shape = np.zeros((len(z), max(np.shape(x)[1], np.shape(y)[1])))
        shape[:, : z.shape[1]] = z - z.mean(0)
        shapes.append(shape / np.linalg.norm(shape))
    a, b = shapes
    u, _, vt = np.linalg.svd(b.T @ a)
    if not reflections and np.linalg.det(u @ vt) < 0:
        u[:, -1] *= -1
    return float((a * (b @ (u @ vt))).sum())


def dissimilarities(x, distance: str = "correlation") -> np.ndarray:
    """1 - Pearson's r of the rows, or distances, over the pairs i < j; rounded, so that ties tie.

    r is 0 where a row is constant. Correlations are rounded to 12 decimals, distances to 12 digits.
    """
    x = np.asarray(x, np.float64)
    upper = np.triu_indices(len(x), 1)
    if distance != "correlation":
        x = x / max(np.abs(x).max(), 1e-300)
        square = ((x[:, None] - x[None]) ** 2).sum(2)[upper]
        found = square if distance == "squared_euclidean" else np.sqrt(square)
        return np.array([float(f"{value:.11e}") for value in found])
    x = x / np.maximum(np.abs(x).max(1, keepdims=True), 1e-300)
    deviation = x - x.mean(1, keepdims=True)
    norm = np.linalg.norm(deviation, axis=1, keepdims=True)
    unit = np.divide(deviation, norm, out=np.zeros_like(x), where=norm > 1e-14 * x.shape[1])
    return np.round(1 - (unit @ unit.T)[upper], 12)


def ranks(values) -> np.ndarray:
    """Mean ranks by counting, but for a constant."""
    below = (values[None] < values[:, None]).sum(1)
    return below + (values[None] == values[:, None]).sum(1) / 2


def compared(a, b, comparator: str = "spearman") -> float:
    """Two lists of dissimilarities by one of the comparators, V and all pairs of pairs formed."""
    m = len(a)
    if comparator.startswith("tau"):
        order = [np.sign(v[:, None] - v[None]) for v in (a, b)]
        both = np.sum(order[0] * order[1])
        if comparator == "tau_a":
            return float(both / (m * (m - 1)))
        return float(both / np.sqrt(np.sum(order[0] ** 2) * np.sum(order[1] ** 2)))
    if comparator in ("spearman", "rho_a"):
        a, b = ranks(a), ranks(b)
    if comparator not in ("cosine", "whitened_cosine"):
        a, b = a - a.mean(), b - b.mean()
    if comparator == "rho_a":
        return float(12 * (a @ b) / (m**3 - m))
    inverse = np.eye(m)
    if comparator.startswith("whitened"):
        n = round((1 + np.sqrt(1 + 8 * m)) / 2)
        incidence = np.zeros((m, n))
        for row, pair in enumerate(zip(*np.triu_indices(n, 1), strict=True)):
            incidence[row, pair] = 1, -1
        inverse = np.linalg.inv((incidence @ incidence.T) ** 2)
    return float(a @ inverse @ b / np.sqrt((a @ inverse @ a) * (b @ inverse @ b)))


def rsa(x, y, distance: str = "correlation", comparator: str = "spearman") -> float:
    """A comparator of dissimilarities."""
    return compared(dissimilarities(x, distance), dissimilarities(y, distance), comparator)


def predictivity(x, y, fold, penalties) -> float:
    """Held-out R^2 of ridge by normal equations, the penalty chosen on the fold after."""
    x, y, fold = np.asarray(x, np.float64), np.asarray(y, np.float64), np.asarray(fold)
    folds = fold.max() + 1

    def error(train, held, penalty):
        a, b = x[train] - x[train].mean(0), y[train] - y[train].mean(0)
        size = penalty * np.sum(a**2) / min(len(a), x.shape[1])
        weights = np.linalg.solve(a.T @ a + size * np.eye(x.shape[1]), a.T @ b)
        predicted = (x[held] - x[train].mean(0)) @ weights + y[train].mean(0)
        return np.sum((y[held] - predicted) ** 2)

    scores = []
    for s in range(folds):
        held, inner = fold == s, fold == (s + 1) % folds
        best = min(penalties, key=lambda p: error(~held & ~inner, inner, p))
        spread = np.sum((y[held] - y[held].mean(0)) ** 2)
        scores.append(1 - error(~held, held, best) / spread)
    return float(np.mean(scores))
