"""The table of what is measured: each kernel with its inputs, its work, its sizes and its peers.

A new kernel is a line of `BENCHMARKS`. Inputs are made in NumPy from a seed, so that peers get the
same; `run` is compiled as one program. The rows of all encoders share 64 directions of falling
variance, so that similarities, neighbors and components mean something.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.benchmarks import peers, work
from experiments.benchmarks.peers import Peer
from experiments.benchmarks.work import NEIGHBORS, PERMUTATIONS, Size, Work, neighbor_counts

PAPER_WIDTHS = (
    2048, 2048, 1024, 768, 1024, 1280, 768, 896, 768, 1512, 768, 768, 768, 1024,
)  # fmt: skip
NARROW_WIDTHS = tuple(width // 8 for width in PAPER_WIDTHS)  # both spaces win somewhere
ROWS = (1024, 2048, 4096)
ROWS_TO_PAPER = (*ROWS, 13_394)
SHARED = 64
Blocks = list[Float[np.ndarray, "n _"]]


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


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """One kernel in one variant.

    Attributes:
        name: of --what.
        variant: method, where a kernel has several.
        run: (size, blocks) -> named results, to be compiled; or
        stream: size -> the programs of a batch.
        work: least flops and bytes of one call, of one pass if the result has "passes".
        ladders: "N", "D" or "E" -> sizes that differ in that alone.
        setup: (size, seed) -> inputs.
        peers: other libraries, timed at the sizes of ladder "N".
        estimate: flops that it will do, where those are far more than the least.
    """

    name: str
    variant: str
    run: Callable[[Size, Any], dict[str, Any]] | None
    work: Callable[[Size], Work]
    ladders: Mapping[str, Sequence[Size]]
    setup: Callable[[Size, int], Blocks] = features
    peers: Sequence[Peer] = ()
    estimate: Callable[[Size], float] | None = None
    stream: Callable[[Size], Stream] | None = None

    @property
    def label(self) -> str:
        """Name and variant."""
        return f"{self.name} ({self.variant})" if self.variant else self.name

    def expected_flops(self, size: Size) -> float:
        """Of one call."""
        return self.estimate(size) if self.estimate else self.work(size).flops


def ladders(
    rows: Sequence[int] = ROWS,
    widths: Sequence[int] = PAPER_WIDTHS,
    k: int | None = None,
    *,
    divide: Sequence[int] = (4, 2, 1),
    total: int = 0,
) -> dict[str, list[Size]]:
    """Sizes with more rows, with wider encoders, and with more of them of the same total width."""
    found = {"N": [Size(n, tuple(widths), k) for n in rows]}
    if len(divide) > 1:
        found["D"] = [Size(rows[0], tuple(w // part for w in widths), k) for part in divide]
    if total:
        found["E"] = [Size(rows[0], (total // e,) * e, k) for e in (2, 4, 8, 16)]
    return found


def squares(rows: Sequence[int], ks: Sequence[int]) -> dict[str, list[Size]]:
    """Pairs of [n, k] blocks with more rows, and with more columns."""
    return {
        "N": [Size(n, (ks[0],), ks[0]) for n in rows],
        "D": [Size(rows[0], (k,), k) for k in ks],
    }


def passes_of_pca(size: Size) -> float:
    """Flops of the passes that these inputs take, five, at the rate of thin products."""
    return 20 * work.subspace_pass(size).flops


BENCHMARKS = (
    Benchmark(
        "cka", "", cka("auto"), work.cka, ladders(ROWS_TO_PAPER, total=8192),
        peers=(peers.TORCH_PAIRS, peers.PYTORCH_CKA),
    ),
    *(
        Benchmark(
            "cka", f"{space} space", cka(space), flops,
            ladders((512, *ROWS), NARROW_WIDTHS, divide=()),
        )
        for space, flops in (("gram", work.gram_cka), ("feature", work.feature_cka))
    ),
    Benchmark(
        "streaming_cka", "", streaming_cka, work.streaming_cka,
        ladders((512, *ROWS_TO_PAPER), total=4096), peers=(peers.TORCH_CKA,),
    ),
    Benchmark(
        "calibration", "two moments", calibration(cubic=False), work.gram_cka,
        ladders(divide=()),
    ),
    Benchmark(
        "calibration", "exact skewness", calibration(cubic=True), work.gram_cka,
        ladders((256, *ROWS), divide=()), peers=(peers.CALIBRATED_SIMILARITY,),
    ),
    Benchmark(
        "calibration", f"{PERMUTATIONS} permutations", permutation, work.permutation_null,
        ladders((128, 256, 512), PAPER_WIDTHS[:4], divide=()),
        peers=(peers.CALIBRATED_SIMILARITY,),
        estimate=lambda size: PERMUTATIONS * 2 * work.gram_flops(size),
    ),
    Benchmark(
        "mutual_knn", "", mutual_knn, work.mutual_knn,
        ladders(ROWS_TO_PAPER, k=max(NEIGHBORS), total=8192), peers=(peers.FAISS,),
    ),
    Benchmark(
        "pca", "subspace", pca("subspace"), work.subspace_pass,
        ladders(ROWS_TO_PAPER, (sum(PAPER_WIDTHS),), 16),
        peers=(peers.SKLEARN_RANDOMIZED,), estimate=passes_of_pca,
    ),
    Benchmark(  # as accurate as scikit-learn's, which stops after a number of passes
        "pca", "subspace, residual 1e-3", pca("subspace", tolerance=1e-3, oversampling=32),
        functools.partial(work.subspace_pass, oversampling=32),
        ladders(ROWS_TO_PAPER, (sum(PAPER_WIDTHS),), 16, divide=()),
        peers=(peers.SKLEARN_RANDOMIZED,), estimate=passes_of_pca,
    ),
    Benchmark(
        "pca", "exact", pca("exact"), work.exact_pca, ladders(widths=(1024,), k=16),
        peers=(peers.SKLEARN_COVARIANCE,), estimate=lambda size: 3 * work.exact_pca(size).flops,
    ),
    Benchmark(
        "streaming_pca", "", None, work.streaming_pca,
        ladders(ROWS_TO_PAPER, (sum(PAPER_WIDTHS),), 16), peers=(peers.INCREMENTAL_PCA,),
        stream=streaming_pca,
    ),
    Benchmark(
        "procrustes", "", procrustes, work.procrustes, squares((4096, 8192, 16384), (64, 128, 256)),
        setup=pair_of_scores, peers=(peers.SCIPY_PROCRUSTES,),
        estimate=lambda size: 10 * work.procrustes(size).flops,
    ),
    Benchmark(
        "pcka", "", pcka, work.pcka,
        ladders((256, 512, 1024), (768,) * 8, 16, divide=()),
    ),
    *(
        Benchmark(
            "measures", name, measure(name), work.MEASURES[name],
            ladders((128, 256, 512), (64, 48, 32), divide=()),
            estimate=lambda size, flops=work.MEASURES[name]: 10 * flops(size).flops,
        )
        for name in work.MEASURES
    ),
)  # fmt: skip
NAMES = tuple(dict.fromkeys(benchmark.name for benchmark in BENCHMARKS))
# Labels whose seconds are put in ratio, where both were timed at one size.
RATIOS = (
    ("cka (feature space)", "cka (gram space)"),
    ("calibration (two moments)", "cka"),
    ("calibration (exact skewness)", "cka"),
    ("streaming_cka", "cka"),
)
