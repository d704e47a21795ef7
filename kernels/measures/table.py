"""One table of similarity measures: how each is computed, what it means, and how it is resampled.

`MEASURES` maps a name to a `Measure`, whose function takes blocks [n, d_e] of E encoders and gives
an [E, E] matrix, entry [x, y] for the ordered pair. The command line, the report, the tests and
`bootstrap` all read this table, so that a measure is added in one place.

Cost and limits are those of each module. `sharded` says that sharded rows stay where they are;
otherwise every device gathers all rows and computes all of it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import jax
from jaxtyping import Array, Float

from ..alignment.distance_correlation import pairwise_distance_correlation, pairwise_distance_hsic
from ..alignment.linear_cka import pairwise_cka
from ..alignment.rbf_cka import pairwise_rbf_cka, pairwise_rbf_hsic
from ..arithmetic import root
from ..neighbors.cknna import cycle_knn, pairwise_cknna
from ..neighbors.mutual_knn import calibrate_mutual_knn, mutual_knn
from ..neighbors.neighborhoods import neighborhood_jaccard, second_order_cosine
from ..nulls.calibrated import Calibration
from ..nulls.calibration import calibrate_cka, rescale
from .canonical import pairwise_procrustes, pairwise_pwcca, pairwise_svcca
from .eigenspaces import eigenspace_overlap
from .gulp import pairwise_gulp
from .measure import Measure
from .predictivity import linear_predictivity
from .rsa import pairwise_rsa

SHARE = 0.8  # m / n of a subsample


def _mutual_knn(
    blocks, *, k: int | Sequence[int] = 10, mask=None, axis_name=None
) -> Float[Array, "*K E E"]:
    ks = (k,) if isinstance(k, int) else tuple(k)
    recall = mutual_knn(blocks, ks, mask=mask, axis_name=axis_name).recall
    return recall[0] if isinstance(k, int) else recall


def _calibrated_knn(blocks, *, k: int = 10, **options) -> Calibration:
    found = calibrate_mutual_knn(blocks, (k,), **options)
    return jax.tree.map(lambda a: a[0], found)


def _calibrated_rbf(blocks, *, alpha: float, **options) -> Calibration:
    return calibrate_cka(pairwise_rbf_hsic(blocks, **options), alpha=alpha)


def _calibrated_distances(blocks, *, alpha: float, **options) -> Calibration:
    square = calibrate_cka(pairwise_distance_hsic(blocks, **options), alpha=alpha)
    observed, tau = root(square.observed), root(square.tau)
    return dataclasses.replace(square, observed=observed, tau=tau, score=rescale(observed, tau))


_ALL = frozenset({"rotation", "scale", "shift"})
_NEIGHBORS = frozenset({"rotation", "scale"})
_NEAREST = "copies are each other's nearest neighbors in every encoder and raise it"
_WEIGHT = "a copy weighs its image twice"
_DEBIASED = "copies count as independent images, which undoes the debiasing and raises it"
_FEWER = "copies lower the number of images and so raise it"

MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "cka": Measure(
            title="Linear CKA",
            compute=pairwise_cka,
            symmetric=True,
            lowest=0.0,
            meaning_of_one="same arrangement of the images up to rotation, shift and scale",
            meaning_of_zero="no linear relation between the features",
            invariances=_ALL,
            effect_of_duplicates=_WEIGHT,
            resampling="bootstrap",
            citation="Kornblith et al. 2019",
            minimum_rows=2,
            calibrate=calibrate_cka,
        ),
        "debiased_cka": Measure(
            title="Debiased linear CKA",
            compute=functools.partial(pairwise_cka, debiased=True),
            symmetric=True,
            lowest=-float("inf"),
            meaning_of_one="same arrangement of the images up to rotation, shift and scale",
            meaning_of_zero="the average of unrelated encoders",
            invariances=_ALL,
            effect_of_duplicates=_DEBIASED,
            resampling="subsample",
            citation="Song et al. 2012",
            minimum_rows=4,
        ),
        "rbf_cka": Measure(
            title="RBF CKA",
            compute=pairwise_rbf_cka,
            symmetric=True,
            lowest=0.0,
            meaning_of_one="same distances between the images up to scale",
            meaning_of_zero="independent features",
            invariances=_ALL,
            effect_of_duplicates=_WEIGHT + " and makes entries of 1 off the diagonal",
            resampling="subsample",
            citation="Kornblith et al. 2019",
            minimum_rows=2,
            calibrate=_calibrated_rbf,
            options=MappingProxyType({"bandwidth": 1.0}),
        ),
        "debiased_rbf_cka": Measure(
            title="Debiased RBF CKA",
            compute=functools.partial(pairwise_rbf_cka, debiased=True),
            symmetric=True,
            lowest=-float("inf"),
            meaning_of_one="same distances between the images up to scale",
            meaning_of_zero="the average of independent features",
            invariances=_ALL,
            effect_of_duplicates=_DEBIASED,
            resampling="subsample",
            citation="Song et al. 2012",
            minimum_rows=4,
            options=MappingProxyType({"bandwidth": 1.0}),
        ),
        "distance_correlation": Measure(
            title="Distance correlation",
            compute=pairwise_distance_correlation,
            symmetric=True,
            lowest=0.0,
            meaning_of_one="same distances between the images up to scale",
            meaning_of_zero="independent features",
            invariances=_ALL,
            effect_of_duplicates=_WEIGHT,
            resampling="bootstrap",
            citation="Szekely et al. 2007",
            minimum_rows=2,
            calibrate=_calibrated_distances,
        ),
        "debiased_distance_correlation": Measure(
            title="Debiased squared distance correlation",
            compute=functools.partial(pairwise_distance_correlation, debiased=True),
            symmetric=True,
            lowest=-float("inf"),
            meaning_of_one="same distances between the images up to scale",
            meaning_of_zero="the average of independent features",
            invariances=_ALL,
            effect_of_duplicates=_DEBIASED,
            resampling="subsample",
            citation="Szekely and Rizzo 2013",
            minimum_rows=4,
        ),
        "mutual_knn": Measure(
            title="Mutual k-NN recall",
            compute=_mutual_knn,
            symmetric=True,
            lowest=0.0,
            meaning_of_one="same k nearest neighbors of every image",
            meaning_of_zero="no neighbor in common; chance gives k / (n - 1)",
            invariances=_NEIGHBORS,
            effect_of_duplicates=_NEAREST,
            resampling="subsample",
            citation="Huh et al. 2024",
            minimum_rows=11,
            calibrate=_calibrated_knn,
            options=MappingProxyType({"k": 10}),
        ),
        "cknna": Measure(
            title="CKNNA",
            compute=pairwise_cknna,
            symmetric=True,
            lowest=-1.0,
            meaning_of_one="same k nearest neighbors, as similar in both encoders",
            meaning_of_zero="no neighbor in common, or unrelated similarities",
            invariances=_NEIGHBORS,
            effect_of_duplicates=_NEAREST,
            resampling="subsample",
            citation="Huh et al. 2024",
            minimum_rows=11,
            options=MappingProxyType({"k": 10}),
        ),
        "cycle_knn": Measure(
            title="Cycle k-NN",
            compute=cycle_knn,
            symmetric=False,
            lowest=0.0,
            meaning_of_one="every image is reached again from a neighbor of it",
            meaning_of_zero="no image is",
            invariances=_NEIGHBORS,
            effect_of_duplicates=_NEAREST,
            resampling="subsample",
            citation="Huh et al. 2024",
            minimum_rows=11,
            one_with_itself=False,
            options=MappingProxyType({"k": 10}),
        ),
        "neighborhood_jaccard": Measure(
            title="Neighborhood Jaccard",
            compute=neighborhood_jaccard,
            symmetric=True,
            lowest=0.0,
            meaning_of_one="same k nearest neighbors of every image",
            meaning_of_zero="no neighbor in common",
            invariances=_NEIGHBORS,
            effect_of_duplicates=_NEAREST,
            resampling="subsample",
            citation="Schumacher et al. 2021",
            minimum_rows=11,
            options=MappingProxyType({"k": 10}),
        ),
        "second_order_cosine": Measure(
            title="Second-order cosine",
            compute=second_order_cosine,
            symmetric=True,
            lowest=-1.0,
            meaning_of_one="similarities to the neighbors of either encoder in one proportion",
            meaning_of_zero="orthogonal similarities; encoders far from the origin are near 1",
            invariances=_NEIGHBORS,
            effect_of_duplicates=_NEAREST,
            resampling="subsample",
            citation="Hamilton et al. 2016",
            minimum_rows=11,
            options=MappingProxyType({"k": 10}),
        ),
        "svcca": Measure(
            title="SVCCA",
            compute=pairwise_svcca,
            symmetric=True,
            lowest=0.0,
            meaning_of_one="leading components that span the same space, or one within the other",
            meaning_of_zero="orthogonal components; more components than images cannot be",
            invariances=_ALL,
            effect_of_duplicates=_FEWER,
            resampling="subsample",
            citation="Raghu et al. 2017",
            minimum_rows=2,
            options=MappingProxyType({"variance": 0.99}),
        ),
        "pwcca": Measure(
            title="PWCCA",
            compute=pairwise_pwcca,
            symmetric=False,
            lowest=0.0,
            meaning_of_one="the directions that the row's encoder uses are all in the column's",
            meaning_of_zero="none of them is",
            invariances=frozenset({"scale", "shift"}),
            effect_of_duplicates=_FEWER,
            resampling="subsample",
            citation="Morcos et al. 2018",
            minimum_rows=2,
            options=MappingProxyType({"variance": 0.99, "side": "row"}),
        ),
        "gulp": Measure(
            title="GULP similarity",
            compute=pairwise_gulp,
            symmetric=True,
            lowest=0.0,
            meaning_of_one="same predictions of every target by ridge regression",
            meaning_of_zero="no linear relation between the features",
            invariances=_ALL,
            effect_of_duplicates=_WEIGHT,
            resampling="bootstrap",
            citation="Boix-Adsera et al. 2022",
            minimum_rows=2,
            options=MappingProxyType({"ridge": 0.01}),
        ),
        "eigenspace_overlap": Measure(
            title="Eigenspace overlap",
            compute=eigenspace_overlap,
            symmetric=True,
            lowest=0.0,
            meaning_of_one="features that span the same space",
            meaning_of_zero="orthogonal spaces; more components than images cannot be",
            invariances=_ALL,
            effect_of_duplicates=_FEWER,
            resampling="subsample",
            citation="May et al. 2019",
            minimum_rows=2,
            options=MappingProxyType({"center": True}),
        ),
        "rsa": Measure(
            title="RSA (Spearman)",
            compute=pairwise_rsa,
            symmetric=True,
            lowest=-1.0,
            meaning_of_one="same order of all dissimilarities",
            meaning_of_zero="unrelated order",
            invariances=frozenset({"scale"}),
            effect_of_duplicates="copies add ties at dissimilarity 0 and raise it",
            resampling="subsample",
            citation="Kriegeskorte et al. 2008",
            minimum_rows=3,
            sharded=False,
            options=MappingProxyType({"distance": "correlation", "comparator": "spearman"}),
        ),
        "procrustes": Measure(
            title="Procrustes similarity",
            compute=pairwise_procrustes,
            symmetric=True,
            lowest=0.0,
            meaning_of_one="same shape up to rotation, shift and scale",
            meaning_of_zero="orthogonal shapes",
            invariances=_ALL,
            effect_of_duplicates=_WEIGHT,
            resampling="bootstrap",
            citation="Williams et al. 2021",
            minimum_rows=2,
            options=MappingProxyType({"reflections": True}),
        ),
        "predictivity": Measure(
            title="Linear predictivity",
            compute=linear_predictivity,
            symmetric=False,
            lowest=-float("inf"),
            meaning_of_one="held-out features of the column are predicted exactly by the row",
            meaning_of_zero="no better than their mean; below it, worse",
            invariances=_ALL,
            effect_of_duplicates="a copy in the training rows leaks the held-out image",
            resampling="subsample",
            citation="Schrimpf et al. 2018",
            minimum_rows=10,
            one_with_itself=False,
            options=MappingProxyType({"folds": 5, "seed": 0}),
        ),
    }
)
