"""What a detector's evaluation comes to, in sentences and in a table for the terminal."""

import numpy as np

from substrate_jax.analyses.detector.controls import ENCODER, EVERYTHING, IMAGES, Control
from substrate_jax.analyses.detector.metrics import Estimate, over_units
from substrate_jax.analyses.detector.results import (
    LEFT_OUT,
    DetectorResult,
    Evaluation,
    Predictions,
)
from substrate_jax.analyses.detector.scores import REPORTED
from substrate_jax.report.drawing import drawable
from substrate_jax.report.text import counted, text_table


def percent(value: float) -> str:
    """A share in percent.

    Example:
        >>> percent(0.99613), percent(1.0), percent(float("nan"))
        ('99.6%', '100.0%', '–')
    """
    return "–" if np.isnan(value) else f"{100 * value:.1f}%"


def between(found: Estimate) -> str:
    """A share with its interval; a dash for none.

    Example:
        >>> between(Estimate(0.996, 0.99, 0.998))
        '99.6% (99.0 to 99.8%)'
    """
    if np.isnan(found.value):
        return "–"
    return f"{percent(found.value)} ({100 * found.low:.1f} to {percent(found.high)})"


def points(found: Estimate) -> str:
    """A difference of shares in percentage points, with its interval.

    Example:
        >>> points(Estimate(-0.012, -0.02, 0.004))
        '−1.2 (−2.0 to 0.4)'
    """
    values = (f"{100 * v:.1f}".replace("-", "−") for v in (found.value, found.low, found.high))
    value, low, high = ("0.0" if text == "−0.0" else text for text in values)
    return f"{value} ({low} to {high})"


def best_without_network(found: Evaluation) -> Control | None:
    """The control of the images themselves with the highest accuracy; None without images."""
    plain = [control for control in found.controls if control.kind == IMAGES]
    return max(plain, key=lambda control: control.accuracy.value, default=None)


def finding(found: Evaluation) -> str:
    """Accuracy beside the best control that no network made: which comes first is decided by it."""
    held_out = sum(domain.held_out for domain in found.domains.values())
    own = (
        f"{found.k} substrate scores tell {len(found.domains)} domains apart in "
        f"{between(found.accuracy)} of {held_out:,} held-out images"
    )
    plain = best_without_network(found)
    if plain is None:
        return f"{own}. Without images there is no control of pixels, sizes and colors."
    beside = f"{plain.name}, without any network, {between(plain.accuracy)}"
    gap = f"difference {points(plain.lead)} points"
    if plain.lead.low > 0:
        return f"{own}; {beside} ({gap})."
    return (
        f"No network is needed to tell these domains apart: {plain.name} does so in "
        f"{between(plain.accuracy)} of {held_out:,} held-out images, and {found.k} substrate "
        f"scores in {between(found.accuracy)} ({gap})."
    )


def beside_encoders(found: Evaluation) -> str:
    """What the panel adds to one encoder, and what 16 scores lose of all features."""
    singles = [one for one in found.controls if one.kind == ENCODER]
    (whole,) = (one for one in found.controls if one.kind == EVERYTHING)
    best = max(singles, key=lambda one: one.accuracy.value)
    of = f", the best of {len(singles)} on these images" if len(singles) > 1 else ""
    return (
        f"{best.name}{of}, is right in {between(best.accuracy)} (substrate's lead "
        f"{points(best.lead)} points), all {whole.width:,} features in {between(whole.accuracy)} "
        f"({points(whole.lead)})."
    )


def abstention(found: Evaluation) -> str:
    """What abstaining costs known images, and how much of the unknown it catches."""
    cost = (
        f"It is to turn away at most {percent(found.alpha)} of the images of its own domains and "
        f"does {between(found.abstained)}, with {between(found.answered_accuracy)} of the others "
        "right"
    )
    left = found.of_kind(LEFT_OUT)
    if not left:
        return f"{cost}."
    mean = over_units([one.abstained.value for one in left])
    least = min(left, key=lambda one: one.abstained.value)
    ends = "" if np.isnan(mean.low) else f" ({100 * mean.low:.0f} to {100 * mean.high:.0f}%)"
    return (
        f"{cost}; of a domain that was left out it abstains from {percent(mean.value)} on "
        f"average{ends}, least of {least.name}, {percent(least.abstained.value)}."
    )


def asked(found: Predictions) -> str:
    """What a detector said of the images it was asked about."""
    answered = ", ".join(f"{name} {count:,}" for name, count in found.counts.items() if count)
    return (
        f"Of {counted(found.rows, 'image')} it abstains from {found.abstained:,} "
        f"({percent(found.abstained / max(found.rows, 1))}) at p ≤ {found.alpha:g}; answered: "
        f"{answered or 'none'}."
    )


def reliability(found: Evaluation) -> str:
    """Calibration in words: the error beside what chance gives."""
    of = found.calibration
    most = of.ece_most_by_chance
    verdict = "no more than" if of.ece <= most else "more than"
    return (
        f"The expected calibration error is {percent(of.ece)} in 15 bins of equal width, {verdict} "
        f"a calibrated model of these confidences may have by chance (mean "
        f"{percent(of.ece_by_chance)}, 95% of draws up to {percent(most)}); log loss "
        f"{of.log_loss:.4f} nats, Brier score {of.brier:.4f}."
    )


def detector_summary(result: DetectorResult) -> str:
    """Accuracy, controls and scores as lines for a terminal."""
    lines = []
    if (found := result.evaluation) is not None:
        rows = [("input", "width", "held-out accuracy", "substrate's lead, points")]
        rows.append((f"substrate, {found.k} scores", str(found.k), between(found.accuracy), ""))
        singles = [one for one in found.controls if one.kind == ENCODER]
        best = max(singles, key=lambda one: one.accuracy.value, default=None)
        for one in found.controls:
            if one not in singles or one is best:
                name = drawable(f"{one.name}, the best alone" if one is best else one.name, 50)
                rows.append((name, str(one.width), between(one.accuracy), points(one.lead)))
        lines += [*text_table(rows), ""]
        if left := found.of_kind(LEFT_OUT):
            rows = [("score", "AUROC, domain left out", "lowest")]
            for score, title in REPORTED.items():
                values = {one.name: one.scores[score].auroc.value for one in left}
                least = min(values, key=lambda name: values[name])
                mean = float(np.mean(list(values.values())))
                rows.append((title, f"{mean:.3f}", f"{values[least]:.3f} {drawable(least)}"))
            lines += [*text_table(rows), ""]
        lines += [finding(found), abstention(found)]
    if result.predictions is not None:
        lines.append(asked(result.predictions))
    return "\n".join(lines)
