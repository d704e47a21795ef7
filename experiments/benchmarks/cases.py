"""The table of what is measured: each kernel with its inputs, its work, its sizes and its peers.

A new kernel is a line of `BENCHMARKS`. Inputs are made in NumPy from a seed, so that peers get the
same; `run` is compiled as one program. The rows of all encoders share 64 directions of falling
variance, so that similarities, neighbors and components mean something.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import peers, work
from .kernel_calls import (
    Stream,
    calibration,
    cka,
    features,
    measure,
    mutual_knn,
    pair_of_scores,
    pca,
    pcka,
    permutation,
    procrustes,
    streaming_cka,
    streaming_pca,
)
from .peers import Peer
from .work import NEIGHBORS, PERMUTATIONS, Blocks, Size, Work

PAPER_WIDTHS = (
    2048,
    2048,
    1024,
    768,
    1024,
    1280,
    768,
    896,
    768,
    1512,
    768,
    768,
    768,
    1024,
)
NARROW_WIDTHS = tuple(width // 8 for width in PAPER_WIDTHS)  # both spaces win somewhere
ROWS = (1024, 2048, 4096)
ROWS_TO_PAPER = (*ROWS, 13_394)


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
    k: int = 0,
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
        "cka",
        "",
        cka("auto"),
        work.cka,
        ladders(ROWS_TO_PAPER, total=8192),
        peers=(peers.TORCH_PAIRS, peers.PYTORCH_CKA),
    ),
    *(
        Benchmark(
            "cka",
            f"{space} space",
            cka(space),
            flops,
            ladders((512, *ROWS), NARROW_WIDTHS, divide=()),
        )
        for space, flops in (("gram", work.gram_cka), ("feature", work.feature_cka))
    ),
    Benchmark(
        "streaming_cka",
        "",
        streaming_cka,
        work.streaming_cka,
        ladders((512, *ROWS_TO_PAPER), total=4096),
        peers=(peers.TORCH_CKA,),
    ),
    Benchmark(
        "calibration",
        "two moments",
        calibration(cubic=False),
        work.gram_cka,
        ladders(divide=()),
    ),
    Benchmark(
        "calibration",
        "exact skewness",
        calibration(cubic=True),
        work.gram_cka,
        ladders((256, *ROWS), divide=()),
        peers=(peers.CALIBRATED_SIMILARITY,),
    ),
    Benchmark(
        "calibration",
        f"{PERMUTATIONS} permutations",
        permutation,
        work.permutation_null,
        ladders((128, 256, 512), PAPER_WIDTHS[:4], divide=()),
        peers=(peers.CALIBRATED_SIMILARITY,),
        estimate=lambda size: PERMUTATIONS * 2 * work.gram_flops(size),
    ),
    Benchmark(
        "mutual_knn",
        "",
        mutual_knn,
        work.mutual_knn,
        ladders(ROWS_TO_PAPER, k=max(NEIGHBORS), total=8192),
        peers=(peers.FAISS,),
    ),
    Benchmark(
        "pca",
        "subspace",
        pca("subspace"),
        work.subspace_pass,
        ladders(ROWS_TO_PAPER, (sum(PAPER_WIDTHS),), 16),
        peers=(peers.SKLEARN_RANDOMIZED,),
        estimate=passes_of_pca,
    ),
    Benchmark(  # as accurate as scikit-learn's, which stops after a number of passes
        "pca",
        "subspace, residual 1e-3",
        pca("subspace", tolerance=1e-3, oversampling=32),
        functools.partial(work.subspace_pass, oversampling=32),
        ladders(ROWS_TO_PAPER, (sum(PAPER_WIDTHS),), 16, divide=()),
        peers=(peers.SKLEARN_RANDOMIZED,),
        estimate=passes_of_pca,
    ),
    Benchmark(
        "pca",
        "exact",
        pca("exact"),
        work.exact_pca,
        ladders(widths=(1024,), k=16),
        peers=(peers.SKLEARN_COVARIANCE,),
        estimate=lambda size: 3 * work.exact_pca(size).flops,
    ),
    Benchmark(
        "streaming_pca",
        "",
        None,
        work.streaming_pca,
        ladders(ROWS_TO_PAPER, (sum(PAPER_WIDTHS),), 16),
        peers=(peers.INCREMENTAL_PCA,),
        stream=streaming_pca,
    ),
    Benchmark(
        "procrustes",
        "",
        procrustes,
        work.procrustes,
        squares((4096, 8192, 16384), (64, 128, 256)),
        setup=pair_of_scores,
        peers=(peers.SCIPY_PROCRUSTES,),
        estimate=lambda size: 10 * work.procrustes(size).flops,
    ),
    Benchmark(
        "pcka",
        "",
        pcka,
        work.pcka,
        ladders((256, 512, 1024), (768,) * 8, 16, divide=()),
    ),
    *(
        Benchmark(
            "measures",
            name,
            measure(name),
            work.MEASURES[name],
            ladders((128, 256, 512), (64, 48, 32), divide=()),
            estimate=lambda size, flops=work.MEASURES[name]: 10 * flops(size).flops,
        )
        for name in work.MEASURES
    ),
)
NAMES = tuple(dict.fromkeys(benchmark.name for benchmark in BENCHMARKS))
# Labels whose seconds are put in ratio, where both were timed at one size.
RATIOS = (
    ("cka (feature space)", "cka (gram space)"),
    ("calibration (two moments)", "cka"),
    ("calibration (exact skewness)", "cka"),
    ("streaming_cka", "cka"),
)
