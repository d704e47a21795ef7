"""Each kernel as the benchmark calls it: inputs of a size, and a function of them."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from . import work
from .work import PERMUTATIONS, Blocks, Size, neighbor_counts

SHARED = 64


def features(size: Size, seed: int) -> Blocks:
    """Random rows of every encoder: shared directions of variance 1/i, and white noise."""
    return _features(size.n, size.widths, seed)


@functools.lru_cache(maxsize=4)  # kernels take turns at a size
def _features(n: int, widths: tuple[int, ...], seed: int) -> Blocks:
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((n, SHARED), np.float32)
    common *= np.arange(1, SHARED + 1, dtype=np.float32) ** -0.5
    blocks = []
    for width in widths:
        block = rng.standard_normal((n, width), np.float32)
        block *= np.float32(0.3)
        block += common @ rng.standard_normal((SHARED, width), np.float32)
        blocks.append(block)
    return blocks


def pair_of_scores(size: Size, seed: int) -> Blocks:
    """Two [n, k] blocks, one a rotation of the other and noise."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((size.n, size.k), np.float32)
    rotation = np.linalg.qr(rng.standard_normal((size.k, size.k)))[0].astype(np.float32)
    return [a, a @ rotation + np.float32(0.1) * rng.standard_normal(a.shape, np.float32)]


def cka(space: str) -> Callable[..., dict[str, Any]]:
    """CKA and debiased CKA of all pairs, from one pass."""

    def run(size, blocks):
        from substrate_jax import kernels

        hsic = kernels.pairwise_hsic(blocks, space=space)
        return {"cka": hsic.cka(), "debiased": hsic.cka(debiased=True)}

    return run


def streaming_cka(size: Size, blocks) -> dict[str, Any]:
    """The same in batches."""
    from substrate_jax import kernels

    state = scan_batches(kernels.StreamingCka.init(size.widths), size, blocks)
    return {"cka": state.finalize(), "debiased": state.finalize(debiased=True)}


def calibration(cubic: bool) -> Callable[..., dict[str, Any]]:
    """CKA of all pairs against its closed-form null, with exact skewness if `cubic`."""

    def run(size, blocks):
        from substrate_jax import kernels

        hsic = kernels.pairwise_hsic(blocks, space="gram", cubic=cubic)
        return {"tau": kernels.calibrate_cka(hsic).tau}

    return run


def permutation(size: Size, blocks) -> dict[str, Any]:
    """CKA of all pairs against its sampled null."""
    import jax

    from substrate_jax import kernels

    key = jax.random.key(0)
    found = kernels.calibrate_cka(blocks, method="permutation", permutations=PERMUTATIONS, key=key)
    return {"tau": found.tau}


def mutual_knn(size: Size, blocks) -> dict[str, Any]:
    """Recall of all pairs at every k."""
    from substrate_jax import kernels

    return {"recall": kernels.mutual_knn(blocks, neighbor_counts(size)).recall}


def measure(name: str) -> Callable[..., dict[str, Any]]:
    """A measure of the table, of all pairs."""

    def run(size, blocks):
        from substrate_jax import kernels

        return {"matrix": kernels.pairwise_measure(name, blocks)}

    return run


def pca(method: str, **options) -> Callable[..., dict[str, Any]]:
    """Leading components of one block."""

    def run(size, blocks):
        from substrate_jax import kernels

        found = kernels.pca(blocks[0], size.k, method=method, **options)
        return {
            "variance": found.explained_variance,
            "components": found.components,
            "passes": found.iterations,
        }

    return run


def streaming_pca(size: Size) -> "Stream":
    """Leading components of one block, a batch at a time."""
    from substrate_jax import kernels

    def finish(state):
        found = state.finalize()
        return {"variance": found.explained_variance, "components": found.components}

    state = kernels.StreamingPca.init(size.total, size.k)
    return Stream(state, lambda state, rows, mask: state.update(rows[0], mask), finish)


def procrustes(size: Size, blocks) -> dict[str, Any]:
    """The rotation of the second block onto the first."""
    from substrate_jax import kernels

    return {"rotation": kernels.orthogonal_procrustes(*blocks)}


def pcka(size: Size, blocks) -> dict[str, Any]:
    """PCKA of all pairs of domains, each with the first k coordinates as its basis."""
    import jax.numpy as jnp

    from substrate_jax import kernels

    bases = [jnp.eye(size.widths[0], size.k)] * size.encoders
    return {"pcka": kernels.pairwise_pcka(blocks, bases)}


def scan_batches(state, size: Size, blocks):
    """A state updated by all batches, as one program."""
    import jax

    def update(state, inputs):
        return state.update(*inputs), None

    return jax.lax.scan(update, state, split(size, blocks))[0]


def split(size: Size, blocks):
    """Blocks [steps, rows, d_e] and their mask, the last batch padded."""
    import jax.numpy as jnp

    steps, batch = work.batches(size)

    def cut(rows):
        padded = jnp.pad(rows, ((0, steps * batch - size.n), *[(0, 0)] * (rows.ndim - 1)))
        return padded.reshape(steps, batch, *rows.shape[1:])

    return [cut(block) for block in blocks], cut(jnp.ones(size.n, bool))


@dataclasses.dataclass(frozen=True)
class Stream:
    """A kernel that is given one batch at a time: its programs never hold all rows.

    Attributes:
        state: before the first batch.
        update: (state, blocks, mask) of a batch -> state.
        finish: state -> named results.
    """

    state: Any
    update: Callable[[Any, Blocks, Any], Any]
    finish: Callable[[Any], dict[str, Any]]
