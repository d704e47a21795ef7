"""One table of similarity measures: how each is computed, what it means, and how it is resampled.

`MEASURES` maps a name to a `Measure`, whose function takes blocks [n, d_e] of E encoders and gives
an [E, E] matrix, entry [x, y] for the ordered pair. The command line, the report, the tests and
`bootstrap` all read this table, so that a measure is added in one place.

Invariances are those of one encoder's features x_i, the rows of all others kept: "rotation"
x_i -> Q'x_i, "scale" x_i -> c x_i, "shift" x_i -> x_i + b. A measure has those that are named and,
on data in general, no other of the three.

Cost and limits are those of each module. `sharded` says that sharded rows stay where they are but
for the candidates of a tile; otherwise every device gathers all rows and computes all of it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from jaxtyping import Array, Bool, Float

from ..alignment.linear_cka import pairwise_cka
from ..alignment.rbf_cka import pairwise_rbf_cka
from ..neighbors.cknna import cycle_knn, pairwise_cknna
from ..neighbors.mutual_knn import mutual_knn
from ..validate import all_rows, check_blocks, check_option, check_rows
from .canonical import pairwise_procrustes, pairwise_pwcca, pairwise_svcca
from .predictivity import linear_predictivity
from .rsa import pairwise_rsa

RESAMPLING = ("bootstrap", "subsample")
SHARE = 0.8  # m / n of a subsample


@dataclasses.dataclass(frozen=True)
class Measure:
    """A similarity measure of all pairs of encoders.

    Attributes:
      title: what it is called in print.
      compute: function(blocks, *, mask=None, axis_name=None, **options) -> [E, E].
      symmetric: whether entry [x, y] equals [y, x].
      low: the least value there is; -inf if there is none.
      one: what 1, the highest value, means.
      zero: what 0 means.
      invariances: the changes of one encoder's features that leave it alone.
      copies: what duplicate rows do to it.
      resampling: "bootstrap", rows drawn with replacement; "subsample", without, for measures that
        copies of a row would distort.
      citation: its source.
      rows: the fewest rows it takes with its default options.
      self_one: whether an encoder has 1 with itself.
      sharded: whether sharded rows stay where they are.
      options: keywords of `compute` with their defaults.

    Example:
      >>> entry = MEASURES["pwcca"]
      >>> entry.symmetric, entry.low, sorted(entry.invariances)
      (False, 0.0, ['scale', 'shift'])
    """

    title: str
    compute: Callable[..., Float[Array, "E E"]]
    symmetric: bool
    low: float
    one: str
    zero: str
    invariances: frozenset[str]
    copies: str
    resampling: str
    citation: str
    rows: int
    self_one: bool = True
    sharded: bool = True
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)


def _mutual_knn(
    blocks, *, k: int | Sequence[int] = 10, mask=None, axis_name=None
) -> Float[Array, "*K E E"]:
    ks = (k,) if isinstance(k, int) else tuple(k)
    recall = mutual_knn(blocks, ks, mask=mask, axis_name=axis_name).recall
    return recall[0] if isinstance(k, int) else recall


_ALL = frozenset({"rotation", "scale", "shift"})
_NEIGHBORS = frozenset({"rotation", "scale"})
_NEAREST = "copies are each other's nearest neighbors in every encoder and raise it"
_KERNEL = "a copy weighs its image twice"
_DEBIASED = "copies count as independent images, which undoes the debiasing and raises it"

MEASURES: Mapping[str, Measure] = MappingProxyType({
    "cka": Measure(
        "Linear CKA", pairwise_cka, True, 0.0,
        "same arrangement of the images up to rotation, shift and scale",
        "no linear relation between the features", _ALL, _KERNEL, "bootstrap",
        "Kornblith et al. 2019", 2,
    ),
    "debiased_cka": Measure(
        "Debiased linear CKA", functools.partial(pairwise_cka, debiased=True), True, -float("inf"),
        "same arrangement of the images up to rotation, shift and scale",
        "the average of unrelated encoders", _ALL, _DEBIASED, "subsample", "Song et al. 2012", 4,
    ),
    "rbf_cka": Measure(
        "RBF CKA", pairwise_rbf_cka, True, 0.0,
        "same distances between the images up to scale",
        "independent features", _ALL, _KERNEL + " and makes entries of 1 off the diagonal",
        "subsample", "Kornblith et al. 2019", 2, options=MappingProxyType({"bandwidth": 1.0}),
    ),
    "debiased_rbf_cka": Measure(
        "Debiased RBF CKA", functools.partial(pairwise_rbf_cka, debiased=True), True,
        -float("inf"), "same distances between the images up to scale",
        "the average of independent features", _ALL, _DEBIASED, "subsample", "Song et al. 2012", 4,
        options=MappingProxyType({"bandwidth": 1.0}),
    ),
    "mutual_knn": Measure(
        "Mutual k-NN recall", _mutual_knn, True, 0.0, "same k nearest neighbors of every image",
        "no neighbor in common; chance gives k / (n - 1)", _NEIGHBORS, _NEAREST, "subsample",
        "Huh et al. 2024", 11, options=MappingProxyType({"k": 10}),
    ),
    "cknna": Measure(
        "CKNNA", pairwise_cknna, True, -1.0,
        "same k nearest neighbors, as similar in both encoders",
        "no neighbor in common, or unrelated similarities", _NEIGHBORS, _NEAREST, "subsample",
        "Huh et al. 2024", 11, options=MappingProxyType({"k": 10}),
    ),
    "cycle_knn": Measure(
        "Cycle k-NN", cycle_knn, False, 0.0,
        "every image is reached again from a neighbor of it", "no image is", _NEIGHBORS, _NEAREST,
        "subsample", "Huh et al. 2024", 11, self_one=False, options=MappingProxyType({"k": 10}),
    ),
    "svcca": Measure(
        "SVCCA", pairwise_svcca, True, 0.0,
        "leading components that span the same space, or one within the other",
        "orthogonal components; more components than images cannot be", _ALL,
        "copies lower the number of images and so raise it", "subsample", "Raghu et al. 2017", 2,
        sharded=False, options=MappingProxyType({"variance": 0.99}),
    ),
    "pwcca": Measure(
        "PWCCA", pairwise_pwcca, False, 0.0,
        "the directions that the row's encoder uses are all in the column's",
        "none of them is", frozenset({"scale", "shift"}),
        "copies lower the number of images and so raise it", "subsample", "Morcos et al. 2018", 2,
        sharded=False, options=MappingProxyType({"variance": 0.99, "side": "row"}),
    ),
    "rsa": Measure(
        "RSA (Spearman)", pairwise_rsa, True, -1.0, "same order of all dissimilarities",
        "unrelated order", frozenset({"scale"}), "copies add ties at dissimilarity 0 and raise it",
        "subsample", "Kriegeskorte et al. 2008", 3, sharded=False,
    ),
    "procrustes": Measure(
        "Procrustes similarity", pairwise_procrustes, True, 0.0,
        "same shape up to rotation, shift and scale", "orthogonal shapes", _ALL, _KERNEL,
        "bootstrap", "Williams et al. 2021", 2,
    ),
    "predictivity": Measure(
        "Linear predictivity", linear_predictivity, False, -float("inf"),
        "held-out features of the column are predicted exactly by the row",
        "no better than their mean; below it, worse", _ALL,
        "a copy in the training rows leaks the held-out image", "subsample",
        "Schrimpf et al. 2018", 10, self_one=False,
        options=MappingProxyType({"folds": 5, "seed": 0}),
    ),
})  # fmt: skip


def measure_named(name: str) -> Measure:
    """The measure of this name.

    Raises:
      ValueError: if there is none; the message lists them.

    Example:
      >>> measure_named("rsa").title
      'RSA (Spearman)'
    """
    check_option("measure", name, tuple(MEASURES))
    return MEASURES[name]


def rows_needed(name: str, *, resampled: bool = False, **options) -> int:
    """The fewest rows a measure takes, on its own or with `bootstrap` as the table says.

    Args:
      name: in `MEASURES`.
      resampled: whether subsamples of floor(0.8 n) rows have to suffice.
      **options: of the measure, where they are not the defaults.

    Returns:
      The least number of rows n.

    Raises:
      ValueError: if the measure is unknown.

    Example:
      >>> rows_needed("mutual_knn"), rows_needed("mutual_knn", resampled=True, k=5)
      (11, 8)
    """
    measure = measure_named(name)
    options = {**measure.options, **options}
    rows = measure.rows
    if "k" in options:
        k = options["k"]
        rows = (k if isinstance(k, int) else max(k)) + 1
    elif "folds" in options:
        rows = 2 * options["folds"]
    subsampled = resampled and measure.resampling == "subsample"
    return math.ceil(rows / SHARE) if subsampled else rows


def pairwise_measure(
    measure: str,
    blocks: Sequence[Float[Array, "n _"]],
    *,
    mask: Bool[Array, " n"] | None = None,
    axis_name=None,
    **options,
) -> Float[Array, "E E"]:
    """A measure of all pairs of encoders.

    Args:
      measure: a name in `MEASURES`.
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.
      **options: of this measure, such as k, bandwidth, variance or folds.

    Returns:
      [E, E]; entry [x, y] is of the ordered pair, the same both ways if the measure is symmetric.

    Raises:
      ValueError: if the measure is unknown, or its function refuses the blocks or an option.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.array([[0.0, 1.0], [1.0, 3.0], [5.0, 2.0], [2.0, 2.0]])
      >>> pairwise_measure("procrustes", [x, 2 * x]).round(3).tolist()
      [[1.0, 1.0], [1.0, 1.0]]
    """
    entry = measure_named(measure)
    check_blocks(blocks, mask)
    check_rows(all_rows(blocks[0].shape[0], axis_name), 2, entry.title)
    return entry.compute(blocks, mask=mask, axis_name=axis_name, **options)
