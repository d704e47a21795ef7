"""Which layer of one encoder is most like each layer of another, for the page and the terminal."""

from typing import Any

import numpy as np

from substrate_jax.analyses.layers.results import LayerComparison, LayerPairs, LayersResult
from substrate_jax.report.drawing import drawable
from substrate_jax.report.text import number, text_table

MEASURES = {"cka": "linear CKA", "cka_debiased": "debiased linear CKA"}


def best_matches(compared: LayerComparison, side: str) -> list[dict[str, Any]]:
    """The most similar layer of the other encoder (or other layer) for each layer of a side.

    Args:
        compared: all pairs.
        side: "rows" or "columns".

    Returns:
        For each layer: `layer`, `match`, the `value` of the headline measure, and every matrix of
        `matrices` at the pair. A layer without a value anywhere has None throughout.

    Raises:
        ValueError: a matrix of the wrong size.
    """
    found = matrices(compared)
    mine, theirs = list(compared.rows.layers), list(compared.columns.layers)
    if side == "columns":
        found = {key: matrix.T for key, matrix in found.items()}
        mine, theirs = theirs, mine
    values = found[compared.measure].copy()
    if compared.same_encoder:
        np.fill_diagonal(values, np.nan)
    matches = []
    for i, layer in enumerate(mine):
        row = {"layer": layer, "match": None, "value": None} | dict.fromkeys(found)
        if np.isfinite(values[i]).any():
            j = int(np.nanargmax(values[i]))
            row |= {"match": theirs[j], "value": values[i, j]}
            row |= {key: matrix[i, j] for key, matrix in found.items()}
        matches.append(row)
    return matches


def match_table(result: LayersResult) -> str:
    """The best match of each layer of the first encoder as text for a terminal."""
    compared = result.comparison
    names = [drawable(axis.encoder, 40) for axis in (compared.rows, compared.columns)]
    rows = [[*names, "CKA", "debiased", "τ", "q"]]
    for match in best_matches(compared, "rows"):
        layers = (drawable(match[key] or "–", 40) for key in ("layer", "match"))
        scores = (number(match[key]) for key in ("cka", "cka_debiased", "tau"))
        rows.append([*layers, *scores, number(match["q_value"], "p")])
    return "\n".join(text_table(rows))


def matrices(compared: LayerComparison) -> dict[str, LayerPairs]:
    """Every matrix of layers by layers under the name of its field, NaN where there is none.

    Raises:
        ValueError: a matrix of the wrong size.
    """
    shape = compared.family.members.shape
    found = {key: getattr(compared, key) for key in MEASURES}
    for key in ("score", "tau", "p_value", "log10_p_value", "q_value"):
        found[key] = getattr(compared.calibrated, key)
    maximum = compared.maximum
    found["p_family"] = np.full(shape, np.nan) if maximum is None else maximum.p_family
    for key, matrix in found.items():
        if matrix.shape != shape:
            raise ValueError(f"{key} has shape {matrix.shape}; give {shape[0]} x {shape[1]}")
    return found
