"""Linear CKA of every layer of one encoder with every layer of another, exact, from all images.

A layer l gives one row an image, X_l [n, d_l] (`analyses.layers.rows`). What follows is the CKA of
`kernels` for all E = L_A + L_B layers at once; a batch is never compared by itself, so its size
changes the numbers by rounding only. In feature space the rows are spread over the devices and the
work is that of `kernels.pairwise_hsic`. In Gram space the features are:

    K_l = sum_b X_l[:, b] X_l[:, b]',    b over blocks of features.

Centering is by feature, so each block is centered exactly on the device that holds it, no rows are
gathered, and only n x n sums travel. <K_l, K_m> of all pairs then follow from the E matrices. Which
space, and at what cost: `analyses.layers.rows`.

The null permutes the images of one encoder. tau, p and q (Benjamini-Hochberg over all pairs of
layers) are in closed form. The best of many pairs is high by chance alone, so in Gram space the
null of the maximum over pairs is sampled too, at n^2 L_A L_B flops a draw; the share of draws
whose maximum reaches a pair's CKA is its p adjusted for the whole family (Westfall, Young 1993).

In a run of several processes each holds, in feature space, the rows of its own devices, which it
reads from the store. In Gram space, or without a store, every process gathers the rows of a pass,
and `memory` is that of each.

Not guaranteed: Gram matrices are summed in float32 from activations as they are, which should lie
between 1e-8 and 1e8 in size. See `kernels.alignment.linear_cka` for what debiasing loses when d >>
n.

References:
    Kornblith, Norouzi, Lee, Hinton (2019), Similarity of neural network representations revisited.
    Groeger, Wen, Brbic (2026), arXiv:2602.14486 (calibration, and of a maximum over layers).
    Westfall, Young (1993), Resampling-based multiple testing.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from substrate_jax import kernels
from substrate_jax.analyses.layers.rows import MEMORY, LayerRows, choose_layers, plan_layers
from substrate_jax.data.sources import Source
from substrate_jax.encoders.encoder import Encoder
from substrate_jax.features import StoredRows, extract
from substrate_jax.kernels.arithmetic import HIGHEST, divide, is_constant
from substrate_jax.kernels.nulls.permutation import permuted_products, tail_from_sample
from substrate_jax.kernels.validate import check_fraction
from substrate_jax.mesh import DATA_AXIS, make_mesh, shard_rows

BLOCK_BYTES = 2**26  # of a layer's features on each device at a time


def compare_layers(
    encoders: Sequence[Encoder],
    source: Source,
    *,
    layers: Sequence[str] = ("all",),
    pool: str = "mean",
    alpha: float = 0.05,
    permutations: int = 200,
    seed: int = 0,
    mesh: Mesh | None = None,
    memory: int = MEMORY,
    progress: Callable[[int, int], None] | None = None,
    stage: Callable[[str], AbstractContextManager] = contextlib.nullcontext,
    **extraction,
) -> dict:
    """Linear CKA between all layers of two encoders, or of one with itself.

    Args:
        encoders: one or two.
        source: the images.
        layers: regular expressions for whole names, or "all".
        pool: "mean" over positions or tokens (the class token is one of them), or "flatten".
        alpha: level of tau.
        permutations: draws for the null of the maximum; 0 for none.
        seed: of the permutations.
        mesh: where to compute; all devices by default.
        memory: bytes for rows and Gram matrices.
        progress: called with (images done, images in all), counted over all passes.
        stage: entered as stage("extract") and stage("analyse") around the work, to time it.
        extraction: batch_size, skip_bad, workers, device_memory, store, of `extract`.

    Returns:
        `n`, `pool`, `space`, `passes`; `rows` and `columns`, each with the `encoder` and its
        `layers` (name -> shape); `cka` and `cka_debiased` [L_A, L_B]; `calibrated` with `score`,
        `tau`, `p_value`, `log10_p_value`, `q_value` [L_A, L_B], `method`, `skewness` and `alpha`;
        `maximum`, or None: `cka`, `row`, `column`, `tau`, `p_value`, `permutations` and `p_family`
        [L_A, L_B]. With itself, a family is the pairs above the diagonal; p and q of a layer with
        itself are NaN.

    Raises:
        ValueError: see `choose_layers`, `plan_layers` and `extract`.

    Example:
        >>> from substrate_jax.data import open_source
        >>> from substrate_jax.encoders import load_encoder
        >>> vit = load_encoder("mini_vit_base")
        >>> found = compare_layers([vit], open_source("sample:texture:16"), layers=["blocks.*"])
        >>> found["cka"].shape, f"{found['cka'][1, 1]:.2f}"
        ((4, 4), '1.00')
    """
    by_name = {encoder.name: encoder for encoder in encoders}
    mesh = mesh or make_mesh()
    chosen = choose_layers({name: e.spec.config for name, e in by_name.items()}, layers)
    plan = plan_layers(chosen, len(source), pool=pool, memory=memory)
    check_fraction("alpha", alpha)
    # A Gram matrix takes some features of all images; in feature space devices take some images.
    gather = plan.space == "gram" or extraction.get("store") is None
    blocks, grams = [], []
    for number, group in enumerate(plan.groups):
        stacked = [LayerRows(by_name[name], part, pool) for name, part in group.items()]
        counted = _over_passes(progress, number, len(plan.groups))
        with stage("extract"):
            features = extract(
                stacked, source, mesh=mesh, progress=counted, gather=gather, **extraction
            )
        n = len(features.ids)
        with stage("analyse"):
            for rows in stacked:
                block = features[rows.spec.name]
                if plan.space == "gram":
                    grams += [_gram(part, mesh) for part in np.split(block, rows.edges, axis=1)]
                else:
                    blocks.append((block, rows.edges))
        del features, block  # before the next group takes their place
    if n < 4:
        raise ValueError(f"n={n} images are too few to compare layers; give 4 or more")
    names = list(chosen)
    first, last = len(chosen[names[0]]), len(chosen[names[-1]])
    with stage("analyse"):
        stack, hsic = _gram_hsic(grams) if grams else (None, _feature_hsic(blocks, mesh))
        sampled = None
        if grams and permutations:
            options = (first, last, len(chosen) == 1)
            sampled = _null_maxima(stack, hsic, jax.random.key(seed), permutations, mesh, *options)
        measures = _measures(hsic, sampled, first, last, len(chosen) == 1, alpha)
    return {
        "n": n,
        "pool": pool,
        "space": plan.space,
        "passes": len(plan.groups),
        "rows": {"encoder": names[0], "layers": chosen[names[0]]},
        "columns": {"encoder": names[-1], "layers": chosen[names[-1]]},
        **measures,
    }


def _over_passes(progress, number: int, passes: int):
    """The callback of one pass, which counts images over all of them."""
    if progress is None:
        return None
    return lambda done, total: progress((number * total + done) // passes, total)


def _measures(hsic, sampled, first: int, last: int, itself: bool, alpha: float) -> dict:
    """Everything that follows from the sums, cut to rows of A and columns of B."""
    part = (slice(0, first), slice(-last, None))
    raw, debiased, calibrated = jax.tree.map(
        lambda values: np.array(values)[part], _scores(hsic, alpha=alpha)
    )
    family = np.triu(np.ones(raw.shape, bool), 1) if itself else np.ones(raw.shape, bool)
    p_value, log10_p_value = (
        np.where(family, values, np.nan)
        for values in (calibrated.p_value, calibrated.log10_p_value)
    )
    q_value = np.full_like(p_value, np.nan)
    if family.any():
        q_value[family] = np.asarray(_benjamini_hochberg(p_value[family]))
    maximum = None
    if sampled is not None and family.any():
        best = np.unravel_index(np.argmax(np.where(family, raw, -np.inf)), raw.shape)
        tau, p = _tail_from_sample(raw[best], sampled, alpha)
        p_family = np.asarray(_family_p_values(raw, sampled))
        maximum = {
            "cka": float(raw[best]),
            "row": int(best[0]),
            "column": int(best[1]),
            "tau": float(tau),
            "p_value": float(p),
            "permutations": len(sampled),
            "p_family": _mirror(np.where(family, p_family, np.nan), itself),
        }
    return {
        "cka": raw,
        "cka_debiased": debiased,
        "calibrated": {
            "method": calibrated.method,
            "skewness": calibrated.skewness,
            "alpha": alpha,
            "score": calibrated.score,
            "tau": calibrated.tau,
            "p_value": _mirror(p_value, itself),
            "log10_p_value": _mirror(log10_p_value, itself),
            "q_value": _mirror(q_value, itself),
        },
        "maximum": maximum,
    }


def _mirror(values: np.ndarray, itself: bool) -> np.ndarray:
    """Values above the diagonal below it too, where rows and columns are the same layers."""
    return np.where(np.isnan(values), values.T, values) if itself else values


_benjamini_hochberg = jax.jit(kernels.benjamini_hochberg)
_tail_from_sample = jax.jit(tail_from_sample, static_argnums=2)
_family_p_values = jax.jit(kernels.family_p_values)


@functools.partial(jax.jit, static_argnames="alpha")
def _scores(hsic: kernels.PairwiseHsic, *, alpha: float):
    """CKA, debiased CKA and the calibration of all pairs."""
    return hsic.cka(), hsic.cka(debiased=True), kernels.calibrate_cka(hsic, alpha=alpha)


def _feature_hsic(
    blocks: Sequence[tuple[np.ndarray | StoredRows, tuple[int, ...]]], mesh: Mesh
) -> kernels.PairwiseHsic:
    """The sums of all pairs in feature space; of layers side by side, each process's own rows."""
    placed, masks = zip(*(shard_rows(block, mesh) for block, _ in blocks), strict=True)
    return _feature_program(mesh, tuple(edges for _, edges in blocks))(list(placed), masks[0])


