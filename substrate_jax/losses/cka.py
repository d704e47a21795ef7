"""1 - CKA of a batch of features with a fixed target of the same images.

The target may be the scores of a substrate, the features of another network, or one-hot labels. The
loss needs no teacher in the loop, does not care about the target's width, and leaves the features
free up to rotation, shift and one scale.

Biased CKA grows as the batch shrinks, whatever the features are: more features than rows overlap by
chance. Its loss therefore falls where the number of directions grows, aligned or not. The debiased
estimate is 0 on average for independent features at every size. Means over 60 draws of Gaussian
features, 512 against 16 wide, and the standard deviation of the debiased:

    rows                    8      16      32      64     128     256     512
    CKA                  .815    .698    .560    .423    .298    .198    .123
    debiased CKA        -.028    .001   -.002   -.003   -.001    .000    .000
    its deviation        .236    .093    .056    .022    .010    .005    .003

Cost: 2 b min(b, d + k) (d + k) flops for b rows, four times that with the gradient.

References:
    S. Kornblith et al. (2019), Similarity of neural network representations revisited.
    L. Song et al. (2012), Feature selection via dependence maximization, JMLR 13.
    Y. Radwan (2026), The cross-architecture substrate, arXiv:2606.07882 (biased, as a loss).
"""

import functools
import warnings

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from substrate_jax import kernels
from substrate_jax.kernels.arithmetic import AnyArray
from substrate_jax.kernels.validate import all_rows
from substrate_jax.losses.batch import check_pair

FEW_ROWS = 32


def cka_loss(
    features: Float[AnyArray, "b d"],
    target: Float[AnyArray, "b k"],
    *,
    debiased: bool = True,
    axis_name=None,
    mask: Bool[AnyArray, " b"] | None = None,
) -> Float[Array, ""]:
    """1 - CKA of features and target, over the rows of a batch.

    Args:
      features: [b, d] of the network that is trained; bfloat16 and float16 are upcast to float32,
        and products run at the highest precision.
      target: [b, k] of the same images; no gradient flows into it.
      debiased: the unbiased estimate of HSIC, 0 on average for independent features; else as in
        the paper.
      axis_name: mesh axis that the rows are sharded over, if any: the value and its gradient are
        those of the whole batch.
      mask: [b] rows that count; the others may hold anything.

    Returns:
      A scalar in [0, 1], or in [0, 2] if debiased, as that estimate can be negative. It is 1 with a
      zero gradient where features or target are constant or, if debiased, have nothing left to
      compare: all rows but one are alike, or all are equally far apart, as one-hot labels are in a
      batch that has no class twice. NaN where an input is, and, if debiased, where fewer than 4
      rows count.

    Raises:
      ValueError: inputs that are no floating-point matrices of the same rows, or a batch of fewer
        than 4 rows.

    Warns:
      RuntimeWarning: once, for a batch of fewer than 32 rows: the estimate is then mostly noise.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jax.random.normal(jax.random.key(0), (64, 5))
      >>> turned = 3 * x[:, ::-1] + 7
      >>> float(jnp.round(cka_loss(x, turned), 4)), float(cka_loss(jnp.ones((64, 5)), x))
      (0.0, 1.0)
    """
    given = {"features": features, "target": target}
    check_pair(given, mask, axis_name, least=4, what="a CKA loss")
    if all_rows(features.shape[0], axis_name) < FEW_ROWS:
        _warn_of_few_rows()
    held = jax.lax.stop_gradient(target)
    hsic = kernels.pairwise_hsic([features, held], mask=mask, axis_name=axis_name)
    cka = hsic.cka(debiased=debiased)[0, 1]
    # NaN of debiasing alone, as the sums are finite: nothing is left to compare.
    nothing = jnp.isnan(cka) & jnp.all(jnp.isfinite(hsic.inner)) & (hsic.count >= 4)
    return 1 - jnp.where(nothing, 0, cka)


@functools.cache
def _warn_of_few_rows() -> None:
    """Once per process: a compiled step is traced more than once."""
    warnings.warn(
        f"CKA of fewer than {FEW_ROWS} rows is mostly noise: give a larger batch, or more devices "
        "and axis_name",
        RuntimeWarning,
        stacklevel=3,
    )
