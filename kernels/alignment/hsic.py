"""The sums that CKA, debiased CKA and their calibration need, of every pair of encoders.

`PairwiseHsic` holds them for kernels centered over the rows and of unit trace, however they were
found: from all rows at once (`linear_cka`, `rbf_cka`) or from batches (`streaming_cka`). The
unbiased estimate of HSIC for centered kernels is, up to the factor 1 / (n (n-3)),

    <K, L> - n/(n-2) <diag K, diag L> + tr K tr L / ((n-1)(n-2)),

(Song et al. 2012, eq. 5, whose K~ 1 is -diag K when K 1 = 0); debiased CKA is its ratio. It can be
negative and is not clamped. Debiasing subtracts: its relative error grows by <K, K> / HSIC, which
is large when d >> n and features are nearly white, and where one row lies far from all others, of
which then little is left. Where the estimate of an encoder with itself is no more than rounding
(`rounding`: eps times 64 to 1,024 of <K, K>), debiased CKA is 0 / 0 and thus NaN: in float32 for
rows that form a regular simplex, and for an outlying row beyond some 1,000 times the distance of
the others, of 60. float64 has room for 10^5.

References:
    Song, Smola, Gretton, Bedo, Borgwardt (2012), Feature selection via dependence maximization.
    JMLR 13.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..arithmetic import divide, root
from ..jit_over import jit_over


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PairwiseHsic:
    """The sums that every statistic of a pair of linear kernels needs.

    Each encoder is divided by `scale` (so that tr K = 1), which no alignment depends on: the inner
    product of the kernels as given is `inner[i, j] * scale[i]**2 * scale[j]**2`. An encoder that is
    constant over the rows has zeros throughout.

    Attributes:
      inner: [E, E] <K_i, K_j>.
      diagonal: [E, E] <diag K_i, diag K_j>.
      trace: [E] tr K_i: 1, or 0 where constant.
      scale: [E] root of the trace of the kernel as given; a constant to differentiation.
      count: rows n.
      cubic: [5, E] the sums of third order of each K less its trace, in the order that
        `permutation_moments` lists; None unless asked for. Constants to differentiation.

    Example:
      >>> from substrate_jax.kernels import pairwise_hsic
      >>> x = jnp.array([[0.0], [1.0], [5.0], [2.0]])
      >>> hsic = pairwise_hsic([x, 0 * x])
      >>> hsic.trace.round(3).tolist(), int(hsic.count)
      ([1.0, 0.0], 4)
    """

    inner: Float[Array, "E E"]
    diagonal: Float[Array, "E E"]
    trace: Float[Array, " E"]
    scale: Float[Array, " E"]
    count: Int[Array, ""]
    cubic: Float[Array, "5 E"] | None = None

    @jit_over("self")
    def debiased(self) -> Float[Array, "E E"]:
        """n (n-3) times the unbiased estimate of HSIC; needs n >= 4.

        Example:
          >>> from substrate_jax.kernels import pairwise_hsic
          >>> x = jnp.array([[1.0], [-1.0], [0.0], [0.0]])
          >>> pairwise_hsic([x]).debiased().round(3).tolist()  # 1 - 4/2 x 1/2 + 1/6
          [[0.167]]
        """
        n = self.count.astype(self.inner.dtype)
        traces = self.trace[:, None] * self.trace[None, :]
        return self.inner - n / (n - 2) * self.diagonal + traces / ((n - 1) * (n - 2))

    @jit_over("self")
    def cka(self, *, debiased: bool = False) -> Float[Array, "E E"]:
        """CKA of all pairs; 0, with a zero gradient, where an encoder is constant.

        With `debiased`, NaN if fewer than 4 rows count, or where rounding is all that debiasing
        leaves of an encoder that is not constant.

        Example:
          >>> from substrate_jax.kernels import pairwise_hsic
          >>> x = jnp.array([[0.0], [1.0], [5.0]])
          >>> pairwise_hsic([x, x**2]).cka()[0].round(3).tolist()
          [1.0, 0.976]
        """
        hsic = self.debiased() if debiased else self.inner
        norm, whole = jnp.diagonal(hsic), jnp.diagonal(self.inner)
        lost = norm <= rounding(self.count, hsic.dtype) * whole
        norm = root(jnp.where(lost, 0, norm) if debiased else norm)
        result = divide(hsic, norm[:, None] * norm[None, :])
        if not debiased:
            return result
        lost = lost & (whole > 0)
        undefined = lost[:, None] | lost[None, :] | (self.count < 4)
        return jnp.where(undefined, jnp.nan, result)


def rounding(count: Int[Array, ""], dtype) -> Float[Array, ""]:
    """What sums over n^2 entries in tiles may be off by, relative to <K, K>: 64 to 1,024 eps.

    Measured on kernels of regular simplices: up to eps min(3.2 n, 850), n = 4 to 2,000.
    """
    return jnp.finfo(dtype).eps * jnp.clip(4 * count.astype(dtype), 64, 1024)
