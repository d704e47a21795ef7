"""What experiments.transferability finds: typed results, fields named as in result.json."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from substrate_jax.analyses.transferability.filters import FilteredChoice
from substrate_jax.analyses.transferability.judgment import Judgment
from substrate_jax.report.run import ImageSet, Run
from substrate_jax.report.values import INLINE


@dataclasses.dataclass(frozen=True)
class Target:
    """A labeled domain that encoders are ranked for.

    Attributes:
        images: what they are.
        classes: how many.
        fitted: images whose features and labels scores and probes see.
        held_out: images that accuracy is measured on.
    """

    images: ImageSet
    classes: int
    fitted: int
    held_out: int


@dataclasses.dataclass(frozen=True)
class JudgedTable:
    """Accuracies of m models on t targets, scores for them, and how well these rank the models.

    Attributes:
        accuracy: [m, t] in percent, or as published.
        scores: name -> [m, t], higher is better.
        directions: name -> 1, or -1 where a published score was turned.
        judgment: of the scores and the static order.
        choice: in two steps; None without its two scores.
        truth: what the accuracy is of, "probe", "finetune" or the name of a file; None for a
            published table.
        targets: what was measured; None for a published table.
        seconds: score -> its time over all models and targets; None for a published table, and for
            a part of another.
        without: model of the run's own panel that is not among these -> why; None where all are.
    """

    accuracy: Float[np.ndarray, "m t"]
    scores: Mapping[str, Float[np.ndarray, "m t"]]
    directions: Mapping[str, int]
    judgment: Judgment
    choice: FilteredChoice | None
    truth: str | None = None
    targets: Mapping[str, Target] | None = None
    seconds: Mapping[str, float] | None = None
    without: Mapping[str, str] | None = None

    @property
    def order(self) -> Sequence[int]:
        """Places of the scores in the judgment, that of the highest first metric first."""
        values = self.judgment.value[:, 0]
        return [int(i) for i in np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")]


@dataclasses.dataclass(frozen=True)
class TransferabilityResult:
    """Tables judged in one run.

    Attributes:
        run: how it was made.
        tables: name -> table; `panel` is that of the run's own encoders, `classifiers` of those of
            them that were trained on classes, where these are not all.
    """

    run: Run = dataclasses.field(metadata=INLINE)
    tables: Mapping[str, JudgedTable]
