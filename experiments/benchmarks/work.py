"""Sizes of a problem, and the least work that each kernel has to do.

Counted are the matrix products and decompositions, an addition and a multiplication as two flops,
and of a symmetric product one half. Left out are terms of lower order (centering, norms, the
joining of small summaries) and whatever an implementation does twice. So an achieved rate of flop/s
is below what the hardware did, and comparable between implementations.

Bytes are the least that pass between memory and processor: every input read once and every result
written once in float32, and where rows come in passes or batches, the rows of each pass and the
carried sums of each batch. Symbols: n rows, E encoders of widths d_e, D = sum d_e, k components or
neighbors, P permutations.

    Gram of all encoders        n (n+1) D                 each of n (n+1) / 2 entries: 2 D flops
    their inner products        n (n+1) E (E+1) / 2       E (E+1) / 2 pairs of triangles
    stacked covariance          n D (D+1)                 D (D+1) / 2 entries: 2 n flops
    its squares, summed         D (D+1)
    eigenvectors, m x m         4/3 m^3 + 2 m^2 k         tridiagonal form, and k vectors back
    SVD with vectors, k x k     22 k^3
    thin SVD, m x k             6 m k^2 + 20 k^3
    singular values, m x k      4 m k^2 - 4/3 k^3

References:
    Golub, Van Loan (2013), Matrix computations, sections 8.3.1 and 8.6.3.
    Williams, Waterman, Patterson (2009), Roofline: an insightful visual performance model.
"""

import dataclasses
import itertools
import math

import numpy as np
from jaxtyping import Float

Blocks = list[Float[np.ndarray, "n _"]]  # one per encoder

FLOAT = 4  # bytes
PERMUTATIONS = 200
NEIGHBORS = (10, 30, 100)
BATCH = 1024  # most rows of a stream at once
OVERSAMPLING = 16


@dataclasses.dataclass(frozen=True)
class Size:
    """Rows, the width of each encoder, and components or neighbors; 0 where a kernel has none."""

    n: int
    widths: tuple[int, ...]
    k: int = 0

    @property
    def total(self) -> int:
        """D, all features together."""
        return sum(self.widths)

    @property
    def encoders(self) -> int:
        """E."""
        return len(self.widths)

    def first(self, encoders: int) -> "Size":
        """The same rows of the first few encoders."""
        return dataclasses.replace(self, widths=self.widths[:encoders])

    def __str__(self):
        k = f" k={self.k}" if self.k else ""
        return f"N={self.n:,} D={self.total:,} E={self.encoders}{k}"


@dataclasses.dataclass(frozen=True)
class Work:
    """Least flops and bytes of one call, or of one pass where a kernel takes several."""

    flops: float
    bytes: float

    def __mul__(self, times: float) -> "Work":
        return Work(self.flops * times, self.bytes * times)

    @property
    def intensity(self) -> float:
        """Flops for each byte."""
        return self.flops / self.bytes


def triangle(m: int) -> int:
    """m (m+1) / 2, the entries of a symmetric matrix.

    Example:
        >>> triangle(3)
        6
    """
    return m * (m + 1) // 2


def gram_flops(size: Size) -> int:
    """Gram matrices of all encoders and their inner products."""
    return 2 * triangle(size.n) * (size.total + triangle(size.encoders))


def feature_flops(size: Size) -> int:
    """The stacked covariance and the sums of squares of its blocks."""
    return 2 * triangle(size.total) * (size.n + 1)


def neighbor_counts(size: Size) -> tuple[int, ...]:
    """The k of `NEIGHBORS` below `size.k`, and that."""
    return (*(k for k in NEIGHBORS if k < size.k), size.k)


def gram_cka(size: Size) -> Work:
    """Pairwise CKA in Gram space."""
    return Work(gram_flops(size), FLOAT * (size.n * size.total + triangle(size.encoders)))


def feature_cka(size: Size) -> Work:
    """Pairwise CKA in feature space."""
    return Work(feature_flops(size), gram_cka(size).bytes)


def cka(size: Size) -> Work:
    """Pairwise CKA in the cheaper space."""
    return min(gram_cka(size), feature_cka(size), key=lambda work: work.flops)


def streaming_cka(size: Size) -> Work:
    """Sums of products and of squared norms times rows, read and written for each batch."""
    flops = 2 * triangle(size.total) * (size.n + 1) + 2 * size.n * size.total * size.encoders
    sums = triangle(size.total) + size.encoders * size.total
    return Work(flops, FLOAT * (size.n * size.total + 2 * batches(size)[0] * sums))


def permutation_null(size: Size) -> Work:
    """CKA, and for each permutation the inner products of E (E-1) / 2 pairs of Gram matrices."""
    pairs = triangle(size.encoders - 1)
    extra = PERMUTATIONS * 2 * triangle(size.n) * pairs
    return Work(gram_flops(size) + extra, cka(size).bytes + FLOAT * PERMUTATIONS * pairs)


