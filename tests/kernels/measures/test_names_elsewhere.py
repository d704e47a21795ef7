"""The names of the similarity repository in docs/maths.md: all are of ours, and by definition."""

import ast
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import pdist, squareform

from substrate_jax.kernels import MEASURES, pairwise_measure, unit_matching
from substrate_jax.kernels.reference import measures as reference_measures
from substrate_jax.kernels.reference import statistics as reference
from tests import helpers

PAGE = Path(__file__).parents[3] / "docs" / "maths.md"
ROWS = re.findall(r"^\| `(\w+/[\w-]+)` \| `(.+?)` \| `(.+?)` \|$", PAGE.read_text(), re.MULTILINE)
TO_OURS = {"corr": "pearson", "kendall": "tau_b"}
TO_OURS |= {"corr_cov": "whitened_pearson", "cosine_cov": "whitened_cosine"}
SQUARED = {"euclidean": "squared_euclidean"}  # as rsatoolbox has it, over the number of features


def call_of(words):
    """Name and options of `name(option=value)`."""
    node = ast.parse(words, mode="eval").body
    if isinstance(node, ast.Name):
        return node.id, {}
    return node.func.id, {each.arg: ast.literal_eval(each.value) for each in node.keywords}


def centered(x):
    x = np.float64(x)
    return x - x.mean(0)


def shape_cosine(x, y):
    k, l = (reference.gram(z) for z in (x, y))  # noqa: E741
    root = np.linalg.cholesky(k + 1e-13 * np.trace(k) * np.eye(len(k)))
    values = np.linalg.eigvalsh(root.T @ l @ root)
    return np.sum(np.sqrt(np.maximum(values, 0))) / np.sqrt(np.trace(k) * np.trace(l))


def distance_correlation(x, y):
    h = np.eye(len(x)) - 1 / len(x)
    a, b = (h @ squareform(pdist(np.float64(z))) @ h for z in (x, y))
    return np.sqrt(np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b))


def hats(x, y):
    return [z @ np.linalg.pinv(z) for z in (centered(x), centered(y))]


def overlap(x, y):
    left, right = (np.linalg.qr(np.float64(z))[0] for z in (x, y))
    return np.sum((left.T @ right) ** 2) / max(x.shape[1], y.shape[1])


def best_pairs(x, y):
    c = np.corrcoef(np.float64(x).T, np.float64(y).T)[: x.shape[1], x.shape[1] :]
    return c[linear_sum_assignment(-c)].mean()


def cka(x, y):
    left, right = centered(x), centered(y)
    norms = (np.linalg.norm(z.T @ z) for z in (left, right))
    return np.linalg.norm(left.T @ right) ** 2 / np.prod(list(norms))


DEFINITIONS = {
    "contrasim/feature_space_linear_cka": cka,
    "netrep/LinearCKA": lambda x, y: np.arccos(cka(x, y)),
    "resi/CKA": cka,
    "thingsvision/cka_kernel_linear_unbiased": lambda x, y: reference_measures.cka(x, y, True),
    "resi/DistanceCorrelation": distance_correlation,
    "netrep/nbs": shape_cosine,
    "netrep/LinearMetric_angular": lambda x, y: np.arccos(shape_cosine(x, y)),
    "netrep/procrustes-angular-score": lambda x, y: 1 - np.arccos(shape_cosine(x, y)) / (np.pi / 2),
    "resi/OrthogonalAngularShapeMetricCentered": lambda x, y: np.arccos(shape_cosine(x, y)),
    "resi/OrthogonalProcrustesCenteredAndNormalized": lambda x, y: np.sqrt(
        2 - 2 * shape_cosine(x, y)
    ),
    "resi/JaccardSimilarity": lambda x, y: reference_measures.neighborhood_jaccard(x, y, 10),
    "resi/Gulp": lambda x, y: np.sum(np.subtract(*hats(x, y)) ** 2),
    "resi/EigenspaceOverlapScore": overlap,
    "resi/HardCorrelationMatch": best_pairs,
}


def is_rsa(name):
    return "rsa" in name.lower()


def test_every_name_is_of_ours_and_every_row_is_held_to_something():
    assert len(ROWS) == len({name for name, *_ in ROWS}) > 30
    assert {name for name, *_ in ROWS if not is_rsa(name)} == DEFINITIONS.keys()
    for _, words, _ in ROWS:
        name, options = call_of(words)
        assert name == "unit_matching" or name in MEASURES
        if name != "unit_matching":
            blocks = [jax.ShapeDtypeStruct((20, 3), np.float32)] * 2
            given = jax.eval_shape(lambda b, n=name, o=options: pairwise_measure(n, b, **o), blocks)
            assert given.shape == (2, 2)


@pytest.mark.parametrize("name", [name for name, *_ in ROWS if is_rsa(name)])
def test_names_of_rsa_say_its_options(name):
    """Whose values are those of the oracle by other tests."""
    ((_, words, value),) = (row for row in ROWS if row[0] == name)
    program, rest = name.split("/")
    distance, compared = "correlation", "spearman"
    if program == "rsatoolbox":
        _, distance, compared = rest.split("-")
        distance = SQUARED.get(distance, distance)
    elif program == "thingsvision":
        distance, compared = re.fullmatch(r"rsa_method_(\w+)_corr_method_(\w+)", rest).groups()
    options = {"distance": distance, "comparator": TO_OURS.get(compared, compared)}
    assert call_of(words) == ("rsa", {k: v for k, v in options.items() if v != default_of(k)})
    assert value == "v"


def default_of(option):
    return MEASURES["rsa"].options[option]


def test_values_are_those_of_the_definitions():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 6)).astype(np.float32)
    y = (x @ rng.normal(size=(6, 8)) + rng.normal(size=(30, 8))).astype(np.float32)
    rows = [(name, *call_of(words), value) for name, words, value in ROWS if not is_rsa(name)]

    @jax.jit
    def ours(blocks):
        return [pairwise_measure(n, blocks, **o) for _, n, o, _ in rows if n != "unit_matching"]

    found = iter(ours([x, y]))
    for name, measure, options, value in rows:
        given = unit_matching([x, y], **options) if measure == "unit_matching" else next(found)
        known = {"v": np.float64(given[0, 1]), "pi": np.pi, "sqrt": np.sqrt, "arccos": np.arccos}
        want = DEFINITIONS[name](x, y)
        got = eval(value, {"__builtins__": {}}, known)
        # Debiasing and differences of squares amplify by up to 8 here.
        assert got == pytest.approx(want, rel=helpers.tolerance(30 + 8, condition=8)), name
