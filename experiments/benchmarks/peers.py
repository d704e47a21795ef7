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
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .peer_calls import (
    SMALL_BATCH,
    batched_flops,
    faiss_neighbors,
    incremental_pca,
    pair_flops,
    permuted_pairs,
    pytorch_cka,
    scipy_procrustes,
    sklearn_pca,
    torch_cka_batches,
    torch_pairs,
)
from .work import PERMUTATIONS, Blocks, Size, batches


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
    prepare: Callable[[Size, Blocks], Callable[[], Any]]
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


TORCH_PAIRS = Peer(
    "torch, Grams pair by pair", "torch", "torch", torch_pairs, "cka", pair_flops, least=2
)
PYTORCH_CKA = Peer(
    "pytorch-cka, cka_from_features",
    "pytorch-cka",
    "cka",
    pytorch_cka,
    "debiased",
    lambda size: 4 * size.n**2 * (size.total + size.encoders**2),
    least=2,
    note="debiased CKA, values below 0 clamped",
    memory=lambda size: 16 * size.encoders * size.n**2,
)
TORCH_CKA = Peer(
    f"torch-cka, batches of {SMALL_BATCH}",
    "torch-cka",
    "torch_cka",
    torch_cka_batches,
    "debiased",
    batched_flops,
    least=2,
    note=f"averages HSIC over batches of {SMALL_BATCH} rows: it estimates debiased CKA, and is "
    "not that of all rows",
)
CALIBRATED_SIMILARITY = Peer(
    f"calibrated-similarity, {PERMUTATIONS} permutations",
    "calibrated-similarity",
    "calibrated_similarity",
    permuted_pairs,
    "tau",
    lambda size: (PERMUTATIONS + 1) * pair_flops(size),
    least=2,
    note=f"its threshold is sampled from {PERMUTATIONS} permutations",
)
FAISS = Peer(
    "faiss IndexFlatIP and NumPy sets",
    "faiss-cpu",
    "faiss",
    faiss_neighbors,
    "recall",
    lambda size: 2 * size.n**2 * size.total,
    least=2,
    note="near ties may rank differently",
)
SKLEARN_RANDOMIZED = Peer(
    "scikit-learn PCA(randomized)",
    "scikit-learn",
    "sklearn",
    sklearn_pca("randomized"),
    "variance",
    lambda size: 16 * 2 * size.n * size.total * (size.k + 10),
    relative=True,
    note="a fixed number of passes, whatever the residual",
    components=True,
)
SKLEARN_COVARIANCE = Peer(
    "scikit-learn PCA(covariance_eigh)",
    "scikit-learn",
    "sklearn",
    sklearn_pca("covariance_eigh"),
    "variance",
    lambda size: 2 * size.n * size.total**2 + 9 * size.total**3,
    relative=True,
    components=True,
)
INCREMENTAL_PCA = Peer(
    "scikit-learn IncrementalPCA",
    "scikit-learn",
    "sklearn",
    incremental_pca,
    "variance",
    lambda size: 6 * size.n * size.total * batches(size)[1],
    relative=True,
    note="both read the rows once and are approximate, each in its own way",
    components=True,
)
SCIPY_PROCRUSTES = Peer(
    "scipy.linalg.orthogonal_procrustes",
    "scipy",
    "scipy",
    scipy_procrustes,
    "rotation",
    lambda size: 2 * size.n * size.k**2 + 24 * size.k**3,
)
# Known, and beside nothing that is measured here.
UNUSED = {"LogME": "not installed (no package on PyPI; scores transferability, not measured yet)"}