def mutual_knn(size: Size) -> Work:
    """Similarities of n (n-1) / 2 pairs of rows in every encoder; searching takes no flops."""
    bytes_moved = FLOAT * (size.n * size.total + triangle(size.encoders))
    return Work(2 * triangle(size.n - 1) * size.total, bytes_moved)


def exact_pca(size: Size) -> Work:
    """The smaller scatter matrix, its leading eigenvectors, and the components from them."""
    small, large = sorted((size.n, size.total))
    flops = 2 * triangle(small) * large + 4 / 3 * small**3 + 2 * small**2 * size.k
    if size.n < size.total:
        flops += 2 * size.n * size.total * size.k
    return Work(flops, FLOAT * (size.n * size.total + size.total * size.k))


def subspace_pass(size: Size, oversampling: int = OVERSAMPLING) -> Work:
    """One pass of block subspace iteration: X Q and X'Y, which one reading of X can feed."""
    block = size.k + oversampling
    rows, width = size.n, size.total
    return Work(4 * rows * width * block, FLOAT * (rows * width + 2 * width * block))


def streaming_pca(size: Size) -> Work:
    """One pass on a test matrix, whose image is read and written for each batch."""
    block = min(3 * size.k + OVERSAMPLING, size.total)
    flops = 4 * size.n * size.total * block
    return Work(flops, FLOAT * (size.n * size.total + 3 * batches(size)[0] * size.total * block))


def procrustes(size: Size) -> Work:
    """B'A, its SVD and the product of the factors."""
    k = size.k
    return Work(2 * size.n * k**2 + 24 * k**3, FLOAT * (2 * size.n * k + k**2))


def pcka(size: Size) -> Work:
    """All domains on all bases, and for each domain one row of CKAs."""
    domains, n, width, k = size.encoders, size.n, size.widths[0], size.k
    project = 2 * domains**2 * n * width * k
    one_row = (domains - 1) * 2 * n * k**2 + domains * 2 * n * triangle(k)
    bytes_moved = FLOAT * (domains * width * (n + k) + triangle(domains))
    return Work(project + domains * one_row, bytes_moved)


def rbf_cka(size: Size) -> Work:
    """Squared distances within every encoder, once, and inner products of the kernels."""
    return gram_cka(size)


def rsa(size: Size) -> Work:
    """Correlations of n (n-1) / 2 pairs of rows, and those of their ranks."""
    flops = 2 * triangle(size.n - 1) * (size.total + triangle(size.encoders))
    return Work(flops, gram_cka(size).bytes)


def pairs_of_widths(size: Size) -> list[tuple[int, int]]:
    """min(n, d) of both encoders of each pair, the larger last."""
    widths = sorted(min(size.n, width) for width in size.widths)
    return list(itertools.combinations(widths, 2))


def procrustes_similarity(size: Size) -> Work:
    """X'Y of each pair and its singular values."""
    flops = sum(2 * size.n * a * b + 4 * a**2 * b - 4 / 3 * a**3 for a, b in pairs_of_widths(size))
    return Work(flops, gram_cka(size).bytes)


def svcca(size: Size) -> Work:
    """A thin SVD of each encoder, U'V of each pair and its singular values."""
    shapes = [sorted((size.n, width)) for width in size.widths]
    decompose = sum(6 * large * small**2 + 20 * small**3 for small, large in shapes)
    return Work(decompose + procrustes_similarity(size).flops, gram_cka(size).bytes)


def gulp(size: Size) -> Work:
    """QR and a triangular solve of each encoder, U'V of each pair."""
    ranks = [min(size.n, width) for width in size.widths]
    flops = sum(3 * size.n * r**2 for r in ranks)
    flops += sum(2 * size.n * a * b for a, b in pairs_of_widths(size))
    return Work(flops, gram_cka(size).bytes)


def predictivity(size: Size) -> Work:
    """Two fits of every encoder to all in each of 5 folds: scatter, its eigenvectors, X'Y."""
    fits = 0.0
    for width in size.widths:
        r = min(size.n, width)
        fits += 2 * triangle(r) * size.n + 10 / 3 * r**3 + 2 * size.n * r * size.total
    return Work(10 * fits, gram_cka(size).bytes)


# Of the measures that have no benchmark of their own.
MEASURES = {
    "rbf_cka": rbf_cka,
    "debiased_rbf_cka": rbf_cka,
    "distance_correlation": rbf_cka,
    "debiased_distance_correlation": rbf_cka,
    "cknna": mutual_knn,
    "cycle_knn": mutual_knn,
    "neighborhood_jaccard": mutual_knn,
    "second_order_cosine": mutual_knn,
    "svcca": svcca,
    "pwcca": svcca,
    "gulp": gulp,
    "eigenspace_overlap": svcca,
    "rsa": rsa,
    "procrustes": procrustes_similarity,
    "predictivity": predictivity,
}


def batches(size: Size) -> tuple[int, int]:
    """Batches of a stream and the rows of each: equal, for a short last one would be padded.

    Example:
        >>> batches(Size(13394, (8,)))
        (14, 957)
    """
    steps = math.ceil(size.n / BATCH)
    return steps, math.ceil(size.n / steps)
