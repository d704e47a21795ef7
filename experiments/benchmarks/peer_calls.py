"""Each peer as the benchmark calls it: inputs of a size, and a function without arguments."""

import contextlib
import io
import itertools
from collections.abc import Callable
from typing import Literal

import numpy as np

from .work import PERMUTATIONS, Blocks, Size, batches, neighbor_counts

Fit = Callable[[], tuple[np.ndarray, np.ndarray]]  # variances and components

SMALL_BATCH = 256  # what loaders of images usually give


def tensors(blocks: Blocks) -> list:
    """Torch tensors over the same memory."""
    import torch  # pyright: ignore[reportMissingImports]

    return [torch.from_numpy(block) for block in blocks]


def torch_cka(x, y):
    """Linear CKA from two centered n x n Gram matrices."""
    import torch  # pyright: ignore[reportMissingImports]

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
    from cka import cka_from_features  # pyright: ignore[reportAttributeAccessIssue]

    features = tensors(blocks)
    return lambda: cka_from_features(features, features).numpy()


def torch_cka_batches(size: Size, blocks: Blocks) -> Callable[[], np.ndarray]:
    """torch-cka, whose layers are the columns of each encoder and whose batches are of its data."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch.utils.data import DataLoader, TensorDataset  # pyright: ignore[reportMissingImports]
    from torch_cka import CKA  # pyright: ignore[reportMissingImports]

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
    import torch  # pyright: ignore[reportMissingImports]
    from calibrated_similarity import calibrate  # pyright: ignore[reportMissingImports]

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
    import faiss  # pyright: ignore[reportMissingImports]

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


def sklearn_pca(solver: Literal["randomized", "covariance_eigh"]) -> Callable[[Size, Blocks], Fit]:
    """Variances and components of scikit-learn's PCA."""

    def prepare(size, blocks):
        from sklearn.decomposition import PCA

        return fitted(PCA(size.k, svd_solver=solver, random_state=0), blocks[0])

    return prepare


def fitted(estimator, block) -> Fit:
    """A call that fits an estimator: variances, and components [d, k]."""

    def call():
        estimator.fit(block)
        return estimator.explained_variance_, estimator.components_.T

    return call


def incremental_pca(size: Size, blocks: Blocks) -> Fit:
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
