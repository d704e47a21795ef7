"""Pure array functions for comparing representations: moments, CKA, permutation nulls and more."""

from .bootstrap import Interval, bootstrap, resampled
from .canonical import pairwise_procrustes, pairwise_pwcca, pairwise_svcca
from .cka import PairwiseHsic, cka, pairwise_cka, pairwise_hsic
from .false_discovery import benjamini_hochberg
from .measures import MEASURES, Measure, measure_named, pairwise, rows_needed
from .moments import Moments, centre, standardize
from .mutual_knn import MutualKnn, calibrate_mutual_knn, mutual_knn
from .neighbor_measures import cycle_knn, pairwise_cknna
from .neighbors import nearest_neighbors
from .null import Calibration, calibrate, tail_from_moments
from .pca import Pca, pca
from .permutation import family_p_values, max_null, permutation_null, sample_null
from .permutation_moments import cka_null_moments, permutation_moments, third_moment
from .polar import polar
from .predictivity import linear_predictivity
from .procrustes import (
    GeneralizedProcrustes,
    generalized_procrustes,
    orthogonal_procrustes,
    procrustes_disparity,
)
from .rbf_cka import median_distance, pairwise_rbf_cka, pairwise_rbf_hsic
from .rsa import pairwise_rsa
from .streaming_cka import CkaState
from .streaming_pca import StreamingPca
from .subspace import grassmann_similarity, pairwise_pcka, pcka, principal_angles
from .validate import check_finite

__all__ = [
    "MEASURES",
    "Calibration",
    "CkaState",
    "GeneralizedProcrustes",
    "Interval",
    "Measure",
    "Moments",
    "MutualKnn",
    "PairwiseHsic",
    "Pca",
    "StreamingPca",
    "benjamini_hochberg",
    "bootstrap",
    "calibrate",
    "calibrate_mutual_knn",
    "centre",
    "check_finite",
    "cka",
    "cka_null_moments",
    "cycle_knn",
    "family_p_values",
    "generalized_procrustes",
    "grassmann_similarity",
    "linear_predictivity",
    "max_null",
    "measure_named",
    "median_distance",
    "mutual_knn",
    "nearest_neighbors",
    "orthogonal_procrustes",
    "pairwise",
    "pairwise_cka",
    "pairwise_cknna",
    "pairwise_hsic",
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
    "standardize",
    "tail_from_moments",
    "third_moment",
]
