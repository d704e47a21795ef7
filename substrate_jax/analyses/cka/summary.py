"""What a comparison of encoders says in a few numbers: for the terminal and the page's overview."""

import dataclasses

import numpy as np

from substrate_jax.analyses.cka.results import CkaDomain, CkaResult
from substrate_jax.report.drawing import drawable
from substrate_jax.report.text import number, text_table
from substrate_jax.report.values import upper


@dataclasses.dataclass(frozen=True)
class KeyFigures:
    """A domain in a few numbers.

    Attributes:
        median: raw CKA of the pairs; None without a pair.
        score: median calibrated CKA of the pairs; None without a pair.
        significant: pairs with q below alpha.
        tested: pairs that have a q.
    """

    median: float | None
    score: float | None
    significant: int
    tested: int

    @property
    def share(self) -> float | None:
        """Significant pairs of those tested, in [0, 1]; None where none was."""
        return self.significant / self.tested if self.tested else None


def key_figures(domain: CkaDomain) -> KeyFigures:
    """Median CKA of the pairs, raw and calibrated, and how many of them are significant."""
    calibrated = domain.comparison.calibrated
    raw, score, q = (
        values[np.isfinite(values)]
        for values in map(upper, (domain.comparison.cka, calibrated.score, calibrated.q_value))
    )
    return KeyFigures(
        median=float(np.median(raw)) if len(raw) else None,
        score=float(np.median(score)) if len(score) else None,
        significant=int(np.sum(q < calibrated.alpha)),
        tested=len(q),
    )


def cka_summary(result: CkaResult) -> str:
    """A table of the domains, and the agreement between them, as lines for a terminal."""
    rows = [("domain", "images", "median CKA", "discriminative", "MIM", "ratio", "q < α")]
    for name, domain in result.domains.items():
        means, key = domain.separation, key_figures(domain)
        rows.append(
            (
                drawable(name),
                str(domain.comparison.n),
                number(key.median),
                f"{number(means.discriminative_mean)} ({means.discriminative_pairs})",
                f"{number(means.mim_mean)} ({means.mim_pairs})",
                number(means.ratio, "ratio"),
                f"{key.significant}/{key.tested}",
            )
        )
    lines = text_table(rows)
    lines.append("discriminative, MIM: mean calibrated CKA (number of pairs)")
    if pcka := result.pcka:
        lines += [
            f"PCKA between domains (K = {pcka.k}): median {number(pcka.median)}, "
            f"least {number(pcka.min)}",
            f"  ({' and '.join(map(drawable, pcka.min_pair))})",
        ]
    return "\n".join(line.rstrip() for line in lines)
