"""What calibration gives: scores beside the null they are read against."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Calibration:
    """Scores read against their null, all arrays of one shape ([E, E] for pairs of encoders).

    Attributes:
      score: calibrated score max((observed - tau) / (1 - tau), 0).
      tau: upper alpha quantile of the null; a constant to differentiation.
      p_value: P(null >= observed).
      observed: the score as it was.
      method: "closed_form" or "permutation".
      log10_p_value: of `p_value`, also where that underflows (then an approximation of the tail);
        by default its logarithm.
      skewness: of the closed form's tail, "exact" or "gamma"; None for a sample.

    Example:
      >>> found = Calibration(*map(jnp.asarray, (0.5, 0.2, 0.01, 0.6)), method="permutation")
      >>> float(found.log10_p_value)
      -2.0
    """

    score: Float[Array, "*shape"]
    tau: Float[Array, "*shape"]
    p_value: Float[Array, "*shape"]
    observed: Float[Array, "*shape"]
    method: str = dataclasses.field(metadata={"static": True})
    log10_p_value: Float[Array, "*shape"] | None = None
    skewness: str | None = dataclasses.field(default=None, metadata={"static": True})

    def __post_init__(self):
        if self.log10_p_value is None and self.p_value is not None:
            object.__setattr__(self, "log10_p_value", jnp.log10(self.p_value))

    def _repr_markdown_(self) -> str:
        shape = np.shape(self.score)
        pairs = len(shape) == 2 and shape[0] == shape[1] > 1
        kept = np.triu(np.ones(shape, bool), 1) if pairs else np.ones(shape, bool)
        what = f"{shape[0]} encoders, each pair once" if pairs else f"{kept.sum():,} values"
        head = ["| | least | median | most |", "|---|---:|---:|---:|"]
        rows = []
        for name in ("observed", "tau", "score", "p_value"):
            values = np.asarray(getattr(self, name), np.float64)[kept]
            values = values[~np.isnan(values)]
            found = np.quantile(values, (0, 0.5, 1)) if values.size else [np.nan] * 3
            rows.append(f"| {name} | {' | '.join(f'{value:.3g}' for value in found)} |")
        method = self.method.replace("_", " ")
        return "\n".join([f"Calibration of {what}, null by {method}", "", *head, *rows])
