"""For tests: float64 NumPy oracles of the kernels, written for clarity and nothing else.

Each function states a textbook formula in the most direct form, usually on full n x n Gram matrices
or by enumeration, and shares no code with the kernel it judges. They are slow and hold whatever
they like in memory; use them in tests, and to read what a kernel means.
"""

from collections.abc import Sequence
from itertools import permutations

import numpy as np


def neighbors(x: np.ndarray, k: int) -> np.ndarray:
    """[n, k] indices by descending cosine, self left out, ties by lower index."""
    x = np.asarray(x, np.float64)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    unit = np.divide(x, norm, out=np.zeros_like(x), where=norm > 0)
    lists = []
    for i, similarity in enumerate(unit @ unit.T):
        ranked = np.argsort(-similarity, kind="stable")
        lists.append(ranked[ranked != i][:k])
    return np.array(lists)


def adjacency(x: np.ndarray, k: int) -> np.ndarray:
    """[n, n] 0/1: row i points to its k nearest rows."""
    edges = np.zeros((len(x), len(x)))
    np.put_along_axis(edges, neighbors(x, k), 1, axis=1)
    return edges


def mutual_knn(x: np.ndarray, y: np.ndarray, k: int) -> float:
    """Mean share of common neighbors."""
    return float((adjacency(x, k) * adjacency(y, k)).sum() / (len(x) * k))


def mutual_knn_null(x: np.ndarray, y: np.ndarray, k: int) -> np.ndarray:
    """[n!] mutual kNN recall under every permutation of the rows of y."""
    a, b = adjacency(x, k), adjacency(y, k)
    orders = (list(order) for order in permutations(range(len(x))))
    return np.array([(a * b[np.ix_(o, o)]).sum() for o in orders]) / (len(x) * k)


def pca(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """[d, k] leading right singular vectors of the centered rows, and [k] variances."""
    x = np.asarray(x, np.float64)
    _, s, vt = np.linalg.svd(x - x.mean(0), full_matrices=False)
    components = vt[:k].T
    peak = np.abs(components).argmax(axis=0)
    return components * np.sign(components[peak, range(k)]), s[:k] ** 2 / (len(x) - 1)


def orthogonal_procrustes(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Orthogonal R that minimizes ||a - b R||_F."""
    u, _, vt = np.linalg.svd(np.asarray(b, np.float64).T @ np.asarray(a, np.float64))
    return u @ vt


def procrustes_disparity(a: np.ndarray, b: np.ndarray) -> float:
    """min_R ||a - b R||_F^2 / ||a||_F^2."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    residual = a - b @ orthogonal_procrustes(a, b)
    return float((residual**2).sum() / (a**2).sum())


def generalized_procrustes_loss(blocks: Sequence, start: int, steps: int = 500) -> float:
    """Loss after alternating from the block `start`, relative to the energy of all blocks."""
    blocks = [np.asarray(block, np.float64) for block in blocks]
    consensus = blocks[start]
    for _ in range(steps):
        aligned = [block @ orthogonal_procrustes(consensus, block) for block in blocks]
        consensus = np.mean(aligned, axis=0)
    residual = sum(((block - consensus) ** 2).sum() for block in aligned)
    return float(residual / sum((block**2).sum() for block in blocks))


def principal_cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosines of the principal angles, largest first."""
    q_a, q_b = (np.linalg.qr(np.asarray(basis, np.float64))[0] for basis in (a, b))
    return np.linalg.svd(q_a.T @ q_b, compute_uv=False)


def pcka(x_a: np.ndarray, basis_a: np.ndarray, x_b: np.ndarray, basis_b: np.ndarray) -> float:
    """1/2 [CKA(X_A B_A, X_A B_B) + CKA(X_B B_A, X_B B_B)] from n x n Gram matrices."""

    def gram(x, basis):
        scores = np.asarray(x, np.float64) @ np.asarray(basis, np.float64)
        scores -= scores.mean(0)
        return scores @ scores.T

    values = []
    for x in (x_a, x_b):
        a, b = gram(x, basis_a), gram(x, basis_b)
        values.append((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
    return float(np.mean(values))


def gram(x) -> np.ndarray:
    """K = H X X' H with H = I - 11'/n."""
    x = np.asarray(x, np.float64)
    h = np.eye(len(x)) - 1 / len(x)
    return h @ x @ x.T @ h


def hsic_unbiased(k, l) -> float:  # noqa: E741
    """Song et al. (2012), eq. 5, as printed: with K~ and L~ of zero diagonal."""
    n = len(k)
    k = k - np.diag(np.diag(k))
    l = l - np.diag(np.diag(l))  # noqa: E741
    one = np.ones(n)
    mean = (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ l) + mean - 2 / (n - 2) * (one @ k @ l @ one)) / (n * (n - 3))


def pairwise_cka(blocks: Sequence, debiased: bool = False) -> np.ndarray:
    """[E, E] ratio of HSICs of full centered Gram matrices."""
    hsic = hsic_unbiased if debiased else lambda k, l: np.trace(k @ l)  # noqa: E741
    grams = [gram(block) for block in blocks]
    values = np.array([[hsic(a, b) for b in grams] for a in grams])
    return values / np.sqrt(np.outer(np.diag(values), np.diag(values)))


def every_permutation(k, l) -> np.ndarray:  # noqa: E741
    """<K, P L P'> for each of the n! permutations P."""
    orders = np.array(list(permutations(range(len(k)))))
    return np.einsum("ab,pab->p", k, l[orders[:, :, None], orders[:, None, :]])


def permutation_calibration(observed, null, alpha: float) -> tuple[np.ndarray, ...]:
    """Calibrated score, tau and p-value of [...] scores against [K, ...] null draws, by sorting."""
    draws = len(null)
    rank = int(np.ceil(round((1 - alpha) * (draws + 1), 9)))
    tau = np.sort(np.concatenate([null, observed[None]]), axis=0)[rank - 1]
    p_value = (1 + (null >= observed).sum(0)) / (draws + 1)
    room = 1 - tau
    score = np.where(room > 0, (observed - tau) / np.where(room > 0, room, 1), 0)
    return np.maximum(score, 0), tau, p_value
