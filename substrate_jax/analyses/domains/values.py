"""Numbers that several parts of a domains report read from its result."""

import dataclasses
import math
from collections.abc import Mapping
from typing import TypeGuard

import numpy as np

from substrate_jax.analyses.cka.results import DomainSeparation
from substrate_jax.analyses.domains.readings import READINGS, Reading
from substrate_jax.analyses.domains.results import (
    ComparedDomain,
    ControlValues,
    DomainPairs,
    DomainsResult,
)
from substrate_jax.report.values import upper


@dataclasses.dataclass(frozen=True)
class PairControl:
    """A reading of a control that is a PCKA of pairs of domains, and what was found.

    Attributes:
        reading: which it is.
        values: what was found.
        median: over the pairs.
        reached: pairs in which it is as high as the substrate.
        pairs: of how many where both are known.
    """

    reading: Reading
    values: ControlValues
    median: float
    reached: int
    pairs: int


def known(value: float | None) -> TypeGuard[float]:
    """Whether there is a number: neither None nor NaN."""
    return value is not None and math.isfinite(value)


def share_of(domain: ComparedDomain, k: int) -> float:
    """Share of a domain's variance in its first k components; NaN where it is not known."""
    return float(np.sum(domain.explained_variance_ratio[:k]))


def domain_means(result: DomainsResult) -> dict[str, float]:
    """Mean PCKA of each domain with the others; NaN where none is known."""
    means = {}
    for i, (name, row) in enumerate(
        zip(result.domains, result.comparison.pcka.matrix, strict=True)
    ):
        others = np.delete(row, i)
        others = others[np.isfinite(others)]
        means[name] = float(others.mean()) if len(others) else math.nan
    return means


def ceiling_means(result: DomainsResult) -> dict[str, float]:
    """Mean split-half ceiling of each domain that has one."""
    split = result.comparison.split_half
    means = {name: spread.mean for name, spread in split.ceiling.items()} if split else {}
    return {name: mean for name, mean in means.items() if known(mean)}


def pair_controls(result: DomainsResult) -> list[PairControl]:
    """The run's controls that are a PCKA of pairs of domains, primary readings first."""
    ours, found = result.comparison.pcka.matrix, []
    for reading, values in _readings(result):
        if values.matrix is not None and known(values.median):
            reached, pairs = _at_least(values.matrix, ours)
            found.append(PairControl(reading, values, values.median, reached, pairs))
    return sorted(found, key=lambda control: not control.reading.primary)


def overlap_controls(result: DomainsResult) -> list[tuple[Reading, ControlValues]]:
    """The run's controls of single domains, with what was found."""
    found = _readings(result)
    return [(r, values) for r, values in found if values.matrix is None and known(values.median)]


def best_control(result: DomainsResult) -> PairControl | None:
    """The primary reading with the highest median PCKA, None without controls."""
    primary = [control for control in pair_controls(result) if control.reading.primary]
    return max(primary, key=lambda control: control.median, default=None)


def panel_tests(result: DomainsResult) -> Mapping[str, DomainSeparation]:
    """The panel test of each domain and of all pooled; empty where the run has none."""
    return result.panel_test.domains if result.panel_test else {}


def separation_ratios(result: DomainsResult, measure: str | int = "cka") -> dict[str, float]:
    """Ratio of discriminative to MIM encoders by a measure, of each domain that has one.

    Args:
        result: of experiments.domains.
        measure: "cka", or k of mutual k-NN recall.

    Returns:
        Domain -> ratio; `POOLED` is a domain too.
    """
    tests = {name: test.by(measure) for name, test in panel_tests(result).items()}
    ratios = {name: test.ratio.value for name, test in tests.items() if test}
    return {name: value for name, value in ratios.items() if known(value)}


def _readings(result: DomainsResult) -> list[tuple[Reading, ControlValues]]:
    """The readings of the run's controls, in the order of `READINGS`."""
    controls = result.controls or {}
    found = [(r, controls.get(r.control, {}).get(r.name)) for r in READINGS]
    return [(reading, values) for reading, values in found if values]


def _at_least(theirs: DomainPairs, ours: DomainPairs) -> tuple[int, int]:
    """In how many pairs one matrix reaches another, of how many where both are known."""
    a, b = upper(theirs), upper(ours)
    both = np.isfinite(a) & np.isfinite(b)
    return int(np.sum(a[both] >= b[both])), int(both.sum())
