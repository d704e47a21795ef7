"""Other libraries on the same inputs. None is required: one that is missing is named, and skipped.

A peer prepares a call of no arguments that gives a NumPy array, so that conversions stay out of the
time. It says which of our results that array should equal; `measure` takes the largest difference.
A peer that compares encoders pair by pair may be given the first few encoders only; its time is
then multiplied by the ratio of `flops` and marked as extrapolated.
"""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import io
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.benchmarks.work import PERMUTATIONS, Size, batches, neighbor_counts

Blocks = list[Float[np.ndarray, "n _"]]
SMALL_BATCH = 256  # what loaders of images usually give


@dataclasses.dataclass(frozen=True)
class Peer:
    """A library's way to the same result.

    Attributes:
        name: what is called, as the tables show it.
        package: its name on PyPI.
        module: its import name.
        prepare: (size, arrays) -> a call that gives the result, or that and components.
        quantity: key of our result that it is compared with.
        flops: how many it does, by its own algorithm; for estimates.
        least: encoders below which it cannot be cut; None where it is all or nothing.
        relative: differences are divided by the largest entry.
        memory: bytes that it takes beside its inputs, where those are many.
        note: what differs by design.
        components: whether the call gives the result and principal components [d, k].
    """

    name: str
    package: str
    module: str
    prepare: Callable[[Size, Blocks], Callable[[], np.ndarray]]
    quantity: str
    flops: Callable[[Size], float]
    least: int | None = None
    relative: bool = False
    note: str = ""
    memory: Callable[[Size], float] = lambda size: 0.0
    components: bool = False

    @property
    def version(self) -> str | None:
        """The installed version; None where it is not installed."""
        if importlib.util.find_spec(self.module) is None:
            return None
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None  # another package of the same import name

    @property
    def state(self) -> str:
        """The version, or how to get it."""
        return self.version or f"not installed (pip install {self.package})"

    def difference(self, ours: dict[str, Any], theirs: np.ndarray, encoders: int) -> float:
        """The largest difference from our result, over pairs of different encoders."""
        mine = np.asarray(ours[self.quantity], np.float64)
        theirs = np.asarray(theirs, np.float64)
        if self.least is not None:  # [..., E, E]
            mine = mine[..., :encoders, :encoders]
            upper = np.triu_indices(encoders, 1)
            mine, theirs = mine[..., *upper], theirs[..., *upper]
        largest = float(np.max(np.abs(mine - theirs)))
        return largest / float(np.max(np.abs(mine))) if self.relative else largest


@contextlib.contextmanager
def equal_threads(threads: int) -> Iterator[None]:
    """The same number of threads for torch, faiss, OpenMP and BLAS, where they are loaded."""
    import sys

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    if "faiss" in sys.modules:
        sys.modules["faiss"].omp_set_num_threads(threads)
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        yield
        return
    with threadpool_limits(threads):
        yield


def tensors(blocks: Blocks) -> list:
    """Torch tensors over the same memory."""
    import torch

    return [torch.from_numpy(block) for block in blocks]


def torch_cka(x, y):
    """Linear CKA from two centered n x n Gram matrices."""
    import torch

    def centered_gram(x):
        gram = x @ x.T
        gram -= gram.mean(0, keepdim=True)
        gram -= gram.mean(1, keepdim=True)
        return gram

    k, l = centered_gram(x), centered_gram(y)  # noqa: E741
    return (k * l).sum() / (torch.linalg.norm(k) * torch.linalg.norm(l))


def torch_pairs(size: Size, blocks: Blocks) -> Callable[[], np.ndarray]:
    """CKA computed one pair after another, as it is usually written."""
    features = tensors(blocks)

    def call():
        matrix = np.eye(len(features))
        for i, j in itertools.combinations(range(len(features)), 2):
            matrix[i, j] = matrix[j, i] = float(torch_cka(features[i], features[j]))
        return matrix

    return call


