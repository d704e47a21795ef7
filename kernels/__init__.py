"""Pure array functions for comparing representations: moments, CKA, permutation nulls and more."""

from .cka import PairwiseHsic, cka, pairwise_cka, pairwise_hsic
from .moments import Moments, centre, standardize
from .mutual_knn import MutualKnn, calibrate_mutual_knn, mutual_knn
from .neighbors import nearest_neighbors
from .null import (
    Calibration,
    benjamini_hochberg,
    calibrate,
    cka_null_moments,
    permutation_moments,
    permutation_null,
    tail_from_moments,
)
from .pca import Pca, pca
from .procrustes import (
    GeneralizedProcrustes,
    generalized_procrustes,
    orthogonal_procrustes,
    procrustes_disparity,
)
from .streaming_cka import CkaState
from .subspace import grassmann_similarity, pairwise_pcka, pcka, principal_angles

__all__ = [
    "Calibration",
    "CkaState",
    "GeneralizedProcrustes",
    "Moments",
    "MutualKnn",
    "PairwiseHsic",
    "Pca",
    "benjamini_hochberg",
    "calibrate",
    "calibrate_mutual_knn",
    "centre",
    "cka",
    "cka_null_moments",
    "generalized_procrustes",
    "grassmann_similarity",
    "mutual_knn",
    "nearest_neighbors",
    "orthogonal_procrustes",
    "pairwise_cka",
    "pairwise_hsic",
    "pairwise_pcka",
    "pca",
    "pcka",
    "permutation_moments",
    "permutation_null",
    "principal_angles",
    "procrustes_disparity",
    "standardize",
    "tail_from_moments",
]
