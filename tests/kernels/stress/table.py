"""Every public kernel under stress: how it is run, its oracle, and what is measured from where."""

import functools

import jax.numpy as jnp
import numpy as np

from substrate_jax import kernels
from substrate_jax.kernels.reference import measures, statistics
from tests.helpers import long
from tests.kernels.stress import case, oracles
from tests.kernels.stress.case import ALPHA, DRAWS, KEY, RESAMPLES, Case, K, measure
from tests.kernels.stress.cells import NO_BLOCKS, WIDTH
from tests.kernels.stress.oracles import pairs

BASES = [
    np.linalg.qr(np.random.default_rng(seed).normal(size=(WIDTH, 3)))[0].astype(np.float32)
    for seed in (0, 1)
]
ANY_SHAPE = frozenset({"1-D", "3-D"})
FAR = {cell: "1,000 times" for cell in ("outlier 1e3", "outlier 1e4")}
TIES = {"rank one": "within rounding"}
BY_DRAWS = {"method": "permutation", "permutations": DRAWS, "alpha": ALPHA, "key": KEY}

CASES: dict[str, Case] = {
    "pairwise_cka": measure("cka", measures.cka),
    "pairwise_cka feature": Case(
        functools.partial(kernels.pairwise_cka, space="feature"), oracles.cka
    ),
    "pairwise_cka debiased": measure(
        "debiased_cka",
        functools.partial(measures.cka, debiased=True),
        nan=FAR,
        condition=case.amplified,
    ),
    "cka": Case(lambda b: kernels.cka(*b), lambda b: (oracles.cka(b)[0][0, 1],), sequence=False),
    "pairwise_rbf_cka": measure("rbf_cka", measures.rbf_cka),
    "pairwise_rbf_cka debiased": measure(
        "debiased_rbf_cka", functools.partial(measures.rbf_cka, debiased=True)
    ),
    "pairwise_distance_correlation": measure("distance_correlation", measures.distance_correlation),
    "pairwise_distance_correlation debiased": measure(
        "debiased_distance_correlation",
        functools.partial(measures.distance_correlation, debiased=True),
        nan=FAR,
        condition=functools.partial(case.amplified, gram=oracles.distance_gram),
    ),
    "pairwise_svcca": measure("svcca", measures.svcca),
    "pairwise_pwcca": measure("pwcca", measures.pwcca),
    "pairwise_procrustes": measure("procrustes", measures.procrustes),
    "pairwise_procrustes angle": measure(
        "procrustes",
        case.shape_angle,
        lambda x: False,
        options={"angle": True},
        # The arccos does not resolve what is below the root of a few eps.
        others=(pairs(functools.partial(case.shape_angle, less=4 * oracles.EPS), lambda x: False),),
    ),
    "pairwise_procrustes without reflections": measure(
        "procrustes",
        functools.partial(measures.procrustes, reflections=False),
        options={"reflections": False},
    ),
    "pairwise_gulp": measure("gulp", measures.gulp, condition=lambda blocks: 0.01**-0.5),
    "pairwise_gulp distance": measure(
        "gulp",
        functools.partial(measures.gulp, distance=True),
        lambda x: False,
        options={"distance": True},
        # Squares of distances are differences of squared norms, up to 8 eps of which is lost.
        others=(case.gulp_distance,),
        condition=lambda blocks: 0.01**-0.5,
    ),
    "eigenspace_overlap": measure(
        "eigenspace_overlap", functools.partial(measures.eigenspace_overlap, floor=oracles.EPS)
    ),
    "eigenspace_overlap uncentered": measure(
        "eigenspace_overlap",
        functools.partial(measures.eigenspace_overlap, center=False, floor=oracles.EPS),
        lambda x: not x.any(),
        "origin",
        options={"center": False},
    ),
    "pairwise_rsa": measure(
        "rsa",
        measures.rsa,
        oracles.same_ranks,
        "entry",
        others=tuple(case.other_ranks(seed) for seed in range(3)),
    ),
    "pairwise_rsa distances": measure(
        "rsa",
        functools.partial(measures.rsa, distance="euclidean", comparator="pearson"),
        functools.partial(oracles.same_ranks, distance="euclidean"),
        "entry",
        options={"distance": "euclidean", "comparator": "pearson"},
    ),
    "pairwise_rsa whitened": measure(
        "rsa",
        measures.cka,
        options={"distance": "squared_euclidean", "comparator": "whitened_cosine"},
    ),
    # Of two measurements without errors: the squared distances of one.
    "crossvalidated_rsa": Case(
        lambda b: kernels.crossvalidated_rsa([[x, x] for x in b]),
        pairs(
            functools.partial(measures.rsa, distance="squared_euclidean", comparator="cosine"),
            functools.partial(oracles.same_ranks, distance="squared_euclidean"),
        ),
        unit=1,
        sequence=False,
    ),
    "linear_predictivity": measure(
        "predictivity",
        case.predicted,
        options=case.RIDGE,
        condition=lambda blocks: 1 / min(case.RIDGE["penalties"]),
    ),
    "mutual_knn": measure(
        "mutual_knn",
        functools.partial(statistics.mutual_knn, k=K),
        about="entry",
        options={"k": K},
        loose=TIES,
    ),
    "pairwise_cknna": measure(
        "cknna", functools.partial(measures.cknna, k=K), about="entry", options={"k": K}, loose=TIES
    ),
    "cycle_knn": measure(
        "cycle_knn",
        functools.partial(measures.cycle_knn, k=K),
        about="entry",
        options={"k": K},
        loose=TIES,
    ),
    "neighborhood_jaccard": measure(
        "neighborhood_jaccard",
        functools.partial(measures.neighborhood_jaccard, k=K),
        about="entry",
        options={"k": K},
        loose=TIES,
    ),
    "second_order_cosine": measure(
        "second_order_cosine",
        functools.partial(measures.second_order_cosine, k=K),
        about="entry",
        options={"k": K},
        loose=TIES,
    ),
    "pairwise_measure": Case(
        functools.partial(kernels.pairwise_measure, "procrustes"), pairs(measures.procrustes)
    ),
    "pairwise_hsic": Case(case.hsic_of, oracles.cubic, view=case.hsic_view),
    "pairwise_hsic feature": Case(
        functools.partial(kernels.pairwise_hsic, space="feature"), oracles.hsic, view=case.hsic_view
    ),
    "pairwise_rbf_hsic": Case(
        kernels.pairwise_rbf_hsic,
        functools.partial(oracles.hsic, of=oracles.rbf_gram),
        view=case.hsic_view,
    ),
    "pairwise_distance_hsic": Case(
        kernels.pairwise_distance_hsic,
        functools.partial(oracles.hsic, of=oracles.distance_gram),
        view=case.hsic_view,
    ),
    "median_distance": Case(
        kernels.median_distance,
        lambda b: (
            np.array([measures.median_distance(x) if oracles.finite(x) else np.nan for x in b]),
        ),
    ),
    "StreamingCka": Case(
        lambda b: case.streamed_cka(b).finalize(),
        oracles.cka,
        unit=1,
        call=kernels.StreamingCka.init([WIDTH] * 2).update,
    ),
    "StreamingCka debiased": Case(
        lambda b: case.streamed_cka(b).finalize(debiased=True),
        oracles.debiased,
        unit=1,
        nan=FAR,
        condition=case.amplified,
        call=kernels.StreamingCka.init([WIDTH] * 2).update,
    ),
    "StreamingMoments": Case(
        case.streamed_moments,
        lambda b: oracles.covariance(b[0]),
        sequence=False,
        nan={"scale 1e20": "beyond the range of the dtype"},
        call=lambda b: kernels.StreamingMoments.init(WIDTH).update(b[0]),
    ),
    "StreamingPca": Case(
        case.streamed_pca,
        lambda b: oracles.pca(b[0], K),
        view=case.pca_view,
        sequence=False,
        call=lambda b: kernels.StreamingPca.init(WIDTH, K).update(b[0]),
        condition=lambda b: 2.0,  # it drops variances below 8 l eps, l = 8
    ),
    "pca": Case(
        lambda b: kernels.pca(b[0], K, method="exact"),
        lambda b: oracles.pca(b[0], K),
        view=case.pca_view,
        sequence=False,
    ),
    "pca subspace": Case(
        lambda b: kernels.pca(b[0], K, method="subspace"),
        lambda b: oracles.pca(b[0], K),
        view=case.pca_view,
        sequence=False,
    ),
    "center": Case(
        lambda b: kernels.center(b[0]),
        case.by_columns(lambda b: (b[0] - b[0].mean(0),)),
        "column",
        view=case.columns,
        sequence=False,
    ),
    "standardize": Case(
        lambda b: kernels.standardize(b[0]),
        case.by_columns(case.standardized),
        "column",
        view=case.columns,
        sequence=False,
    ),
    "principal_angles": Case(
        lambda b: kernels.principal_angles(*b),
        lambda b: (oracles.angles(*b),),
        "columns",
        sequence=False,
    ),
    "grassmann_similarity": Case(
        lambda b: kernels.grassmann_similarity(*b),
        lambda b: (np.mean(np.cos(oracles.angles(*b)) ** 2),),
        "columns",
        sequence=False,
    ),
    "pcka": Case(
        lambda b: kernels.pcka(b[0], BASES[0], b[1], BASES[1]),
        lambda b: (oracles.pcka(b, BASES)[0, 1],),
        sequence=False,
    ),
    "pairwise_pcka": Case(
        lambda b: kernels.pairwise_pcka(b, BASES), lambda b: (oracles.pcka(b, BASES),)
    ),
    "polar": Case(
        lambda b: kernels.polar(b[0]),
        lambda b: case.polar_of(b[0]),
        "origin",
        case.polar_view,
        others=(case.polar_null,),
        prepare=lambda x: x[:WIDTH],
        sequence=False,
        takes=frozenset({"3-D"}),
    ),
    "polar newton_schulz": Case(
        lambda b: kernels.polar(b[0], method="newton_schulz"),
        lambda b: case.polar_of(b[0]),
        "origin",
        case.polar_view,
        others=(case.polar_null,),
        prepare=lambda x: x[:WIDTH],
        sequence=False,
        takes=frozenset({"3-D"}),
    ),
    "orthogonal_procrustes": Case(
        lambda b: kernels.orthogonal_procrustes(*b),
        case.rotation_of,
        "origin",
        case.rotation_view,
        sequence=False,
    ),
    "procrustes_disparity": Case(
        lambda b: kernels.procrustes_disparity(*b),
        lambda b: (oracles.disparity(*b),),
        "origin",
        sequence=False,
    ),
    "generalized_procrustes": Case(
        kernels.generalized_procrustes, case.gpa_of, "origin", case.gpa_view
    ),
    "nearest_neighbors": Case(
        lambda b: kernels.nearest_neighbors(b[0], K),
        lambda b: (oracles.neighbor_cosines(b[0], K),),
        "entry",
        view=lambda found, b: (oracles.neighbor_cosines(b[0], K, np.asarray(found)),),
        sequence=False,
    ),
    "MutualKnn": Case(
        lambda b: [m[0] for m in kernels.mutual_knn(b, (K,)).null_moments()],
        functools.partial(oracles.knn_moments, k=K),
        "entry",
        few=True,
    ),
    "calibrate_mutual_knn": Case(
        lambda b: kernels.calibrate_mutual_knn(b, (2,), alpha=ALPHA),
        functools.partial(oracles.knn_of_every_order, k=2, alpha=ALPHA),
        "entry",
        loose=TIES,
        view=lambda found, b: tuple(a[0] for a in case.calibration(found, b)),
        few=True,
    ),
    "permutation_null": Case(
        functools.partial(kernels.permutation_null, key=KEY, permutations=DRAWS, space="gram"),
        lambda b: oracles.permuted_cka(b, case.orders(len(b[0]))),
    ),
    "permutation_null feature": Case(
        functools.partial(kernels.permutation_null, key=KEY, permutations=DRAWS, space="feature"),
        lambda b: oracles.permuted_cka(b, case.orders(len(b[0]))),
    ),
    "calibrate_cka": Case(
        lambda b: kernels.calibrate_cka(b, alpha=ALPHA, skewness="gamma"),
        functools.partial(oracles.gamma_calibrated, alpha=ALPHA),
        view=lambda found, b: (found.score, found.tau, found.log10_p_value),
    ),
    "calibrate_cka permutation": Case(
        lambda b: kernels.calibrate_cka(b, **BY_DRAWS),
        lambda b: oracles.calibrated(b, case.orders(len(b[0])), ALPHA),
        view=case.calibration,
    ),
    "calibrate_cka every order": Case(
        functools.partial(kernels.calibrate_cka, alpha=ALPHA),
        functools.partial(oracles.cka_of_every_order, alpha=ALPHA),
        # Scores that rounding cannot tell from the observed one are ties, or are not.
        others=tuple(
            functools.partial(oracles.cka_of_every_order, alpha=ALPHA, slack=slack)
            for slack in (0, 64 * oracles.EPS)
        ),
        view=case.calibration,
        few=True,
    ),
    "calibrate_measure": Case(
        lambda b: kernels.calibrate_measure("procrustes", b, **BY_DRAWS),
        case.sampled(pairs(measures.procrustes)),
        view=case.calibration,
    ),
    "split_half_ceiling": Case(
        lambda b: kernels.split_half_ceiling("procrustes", b, KEY, splits=2),
        case.ceilings(pairs(measures.procrustes)),
    ),
    "closer": Case(
        lambda b: kernels.closer(*kernels.resampled("cka", case.three(b), KEY, draws=RESAMPLES)),
        lambda b: case.contrasts(case.three(b)),
        view=lambda found, b: (found.difference, found.low, found.high),
        call=lambda b: kernels.closer(b[0], jnp.ones((2, 8, 8))),
        takes=ANY_SHAPE,
        sequence=False,
    ),
    "permutation_moments": Case(
        lambda b: kernels.permutation_moments(case.hsic_of(b)), oracles.product_moments, few=True
    ),
    "third_moment": Case(
        lambda b: kernels.third_moment(case.hsic_of(b)), oracles.product_third, few=True
    ),
    "cka_null_moments": Case(
        lambda b: kernels.cka_null_moments(case.hsic_of(b)), oracles.cka_moments, few=True
    ),
    "sample_null": Case(
        lambda b: kernels.sample_null(lambda o: jnp.mean(b[0][o[0]]), KEY, DRAWS, len(b[0])),
        lambda b: (b[0][case.orders(len(b[0]))[:, 0]].mean(1),),
        "origin",
        sequence=False,
        takes=frozenset(NO_BLOCKS),
    ),
    "resampled": Case(
        lambda b: kernels.resampled("procrustes", b, KEY, draws=RESAMPLES),
        case.redrawn(pairs(measures.procrustes)),
    ),
    "resampled cka": Case(
        lambda b: kernels.resampled("cka", b, KEY, draws=RESAMPLES), case.redrawn(oracles.cka)
    ),
    "bootstrap": Case(
        lambda b: kernels.bootstrap("cka", b, KEY, draws=RESAMPLES, level=0.9),
        case.interval,
        unit=1,
    ),
    "benjamini_hochberg": Case(
        lambda b: kernels.benjamini_hochberg(b[0]),
        case.q_values,
        "entry",
        takes=ANY_SHAPE,
        prepare=case.share_of,
        sequence=False,
    ),
    "family_p_values": Case(
        lambda b: kernels.family_p_values(b[1][0], b[0][:, 0]),
        case.adjusted,
        "origin",
        sequence=False,
        call=lambda b: kernels.family_p_values(b[0], jnp.ones(3)),
        takes=ANY_SHAPE,
    ),
    "max_null": Case(
        lambda b: kernels.max_null(b[0]), case.maxima, "origin", sequence=False, takes=ANY_SHAPE
    ),
    "tail_from_moments": Case(
        case.tail_run, case.tails, "entry", prepare=case.share_of, sequence=False, takes=ANY_SHAPE
    ),
}
# Other options of a kernel than those of its first case only with --long, but for sums of another
# form.
FIRST = {name.split()[0]: name for name in reversed(CASES)}
OTHER = {"pairwise_cka feature", "pairwise_cka debiased", "calibrate_cka permutation"}
FEW = [name if name in {*FIRST.values(), *OTHER} else long(name) for name in CASES]
# Public names that are no function of features, and what of the table stands for them.
RESULTS = {
    "Calibration": "calibrate_cka",
    "Contrast": "closer",
    "GeneralizedProcrustes": "generalized_procrustes",
    "Interval": "bootstrap",
    "PairwiseHsic": "pairwise_hsic",
    "Pca": "pca",
    "MEASURES": "pairwise_measure",
}
# Nor functions that a program can be made of; `unit_matching` is put to the same in its own tests.
NO_ARRAYS = {"Measure", "measure_named", "rows_needed", "check_finite", "unit_matching"}