def pytorch_cka(size: Size, blocks: Blocks) -> Callable[[], np.ndarray]:
    """pytorch-cka on feature matrices."""
    from cka import cka_from_features

    features = tensors(blocks)
    return lambda: cka_from_features(features, features).numpy()


def torch_cka_batches(size: Size, blocks: Blocks) -> Callable[[], np.ndarray]:
    """torch-cka, whose layers are the columns of each encoder and whose batches are of its data."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset
    from torch_cka import CKA

    class Columns(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = torch.nn.ModuleList(torch.nn.Identity() for _ in size.widths)

        def forward(self, x):
            return [
                part(columns)
                for part, columns in zip(self.parts, x.split(size.widths, 1), strict=True)
            ]

    names = [f"parts.{i}" for i in range(size.encoders)]
    data = TensorDataset(torch.from_numpy(np.concatenate(blocks, axis=1)))

    def call():
        loader = DataLoader(data, min(SMALL_BATCH, size.n))
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            compared = CKA(Columns(), Columns(), "first", "second", names, names)
            compared.compare(loader, loader)
        return compared.hsic_matrix.numpy()

    return call


def permuted_pairs(size: Size, blocks: Blocks) -> Callable[[], np.ndarray]:
    """The chance thresholds of calibrated-similarity, pair by pair."""
    import torch
    from calibrated_similarity import calibrate

    features = tensors(blocks)

    def call():
        matrix = np.ones((len(features), len(features)))
        for i, j in itertools.combinations(range(len(features)), 2):
            generator = torch.Generator().manual_seed(0)
            _, _, tau = calibrate(
                features[i], features[j], torch_cka, K=PERMUTATIONS, generator=generator
            )
            matrix[i, j] = matrix[j, i] = float(tau)
        return matrix

    return call


def faiss_neighbors(size: Size, blocks: Blocks) -> Callable[[], np.ndarray]:
    """Exact inner-product search of normalized rows, and set intersections in NumPy."""
    import faiss

    ks = neighbor_counts(size)

    def neighbors(block):
        rows = block / np.linalg.norm(block, axis=1, keepdims=True)
        index = faiss.IndexFlatIP(rows.shape[1])
        index.add(rows)
        found = index.search(rows, size.k + 1)[1]
        other = found != np.arange(len(rows))[:, None]
        other[other.all(axis=1), -1] = False  # itself behind a duplicate: drop the last
        return found[other].reshape(len(rows), size.k)

    def call():
        found = [neighbors(block) for block in blocks]
        recall = np.tile(np.eye(len(found)), (len(ks), 1, 1))
        for (row, k), (i, j) in itertools.product(
            enumerate(ks), itertools.combinations(range(len(found)), 2)
        ):
            both = np.sort(np.concatenate([found[i][:, :k], found[j][:, :k]], axis=1), axis=1)
            common = (both[:, 1:] == both[:, :-1]).sum()
            recall[row, i, j] = recall[row, j, i] = common / (size.n * k)
        return recall

    return call


def sklearn_pca(solver: str) -> Callable[[Size, Blocks], Callable[[], np.ndarray]]:
    """Variances and components of scikit-learn's PCA."""

    def prepare(size, blocks):
        from sklearn.decomposition import PCA

        options = {"random_state": 0} if solver == "randomized" else {}
        return fitted(PCA(size.k, svd_solver=solver, **options), blocks[0])

    return prepare


def fitted(estimator, block) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """A call that fits an estimator: variances, and components [d, k]."""

    def call():
        estimator.fit(block)
        return estimator.explained_variance_, estimator.components_.T

    return call


def incremental_pca(size: Size, blocks: Blocks) -> Callable[[], np.ndarray]:
    """Variances and components of scikit-learn's IncrementalPCA in batches as large as ours."""
    from sklearn.decomposition import IncrementalPCA

    return fitted(IncrementalPCA(size.k, batch_size=batches(size)[1]), blocks[0])


