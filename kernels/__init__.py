"""Pure array functions for comparing representations: moments, CKA, permutation nulls and more."""

from .alignment.distance_correlation import (
    pairwise_distance_correlation,
    pairwise_distance_hsic,
)
from .alignment.distances import median_distance
from .alignment.hsic import PairwiseHsic
from .alignment.linear_cka import cka, pairwise_cka, pairwise_hsic
from .alignment.rbf_cka import pairwise_rbf_cka, pairwise_rbf_hsic
from .alignment.streaming_cka import StreamingCka
from .measures.bootstrap import Interval, bootstrap, resampled
from .measures.by_name import measure_named, pairwise_measure, rows_needed
from .measures.canonical import pairwise_procrustes, pairwise_pwcca, pairwise_svcca
from .measures.ceiling import split_half_ceiling
from .measures.chance import calibrate_measure
from .measures.contrasts import Contrast, closer
from .measures.crossvalidated import crossvalidated_rsa
from .measures.eigenspaces import eigenspace_overlap
from .measures.gulp import pairwise_gulp
from .measures.measure import Measure
from .measures.predictivity import linear_predictivity
from .measures.rsa import pairwise_rsa
from .measures.table import MEASURES
from .measures.unit_matching import unit_matching
from .moments import StreamingMoments, center, standardize
from .neighbors.cknna import cycle_knn, pairwise_cknna
from .neighbors.mutual_knn import MutualKnn, calibrate_mutual_knn, mutual_knn
from .neighbors.neighborhoods import neighborhood_jaccard, second_order_cosine
from .neighbors.search import nearest_neighbors
from .nulls.calibration import Calibration, calibrate_cka, tail_from_moments
from .nulls.false_discovery import benjamini_hochberg
from .nulls.orders import sample_null
from .nulls.p_values import family_p_values, max_null
from .nulls.permutation import permutation_null
from .nulls.permutation_moments import cka_null_moments, permutation_moments, third_moment
from .subspaces.angles import grassmann_similarity, pairwise_pcka, pcka, principal_angles
from .subspaces.pca import Pca, pca
from .subspaces.polar import polar
from .subspaces.procrustes import (
    GeneralizedProcrustes,
    generalized_procrustes,
    orthogonal_procrustes,
    procrustes_disparity,
)
from .subspaces.streaming_pca import StreamingPca
from .validate import check_finite

__all__ = [
    "MEASURES",
    "Calibration",
    "Contrast",
    "GeneralizedProcrustes",
    "Interval",
    "Measure",
    "MutualKnn",
    "PairwiseHsic",
    "Pca",
    "StreamingCka",
    "StreamingMoments",
    "StreamingPca",
    "benjamini_hochberg",
    "bootstrap",
    "calibrate_cka",
    "calibrate_measure",
    "calibrate_mutual_knn",
    "center",
    "check_finite",
    "cka",
    "cka_null_moments",
    "closer",
    "crossvalidated_rsa",
    "cycle_knn",
    "eigenspace_overlap",
    "family_p_values",
    "generalized_procrustes",
    "grassmann_similarity",
    "linear_predictivity",
    "max_null",
    "measure_named",
    "median_distance",
    "mutual_knn",
    "nearest_neighbors",
    "neighborhood_jaccard",
    "orthogonal_procrustes",
    "pairwise_cka",
    "pairwise_cknna",
    "pairwise_distance_correlation",
    "pairwise_distance_hsic",
    "pairwise_gulp",
    "pairwise_hsic",
    "pairwise_measure",
    "pairwise_pcka",
    "pairwise_procrustes",
    "pairwise_pwcca",
    "pairwise_rbf_cka",
    "pairwise_rbf_hsic",
    "pairwise_rsa",
    "pairwise_svcca",
    "pca",
    "pcka",
    "permutation_moments",
    "permutation_null",
    "polar",
    "principal_angles",
    "procrustes_disparity",
    "resampled",
    "rows_needed",
    "sample_null",
    "second_order_cosine",
    "split_half_ceiling",
    "standardize",
    "tail_from_moments",
    "third_moment",
    "unit_matching",
]
