"""What the comparison of layers finds: typed results, fields named as in result.json.

A layers of one encoder are the rows and B layers of another the columns, both in order of
computation; one encoder is compared with itself. NaN stands for a number that does not exist, such
as the p-value of a layer with itself.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from substrate_jax.analyses.cka.results import CalibratedPairs
from substrate_jax.report.run import ImageSet, Run
from substrate_jax.report.values import INLINE

LayerPairs = Float[np.ndarray, "a b"]


@dataclasses.dataclass(frozen=True)
class LayerAxis:
    """The layers on one side.

    Attributes:
        encoder: name of the encoder.
        layers: name -> shape of one image's activation, in order of computation.
    """

    encoder: str
    layers: Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class LayerFamily:
    """The pairs that are tested together: all, or of one encoder those above the diagonal.

    Attributes:
        n_rows: layers of the first encoder.
        n_columns: layers of the second.
        same_encoder: both are one, and rows and columns the same layers.

    Example:
        >>> LayerFamily(2, 2, same_encoder=True).members.tolist()
        [[False, True], [False, False]]
    """

    n_rows: int
    n_columns: int
    same_encoder: bool

    @property
    def members(self) -> Bool[np.ndarray, "a b"]:
        """Which entries of a matrix are pairs of the family; each pair is one once."""
        everything = np.ones((self.n_rows, self.n_columns), bool)
        return np.triu(everything, 1) if self.same_encoder else everything

    def of_members(self, values: LayerPairs) -> LayerPairs:
        """Values of the family, and of a pair's mirror image; NaN elsewhere.

        Example:
            >>> LayerFamily(2, 2, same_encoder=True).of_members(np.array([[1, 0.5], [0.4, 1]]))
            array([[nan, 0.5],
                   [0.5, nan]])
        """
        kept = np.where(self.members, values, np.nan)
        return np.where(np.isnan(kept), kept.T, kept) if self.same_encoder else kept


@dataclasses.dataclass(frozen=True)
class BestPair:
    """The highest raw CKA of the family, and chance's highest by permutations.

    Attributes:
        cka: of the best pair.
        row: its layer of the first encoder, from 0.
        column: its layer of the second.
        tau: the highest CKA of the family that chance exceeds with probability alpha.
        p_value: share of permutations whose highest CKA reaches that of the best pair.
        permutations: draws.
        p_family: [A, B] the same share for each pair: its p adjusted for the whole family.
    """

    cka: float
    row: int
    column: int
    tau: float
    p_value: float
    permutations: int
    p_family: LayerPairs


@dataclasses.dataclass(frozen=True)
class LayerComparison:
    """Every layer of one encoder with every layer of another on one set of images.

    Attributes:
        n: images.
        pool: "mean" over positions or tokens, "flatten", or "file" of rows that were given.
        space: of the computation, "gram" or "feature".
        passes: over the images.
        rows: the first encoder.
        columns: the second, or the first again.
        cka: [A, B] linear CKA in [0, 1].
        cka_debiased: [A, B] from the unbiased HSIC, at most 1, may be negative.
        calibrated: [A, B] linear CKA against chance; q over the pairs of the family.
        maximum: the best of all pairs; None where its null was not sampled.
        measure: the headline, "cka" or "cka_debiased".
    """

    n: int
    pool: str
    space: str
    passes: int
    rows: LayerAxis
    columns: LayerAxis
    cka: LayerPairs
    cka_debiased: LayerPairs
    calibrated: CalibratedPairs
    maximum: BestPair | None
    measure: str

    @property
    def same_encoder(self) -> bool:
        """Whether one encoder is compared with itself."""
        return self.rows.encoder == self.columns.encoder

    @property
    def family(self) -> LayerFamily:
        """The pairs that are tested together."""
        return LayerFamily(len(self.rows.layers), len(self.columns.layers), self.same_encoder)


@dataclasses.dataclass(frozen=True)
class LayersDomain:
    """The images of a run of experiments.layers.

    Attributes:
        name: of the domain.
        images: what they are.
    """

    name: str
    images: ImageSet = dataclasses.field(metadata=INLINE)


@dataclasses.dataclass(frozen=True)
class LayersResult:
    """Everything that experiments.layers finds.

    Attributes:
        run: how it was made.
        domain: the images.
        comparison: of all pairs of layers.
    """

    run: Run = dataclasses.field(metadata=INLINE)
    domain: LayersDomain
    comparison: LayerComparison
