"""Linear CKA of every layer of one encoder with every layer of another, exact, from all images.

A layer l gives one row per image, X_l [n, d_l] (`analyses.layers.rows`). What follows is the CKA of
`kernels` for all E = A + B layers at once; a batch is never compared by itself, so its size changes
the numbers by rounding only. In feature space the rows are spread over the devices and the work is
that of `kernels.pairwise_hsic`; in Gram space <K_l, K_m> of all pairs follow from the E matrices of
`analyses.layers.grams`. Which space, and at what cost: `analyses.layers.rows`.

The null permutes the images of one encoder. tau, p and q (Benjamini-Hochberg over all pairs of
layers) are in closed form. The best of many pairs is high by chance alone, so in Gram space the
null of the maximum over pairs is sampled too, at n^2 A B flops per draw; the share of draws whose
maximum reaches a pair's CKA is its p adjusted for the whole family (Westfall, Young 1993).

In a run of several processes each holds the rows of its own devices, which it reads from the store;
without a store every process gathers the rows of a pass, and `memory` is that of each.

Not guaranteed: see `kernels.alignment.linear_cka` for what debiasing loses when d >> n.

References:
    Kornblith, Norouzi, Lee, Hinton (2019), Similarity of neural network representations revisited.
    Groeger, Wen, Brbic (2026), arXiv:2602.14486 (calibration, and of a maximum over layers).
    Westfall, Young (1993), Resampling-based multiple testing.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from substrate_jax import kernels
from substrate_jax.analyses.cka.results import CalibratedPairs
from substrate_jax.analyses.layers.grams import hsic_of_grams, layer_grams, null_maxima
from substrate_jax.analyses.layers.results import (
    BestPair,
    LayerAxis,
    LayerComparison,
    LayerFamily,
    LayerPairs,
)
from substrate_jax.analyses.layers.rows import (
    MEMORY,
    GivenLayers,
    LayerRows,
    Layers,
    choose_layers,
    plan_layers,
)
from substrate_jax.data.sources import Source
from substrate_jax.encoders.encoder import Encoder
from substrate_jax.features import extract
from substrate_jax.kernels.nulls.p_values import tail_from_sample
from substrate_jax.kernels.validate import check_fraction
from substrate_jax.mesh import DATA_AXIS, ROWS, RowBlock, make_mesh, over_rows, shard_blocks


def compare_layers(
    encoders: Sequence[Encoder],
    source: Source,
    *,
    given: Mapping[str, GivenLayers] | None = None,
    layers: Sequence[str] = ("all",),
    pool: str = "mean",
    measure: str = "cka",
    alpha: float = 0.05,
    permutations: int = 200,
    seed: int = 0,
    mesh: Mesh | None = None,
    memory: int = MEMORY,
    progress: Callable[[int, int], object] | None = None,
    stage: Callable[[str], AbstractContextManager] = contextlib.nullcontext,
    **extraction,
) -> LayerComparison:
    """Linear CKA between all layers of two encoders, or of one with itself.

    Args:
        encoders: one or two, with those of `given`.
        source: the images.
        given: encoder -> layers whose rows are known, of all images of the source.
        layers: regular expressions for whole names, or "all".
        pool: "mean" over positions or tokens (the class token is one of them), or "flatten".
        measure: which of the two to show first, "cka" or "cka_debiased".
        alpha: level of tau.
        permutations: draws for the null of the maximum; 0 for none.
        seed: of the permutations.
        mesh: where to compute; all devices by default.
        memory: bytes for rows and Gram matrices.
        progress: called with (images done, images in all), counted over all passes.
        stage: entered as stage("extract") and stage("analyse") around the work, to time it.
        extraction: batch_size, skip_bad, workers, device_memory, store, of `extract`.

    Returns:
        All pairs of layers. With itself, p and q of a layer with itself are NaN.

    Raises:
        ValueError: see `choose_layers`, `plan_layers` and `extract`.

    Example:
        >>> from substrate_jax.data import open_source
        >>> from substrate_jax.encoders import load_encoder
        >>> vit = load_encoder("mini_vit_base")
        >>> found = compare_layers([vit], open_source("sample:texture:16"), layers=["blocks.*"])
        >>> found.cka.shape, f"{found.cka[1, 1]:.2f}"
        ((4, 4), '1.00')
    """
    by_name = {encoder.name: encoder for encoder in encoders}
    mesh = mesh or make_mesh()
    chosen: dict[str, Layers] = {}
    if by_name:
        chosen = choose_layers({name: e.spec.config for name, e in by_name.items()}, layers)
    given = given or {}
    chosen |= {name: of.layers for name, of in given.items()}
    plan = plan_layers(chosen, len(source), pool=pool, memory=memory)
    check_fraction("alpha", alpha)
    gather = extraction.get("store") is None
    blocks, edges, grams, ids = [], [], [], source.ids
    for number, group in enumerate(plan.groups):
        stacked = [
            LayerRows(by_name[name], part, pool) for name, part in group.items() if name in by_name
        ]
        features: Mapping[str, Any] = {}
        block = None
        if stacked:
            counted = _over_passes(progress, number, len(plan.groups))
            with stage("extract"):
                features = extract(
                    stacked, source, mesh=mesh, progress=counted, gather=gather, **extraction
                )
            ids = features.ids
        n = len(ids)
        with stage("analyse"):
            for rows in stacked:
                block = features[rows.spec.name]
                if plan.space == "gram":
                    grams += layer_grams(block, rows.edges, mesh)
                else:
                    blocks.append(block)
                    edges.append(rows.edges)
            for name, layer in [(e, of) for e, part in group.items() if e in given for of in part]:
                block = given[name].rows(layer, ids)
                if plan.space == "gram":
                    grams += layer_grams(block, (), mesh)
                else:
                    blocks.append(block)
                    edges.append(())
        del features, block  # before the next group takes their place
    if n < 4:
        raise ValueError(f"n={n} images are too few to compare layers; give 4 or more")
    axes = [LayerAxis(*item) for item in chosen.items()]
    sizes = (len(axes[0].layers), len(axes[-1].layers))
    family = LayerFamily(*sizes, same_encoder=len(axes) == 1)
    with stage("analyse"):
        maxima = None
        if plan.space == "gram":
            stack, hsic = hsic_of_grams(grams, mesh, n)
            if permutations:
                options = {"permutations": permutations, "seed": seed}
                maxima = null_maxima(stack, hsic, family, mesh, **options)
        else:
            hsic = _feature_hsic(blocks, edges, mesh)
        raw, debiased, calibrated = _scores(hsic, family, alpha)
        maximum = None
        if maxima is not None and family.members.any():
            maximum = _best_pair(raw, maxima, family, alpha)
    return LayerComparison(
        n=n,
        pool=pool if encoders else "file",
        space=plan.space,
        passes=len(plan.groups),
        rows=axes[0],
        columns=axes[-1],
        cka=raw,
        cka_debiased=debiased,
        calibrated=calibrated,
        maximum=maximum,
        measure=measure,
    )


def _over_passes(
    progress: Callable[[int, int], object] | None, number: int, passes: int
) -> Callable[[int, int], None] | None:
    """The callback of one pass, which counts images over all of them."""
    if progress is None:
        return None

    def counted(done: int, total: int) -> None:
        progress((number * total + done) // passes, total)

    return counted


def _scores(
    hsic: kernels.PairwiseHsic, family: LayerFamily, alpha: float
) -> tuple[LayerPairs, LayerPairs, CalibratedPairs]:
    """CKA, debiased CKA and calibration, cut from all layers by all to the rows and columns."""
    part = (slice(0, family.n_rows), slice(-family.n_columns, None))
    raw, debiased, found = jax.tree.map(
        lambda values: np.array(values)[part], _scores_of_all(hsic, alpha=alpha)
    )
    members = family.members
    q_value = np.full_like(raw, np.nan)
    if members.any():
        q_value[members] = np.asarray(_benjamini_hochberg(found.p_value[members]))
    calibrated = CalibratedPairs(
        method=found.method,
        skewness=found.skewness,
        alpha=alpha,
        score=found.score,
        tau=found.tau,
        p_value=family.of_members(found.p_value),
        log10_p_value=family.of_members(found.log10_p_value),
        q_value=family.of_members(q_value),
    )
    return raw, debiased, calibrated


def _best_pair(
    raw: LayerPairs, maxima: Float[np.ndarray, " p"], family: LayerFamily, alpha: float
) -> BestPair:
    """The highest CKA of the family against the highest of each permutation."""
    row, column = np.unravel_index(np.argmax(np.where(family.members, raw, -np.inf)), raw.shape)
    tau, p_value = _tail_from_sample(raw[row, column], maxima, alpha)
    return BestPair(
        cka=float(raw[row, column]),
        row=int(row),
        column=int(column),
        tau=float(tau),
        p_value=float(p_value),
        permutations=len(maxima),
        p_family=family.of_members(np.asarray(_family_p_values(raw, maxima))),
    )


_benjamini_hochberg = jax.jit(kernels.benjamini_hochberg)
_tail_from_sample = jax.jit(tail_from_sample, static_argnums=2)
_family_p_values = jax.jit(kernels.family_p_values)


@functools.partial(jax.jit, static_argnames="alpha")
def _scores_of_all(hsic: kernels.PairwiseHsic, *, alpha: float):
    return hsic.cka(), hsic.cka(debiased=True), kernels.calibrate_cka(hsic, alpha=alpha)


def _feature_hsic(
    blocks: Sequence[RowBlock], edges: Sequence[tuple[int, ...]], mesh: Mesh
) -> kernels.PairwiseHsic:
    """The sums of all pairs in feature space; of layers side by side, each process's own rows."""
    placed, mask = shard_blocks(blocks, mesh)
    return _feature_program(mesh, tuple(edges))(placed, mask)


@functools.lru_cache
def _feature_program(mesh: Mesh, edges: tuple[tuple[int, ...], ...]):
    def sums(blocks, mask):
        pairs = zip(blocks, edges, strict=True)
        layers = [layer for block, at in pairs for layer in jnp.split(block, at, axis=1)]
        return kernels.pairwise_hsic(layers, space="feature", mask=mask, axis_name=DATA_AXIS)

    return over_rows(sums, mesh, ROWS)
