"""The losses in NumPy and float64, in the form closest to the papers' formulas."""

import itertools

import numpy as np


def unit(x):
    """Rows over their lengths; zeros stay."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, length, out=np.zeros_like(x), where=length > 0)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def divergence(p, q):
    return sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def similarity_preserving(x, y, rows=unit):
    b = len(x)
    return np.sum((rows(x @ x.T) - rows(y @ y.T)) ** 2) / b**2


def by_absolute_sum(gram):
    """Rows of a Gram matrix as torchdistill has them."""
    return gram / np.abs(gram).sum(1, keepdims=True)


def huber(e):
    return e**2 / 2 if abs(e) <= 1 else abs(e) - 0.5


def relational_distance(x, y):
    pairs = list(itertools.permutations(range(len(x)), 2))
    lengths = [[np.linalg.norm(z[i] - z[j]) for i, j in pairs] for z in (x, y)]
    a, b = (np.divide(each, np.mean(each)) for each in lengths)
    return np.mean([huber(e) for e in a - b])


def relational_angle(x, y):
    def cosine(z, i, j, k):
        a, b = unit(np.stack([z[j] - z[i], z[k] - z[i]]))
        return a @ b

    triples = itertools.permutations(range(len(x)), 3)
    return np.mean([huber(cosine(x, *each) - cosine(y, *each)) for each in triples])


def relational(x, y, distance=1.0, angle=2.0):
    return distance * relational_distance(x, y) + angle * relational_angle(x, y)


def pkt(x, y, epsilon=1e-7):
    def probabilities(z):
        similar = (1 + unit(z) @ unit(z).T) / 2
        return similar / similar.sum(1, keepdims=True)

    p, q = probabilities(y) + epsilon, probabilities(x) + epsilon
    return np.mean(np.sum((p - epsilon) * np.log(p / q), axis=1))


def kd(x, y, temperature=4.0):
    p, q = ([softmax(row / temperature) for row in logits] for logits in (y, x))
    return temperature**2 * np.mean([divergence(*rows) for rows in zip(p, q, strict=True)])


def decoupled_kd(x, y, labels, alpha=1.0, beta=8.0, temperature=4.0):
    found = []
    for s, t, label in zip(x, y, labels, strict=True):
        q, p = softmax(s / temperature), softmax(t / temperature)
        binary = divergence([p[label], 1 - p[label]], [q[label], 1 - q[label]])
        others = np.arange(len(p)) != label
        among = divergence(p[others] / p[others].sum(), q[others] / q[others].sum())
        found.append(alpha * binary + beta * among)
    return temperature**2 * np.mean(found)


def cosine(x, y):
    return 1 - np.mean([a @ b for a, b in zip(unit(x), unit(y), strict=True)])


def mse(x, y):
    return np.mean((x - y) ** 2)


def variance(x, floor=1.0, epsilon=1e-4):
    return np.mean(np.maximum(floor - np.sqrt(np.var(x, axis=0, ddof=1) + epsilon), 0))
