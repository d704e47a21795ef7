"""What watching a training comes to, in a sentence and in a table for the terminal."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from substrate_jax.analyses.emergence.alignment import TITLES
from substrate_jax.analyses.emergence.compare import PANEL, PIXELS
from substrate_jax.analyses.emergence.plan import OBJECTIVES, SELF_SUPERVISED, SHUFFLED
from substrate_jax.analyses.emergence.results import EmergenceResult, Rise
from substrate_jax.analyses.emergence.rise import Estimate
from substrate_jax.report.text import counted, short, text_table

CURVES = TITLES | {
    "accuracy": "test accuracy",
    "probe_accuracy": "probe accuracy",
    "settled": "PCKA with its own end",
    "rankme": "RankMe (singular values)",
    "effective_rank": "effective rank (eigenvalues)",
    "alpha": "spectrum's exponent alpha",
}
WIDE = ("rankme", "effective_rank", "alpha")  # of no unit interval


def value(number: float, curve: str) -> str:
    """A value of a curve as text.

    Example:
        >>> value(0.123, "cka"), value(12.34, "rankme"), value(float("nan"), "alpha")
        ('.12', '12.3', '–')
    """
    if curve not in WIDE or not np.isfinite(number):
        return short(number)
    return f"{number:.2f}" if curve == "alpha" else f"{number:.1f}"


def estimate(found: Estimate, curve: str) -> str:
    """A mean with its interval, where there is one.

    Example:
        >>> estimate(Estimate(0.5, 0.4, 0.6, 3), "cka")
        '.50 (.40 to .60)'
    """
    text = value(found.mean, curve)
    if not np.isfinite(found.low):
        return text
    return f"{text} ({value(found.low, curve)} to {value(found.high, curve)})"


def doublings(number: float) -> str:
    """A lead as text.

    Example:
        >>> doublings(-1.25), doublings(-0.01), doublings(float("nan"))
        ('−1.2', '0.0', '–')
    """
    # Zero is added to what is rounded, as -0.0 would keep its sign.
    return f"{round(number, 1) + 0.0:.1f}".replace("-", "−") if np.isfinite(number) else "–"


def lead_in_words(found: Estimate) -> str:
    """A lead with its interval.

    Example:
        >>> lead_in_words(Estimate(1.0, -0.5, 2.5, 2))
        '1.0 (−0.5 to 2.5)'
    """
    if not np.isfinite(found.low):
        return doublings(found.mean)
    return f"{doublings(found.mean)} ({doublings(found.low)} to {doublings(found.high)})"


def middle_step(half: Float[np.ndarray, " s"]) -> str:
    """The mean time of half rise over seeds, in the logarithm of 1 + step.

    Example:
        >>> [middle_step(np.array(half)) for half in ([1.0, 7.0], [1.0, np.nan], [np.nan])]
        ['3', '1 (1 of 2 seeds)', 'never']
    """
    known = half[np.isfinite(half)]
    if not len(known):
        return "never"
    step = float(2 ** np.log2(1 + known).mean() - 1)
    text = f"{step:.0f}" if step >= 10 else f"{step:.1f}".removesuffix(".0")
    return text if len(known) == len(half) else f"{text} ({len(known)} of {len(half)} seeds)"


def finding(result: EmergenceResult) -> str:
    """Does agreement with the panel come before accuracy? The answer with its interval."""
    return " ".join([_first(result), *_second(result)])


def _first(result: EmergenceResult) -> str:
    one, accuracy = result.rise("debiased_cka", PANEL), result.rise("accuracy")
    if one is None or accuracy is None:
        return "Nothing was compared with the panel."
    what, lead = "Agreement with the panel (debiased CKA)", one.lead
    if not np.isfinite(one.half).any():
        low, high = short(one.start.mean), short(one.top.mean)
        return f"{what} does not rise: it is {low} untrained and at most {high}."
    if not np.isfinite(accuracy.half).any():
        return f"Accuracy does not rise, so there is nothing that {what.lower()} could precede."
    which = "before" if lead.mean > 0 else "after"
    apart = f"{doublings(abs(lead.mean))} doublings of the step count {which} accuracy"
    apart = "together with accuracy" if doublings(lead.mean) == "0.0" else apart
    steps = f"at step {middle_step(one.half)} against {middle_step(accuracy.half)}"
    if not np.isfinite(lead.low):
        return f"{what} has half of its rise {apart}, {steps}; one seed has no interval."
    ends = f"{result.level:.0%} interval {doublings(lead.low)} to {doublings(lead.high)}"
    ends = f"{ends} over {counted(lead.seeds, 'seed')}"
    if lead.settled:
        return f"{what} has half of its rise {apart} ({ends}), {steps}."
    least = doublings((lead.high - lead.low) / 2)
    return (
        "Whether agreement with the panel or accuracy comes first stays open: debiased CKA has "
        f"half of its rise {apart} ({ends}), {steps}; a lead below {least} would not show."
    )


def _second(result: EmergenceResult) -> Iterator[str]:
    one = result.rise("debiased_cka", PANEL)
    if one is None:
        return
    parts = [f"It goes from {short(one.start.mean)} to {short(one.end.mean)}"]
    if shuffled := result.rise("debiased_cka", PANEL, SHUFFLED):
        parts.append(f"to {short(shuffled.end.mean)} where labels are shuffled")
    if views := result.rise("debiased_cka", PANEL, SELF_SUPERVISED):
        parts.append(f"to {short(views.end.mean)} without labels (SimCLR)")
    said = ", ".join(parts)
    if pixels := result.rise("debiased_cka", PIXELS):
        said += f"; with pixels, from {short(pixels.start.mean)} to {short(pixels.end.mean)}"
    yield f"{said}."


def title_of(rise: Rise, result: EmergenceResult) -> str:
    """A curve in words, with what it is an agreement with."""
    title = CURVES[rise.curve]
    return f"{title} with {result.targets[rise.target]}" if rise.target else title


def emergence_summary(result: EmergenceResult) -> str:
    """The finding, and start, end and half rise of the main curves, for the terminal."""
    rows = [("curve", "start", "top", "end", "half rise at step", "lead in doublings")]
    for one in result.rises:
        if one.curve not in ("accuracy", "probe_accuracy", "debiased_cka", "effective_rank"):
            continue
        ours = one.objective == "supervised"
        name = title_of(one, result) + ("" if ours else f", {OBJECTIVES[one.objective]}")
        start, top, end = (value(each.mean, one.curve) for each in (one.start, one.top, one.end))
        ahead = "" if one.curve == "accuracy" else lead_in_words(one.lead)
        rows.append((name, start, top, end, middle_step(one.half), ahead))
    return "\n".join([finding(result), *text_table(rows)])