def scipy_procrustes(size: Size, blocks: Blocks) -> Callable[[], np.ndarray]:
    """scipy's rotation of the second block onto the first."""
    from scipy.linalg import orthogonal_procrustes

    return lambda: orthogonal_procrustes(blocks[1], blocks[0])[0]


def pair_flops(size: Size) -> float:
    """Two Gram matrices and three inner products for each pair."""
    pairs = size.encoders * (size.encoders - 1) / 2
    return size.n**2 * (2 * (size.encoders - 1) * size.total + 12 * pairs)


def batched_flops(size: Size) -> float:
    """n x n matrix products for each pair of layers, in batches."""
    rows = min(SMALL_BATCH, size.n)
    products = size.encoders * (2 * size.encoders + 1)
    return size.n / rows * (2 * rows**3 * products + 2 * rows**2 * size.total * size.encoders)


TORCH_PAIRS = Peer(
    "torch, Grams pair by pair", "torch", "torch", torch_pairs, "cka", pair_flops, least=2
)
PYTORCH_CKA = Peer(
    "pytorch-cka, cka_from_features", "pytorch-cka", "cka", pytorch_cka, "debiased",
    lambda size: 4 * size.n**2 * (size.total + size.encoders**2), least=2,
    note="debiased CKA, values below 0 clamped",
    memory=lambda size: 16 * size.encoders * size.n**2,
)  # fmt: skip
TORCH_CKA = Peer(
    f"torch-cka, batches of {SMALL_BATCH}", "torch-cka", "torch_cka", torch_cka_batches,
    "debiased", batched_flops, least=2,
    note=f"averages HSIC over batches of {SMALL_BATCH} rows: it estimates debiased CKA, and is "
    "not that of all rows",
)  # fmt: skip
CALIBRATED_SIMILARITY = Peer(
    f"calibrated-similarity, {PERMUTATIONS} permutations", "calibrated-similarity",
    "calibrated_similarity", permuted_pairs, "tau",
    lambda size: (PERMUTATIONS + 1) * pair_flops(size), least=2,
    note=f"its threshold is sampled from {PERMUTATIONS} permutations",
)  # fmt: skip
FAISS = Peer(
    "faiss IndexFlatIP and NumPy sets", "faiss-cpu", "faiss", faiss_neighbors, "recall",
    lambda size: 2 * size.n**2 * size.total, least=2, note="near ties may rank differently",
)  # fmt: skip
SKLEARN_RANDOMIZED = Peer(
    "scikit-learn PCA(randomized)", "scikit-learn", "sklearn", sklearn_pca("randomized"),
    "variance", lambda size: 16 * 2 * size.n * size.total * (size.k + 10), relative=True,
    note="a fixed number of passes, whatever the residual", components=True,
)  # fmt: skip
SKLEARN_COVARIANCE = Peer(
    "scikit-learn PCA(covariance_eigh)", "scikit-learn", "sklearn",
    sklearn_pca("covariance_eigh"), "variance",
    lambda size: 2 * size.n * size.total**2 + 9 * size.total**3, relative=True, components=True,
)  # fmt: skip
INCREMENTAL_PCA = Peer(
    "scikit-learn IncrementalPCA", "scikit-learn", "sklearn", incremental_pca, "variance",
    lambda size: 6 * size.n * size.total * batches(size)[1], relative=True,
    note="both read the rows once and are approximate, each in its own way", components=True,
)  # fmt: skip
SCIPY_PROCRUSTES = Peer(
    "scipy.linalg.orthogonal_procrustes", "scipy", "scipy", scipy_procrustes, "rotation",
    lambda size: 2 * size.n * size.k**2 + 24 * size.k**3,
)  # fmt: skip
# Known, and beside nothing that is measured here.
UNUSED = {"LogME": "not installed (no package on PyPI; scores transferability, not measured yet)"}