@functools.lru_cache
def _feature_program(mesh: Mesh, edges: tuple[tuple[int, ...], ...]):
    def sums(blocks, mask):
        pairs = zip(blocks, edges, strict=True)
        layers = [layer for block, at in pairs for layer in jnp.split(block, at, axis=1)]
        return kernels.pairwise_hsic(layers, space="feature", mask=mask, axis_name=DATA_AXIS)

    rows = PartitionSpec(DATA_AXIS)
    return jax.jit(jax.shard_map(sums, mesh=mesh, in_specs=(rows, rows), out_specs=PartitionSpec()))


def _gram(block: Float[np.ndarray, "n d"], mesh: Mesh) -> tuple[Array, Array, int]:
    """Gram matrix [n, n] of the centered rows, largest size of an entry, and number of entries."""
    (n, width), axis = block.shape, mesh.shape[DATA_AXIS]
    step = axis * max(1, BLOCK_BYTES // (4 * n))
    sharding = NamedSharding(mesh, PartitionSpec(None, DATA_AXIS))
    total = reach = None
    for start in range(0, width, step):
        part = block[:, start : start + step]
        part = np.pad(part, ((0, 0), (0, -part.shape[1] % axis)))
        placed = jax.make_array_from_callback(part.shape, sharding, part.__getitem__)
        gram, largest = _gram_program(mesh)(placed)
        total = gram if total is None else total + gram
        reach = largest if reach is None else jnp.maximum(reach, largest)
    return total, reach, n * width


@functools.lru_cache
def _gram_program(mesh: Mesh):
    def gram(columns):
        centered = kernels.center(columns)
        product = jnp.matmul(centered, centered.T, precision=HIGHEST)
        reach = jnp.max(jnp.abs(columns))
        return jax.lax.psum(product, DATA_AXIS), jax.lax.pmax(reach, DATA_AXIS)

    return jax.jit(
        jax.shard_map(
            gram, mesh=mesh, in_specs=PartitionSpec(None, DATA_AXIS), out_specs=PartitionSpec()
        )
    )


@functools.partial(jax.jit, static_argnums=2)
def _hsic_of_stack(grams, reaches, sizes: tuple[int, ...]):
    stack = jnp.stack(grams)
    roots = jnp.sqrt(jnp.maximum(jnp.trace(stack, axis1=1, axis2=2), 0))
    entries = jnp.sqrt(jnp.asarray(sizes, stack.dtype))
    scale = jnp.where(is_constant(roots, entries * jnp.stack(reaches), stack.dtype), 0, roots)
    inverse = jnp.where(scale > 0, 1 / jnp.where(scale > 0, scale, 1), 0)
    stack = stack * inverse[:, None, None] * inverse[:, None, None]  # unit trace; no overflow
    norms = jnp.diagonal(stack, axis1=1, axis2=2)
    inner = _inner(stack, stack)
    diagonal = jnp.matmul(norms, norms.T, precision=HIGHEST)
    count = jnp.asarray(stack.shape[1], jnp.int32)
    return stack, kernels.PairwiseHsic(inner, diagonal, jnp.sum(norms, axis=1), scale, count)


def _gram_hsic(grams: Sequence[tuple]) -> tuple[Array, kernels.PairwiseHsic]:
    """Gram matrices of unit trace [E, n, n], and the sums of all pairs; of what `_gram` gave."""
    matrices, reaches, sizes = zip(*grams, strict=True)
    return _hsic_of_stack(list(matrices), list(reaches), sizes)


def _inner(left: Float[Array, "a n n"], right: Float[Array, "b n n"]) -> Float[Array, "a b"]:
    """<K_i, L_j>, summed by rows first: one sum of n^2 terms would lose digits."""
    return jnp.sum(jnp.einsum("iab,jab->aij", left, right, precision=HIGHEST), axis=0)


def _null_maxima(stack, hsic, key, draws: int, mesh: Mesh, first: int, last: int, itself: bool):
    """Largest CKA of the family in each draw [draws]; the devices share the draws."""
    return np.asarray(_null_program(mesh, draws, first, last, itself)(stack, hsic.inner, key))


@functools.lru_cache
def _null_program(mesh: Mesh, draws: int, first: int, last: int, itself: bool):
    family = np.triu(np.ones((first, last), bool), 1) if itself else np.ones((first, last), bool)

    def maxima(stack, inner, key):
        norm = jnp.sqrt(jnp.diagonal(inner))
        norm = norm[:first, None] * norm[None, -last:]
        products = permuted_products(stack[:first], stack[-last:])

        def largest(order):
            return kernels.max_null(divide(products(order), norm)[None], family)[0]

        return kernels.sample_null(largest, key, draws, stack.shape[1], axis_name=DATA_AXIS)

    everywhere = PartitionSpec()
    return jax.jit(jax.shard_map(maxima, mesh=mesh, in_specs=everywhere, out_specs=everywhere))
