"""All pairs of encoders on one set of images: CKA, its calibration, and mutual neighbors.

The rows of every block are split over the mesh's data axis, padded to a multiple of it and masked,
so the numbers do not depend on the number of devices. Raw CKA, debiased CKA and the closed-form
null come from the same sums (`kernels.pairwise_hsic`); see `kernels.nulls.calibration` for what
tau, the calibrated score and p mean, and docs/maths.md for the formulas.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, ArrayLike, Float

from substrate_jax import kernels
from substrate_jax.analyses.cka.against_chance import against_chance, pair_q_values
from substrate_jax.analyses.cka.results import (
    CalibratedPairs,
    CalibratedRecall,
    DomainAgreement,
    EncoderComparison,
)
from substrate_jax.kernels.nulls.calibration import choose_skewness
from substrate_jax.kernels.validate import check_rows
from substrate_jax.mesh import (
    DATA_AXIS,
    EVERYWHERE,
    ROWS,
    after,
    make_mesh,
    over_rows,
    shard_blocks,
)
from substrate_jax.substrate.domains import Panel


def compare_encoders(
    features: Panel,
    *,
    ks: Sequence[int] = (10, 30, 100),
    method: str = "closed_form",
    permutations: int = 200,
    alpha: float = 0.05,
    skewness: str = "auto",
    seed: int = 0,
    mesh: Mesh | None = None,
) -> EncoderComparison:
    """CKA, its calibration and mutual neighbors of every pair of a panel on one set of images.

    Args:
        features: encoder name -> [n, d], rows of all encoders in the same order.
        ks: neighbors for mutual kNN recall, each below n.
        method: "closed_form" or "permutation".
        permutations: draws, for "permutation".
        alpha: level of tau.
        skewness: of the closed form's tail for CKA, "exact", "gamma" or "auto": see
            `kernels.calibrate_cka`.
        seed: of the permutations.
        mesh: where to compute; all devices by default.

    Returns:
        Matrices [E, E] in the order of `features`. q-values are Benjamini-Hochberg over the pairs;
        p and q of an encoder with itself are NaN.

    Raises:
        ValueError: NaN or inf, fewer than 4 rows, a k not below n, or an option out of range.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
        >>> found = compare_encoders({"one": x, "two": 2 * x}, ks=(5,))
        >>> found.n, round(float(found.calibrated.score[0, 1]), 4)
        (60, 1.0)
    """
    mesh = mesh or make_mesh()
    kernels.check_finite(list(features.values()), list(features))
    n = len(next(iter(features.values())))
    check_rows(n, 4, "calibration")
    if too_large := [k for k in ks if k >= n]:
        raise ValueError(f"k={too_large[0]} with n={n} images: give k below n, or more images")
    blocks, mask = shard_blocks(features.values(), mesh)
    closed_form = method == "closed_form"
    if closed_form:
        skewness = choose_skewness(skewness, blocks)
    program = comparison_program(mesh, tuple(ks), method, permutations, alpha, skewness == "exact")
    cka, cka_debiased, calibrated, q_values = jax.tree.map(
        np.asarray, program(blocks, mask, jax.random.key(seed))
    )

    def calibrated_pairs(index: int, tail: str) -> CalibratedPairs:
        found = jax.tree.map(lambda values: values[index], calibrated)
        found = dataclasses.replace(found, skewness=tail if closed_form else None)
        return against_chance(found, alpha, q_values[index])

    return EncoderComparison(
        n=n,
        cka=cka,
        cka_debiased=cka_debiased,
        calibrated=calibrated_pairs(0, skewness),
        mutual_knn={
            k: CalibratedRecall(calibrated.observed[i], calibrated_pairs(i, "exact"))
            for i, k in enumerate(ks, start=1)
        },
    )


def domain_agreement(
    domains: Sequence[str], pcka: Float[ArrayLike, "m m"], k: int
) -> DomainAgreement | None:
    """Median and minimum of the PCKA between domains.

    Args:
        domains: names.
        pcka: of every pair, as `substrate.pairwise_pcka` gives it.
        k: components of each substrate.

    Returns:
        The agreement; None for a single domain.

    Example:
        >>> domain_agreement(["sky", "sea"], np.array([[1, 0.5], [0.5, 1]]), k=4).min_pair
        ['sky', 'sea']
    """
    if len(domains) < 2:
        return None
    matrix = np.asarray(pcka, np.float64)
    pairs = list(itertools.combinations(range(len(domains)), 2))
    values = np.array([matrix[pair] for pair in pairs])
    lowest = int(np.nanargmin(values))
    return DomainAgreement(
        domains=list(domains),
        matrix=matrix,
        median=float(np.nanmedian(values)),
        min=float(values[lowest]),
        min_pair=[domains[i] for i in pairs[lowest]],
        k=k,
    )


@functools.lru_cache
def comparison_program(
    mesh: Mesh, ks: tuple[int, ...], method: str, permutations: int, alpha: float, cubic: bool
):
    """The compiled comparison of blocks, their mask and a key, shared by domains of one size.

    Its calibration holds CKA first, then mutual kNN recall for each k. `compare_encoders` has the
    options.
    """

    def compare(blocks: list[Array], mask: Array, key: Array):
        closed_form = method == "closed_form"
        hsic = kernels.pairwise_hsic(
            blocks, mask=mask, axis_name=DATA_AXIS, cubic=closed_form and cubic
        )
        # Processes must meet in one order, and on CPU XLA keeps none between what communicates in
        # a loop and what does outside of it.
        mask = after(hsic.inner, mask)
        if closed_form:
            neighbors = kernels.mutual_knn(blocks, ks, mask=mask, axis_name=DATA_AXIS)
            cka = (hsic.cka(), *kernels.cka_null_moments(hsic))
            knn = (neighbors.recall, *neighbors.null_moments())
            # One call for all measures: the tail's bisection is compiled once.
            observed, mean, variance, skewness = jax.tree.map(stack, cka, knn)
            step = jnp.pad(neighbors.step, ((1, 0), (0, 0), (0, 0)))  # CKA is continuous
            calibrated = kernels.tail_from_moments(
                observed, mean, variance, alpha, skewness, step=step
            )
        else:
            options = {
                "method": method,
                "permutations": permutations,
                "alpha": alpha,
                "key": key,
                "mask": mask,
                "axis_name": DATA_AXIS,
            }
            cka = kernels.calibrate_cka(blocks, **options)
            options["mask"] = after(cka.observed, mask)
            knn = kernels.calibrate_mutual_knn(blocks, ks, **options)
            calibrated = jax.tree.map(stack, cka, knn)
        q_values = pair_q_values(calibrated.p_value)
        return hsic.cka(), hsic.cka(debiased=True), calibrated, q_values

    def stack(cka: Array, knn: Array) -> Array:
        return jnp.concatenate([cka[None], knn])

    return over_rows(compare, mesh, (ROWS, ROWS, EVERYWHERE))
