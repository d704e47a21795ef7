"""Numbers that several parts of a domains report read from its result.

All take the result of experiments.domains as plain values, as `report.values.plain` makes them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from substrate_jax.analyses.domains.controls import READINGS, Reading
from substrate_jax.report.values import square, upper

POOLED = "pooled"


def matrix_of(
    result: Mapping[str, Any], key: str, part: str = "matrix"
) -> Float[np.ndarray, "m m"]:
    """A matrix of the result, NaN throughout where the run has none."""
    m, values = len(result["domains"]), result[key][part]
    return np.full((m, m), np.nan) if values is None else square(values, m, f"{key}: {part}")


def share_of(result: Mapping[str, Any], name: str) -> float | None:
    """Share of a domain's variance in the components of its substrate."""
    shares = result["domains"][name]["explained_variance_ratio"][: result["k"]]
    return None if None in shares else float(np.sum(shares))


def domain_means(result: Mapping[str, Any]) -> dict[str, float | None]:
    """Mean PCKA of each domain with the others."""
    names = list(result["domains"])
    matrix = square(result["pcka"]["matrix"], len(names), "pcka: matrix")
    others = [np.delete(row, i) for i, row in enumerate(matrix)]
    return {
        name: float(np.nanmean(row)) if np.isfinite(row).any() else None
        for name, row in zip(names, others, strict=True)
    }


def ceiling_means(result: Mapping[str, Any]) -> dict[str, float]:
    """Mean split-half ceiling of each domain that has one."""
    ceilings = result["split_half"]["ceiling"] if result["split_half"] else {}
    return {name: c["mean"] for name, c in ceilings.items() if c["mean"] is not None}


def control_readings(
    result: Mapping[str, Any], *, transport: bool = True
) -> list[tuple[Reading, Mapping[str, Any]]]:
    """Readings of the run's controls with what was found, primary ones first.

    Args:
        result: plain values.
        transport: those that are a PCKA of domains; else those of single domains.
    """
    found = [
        (reading, values)
        for reading in READINGS
        if (values := (result.get("controls") or {}).get(reading.control, {}).get(reading.name))
        and values["median"] is not None
        and ("matrix" in values) == transport
    ]
    return sorted(found, key=lambda item: not item[0].primary)


def best_control(result: Mapping[str, Any]) -> tuple[Reading, Mapping[str, Any]] | None:
    """The primary reading with the highest median PCKA, None without controls."""
    primary = [item for item in control_readings(result) if item[0].primary]
    return max(primary, key=lambda item: item[1]["median"], default=None)


def pairs_at_least(result: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[int, int]:
    """In how many pairs of domains a control reaches the substrate, and of how many."""
    m = len(result["domains"])
    ours, theirs = (
        upper(square(matrix, m, name))
        for name, matrix in (("pcka", result["pcka"]["matrix"]), ("control", values["matrix"]))
    )
    known = np.isfinite(ours) & np.isfinite(theirs)
    return int(np.sum(theirs[known] >= ours[known])), int(known.sum())


def panel_tests(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The panel test of each domain and of all pooled; empty where the run has none."""
    return (result.get("panel_test") or {}).get("domains") or {}


def separation_ratios(result: Mapping[str, Any], key: str = "cka") -> dict[str, float]:
    """Ratio of discriminative to MIM encoders by a measure, of each domain that has one.

    Args:
        result: plain values.
        key: "cka", or k of mutual k-NN recall as text.

    Returns:
        Domain -> ratio; `POOLED` is a domain too.
    """
    tests = {
        name: test["cka"] if key == "cka" else test["mutual_knn"].get(key)
        for name, test in panel_tests(result).items()
    }
    ratios = {name: test["ratio"]["value"] for name, test in tests.items() if test}
    return {name: value for name, value in ratios.items() if value is not None}
