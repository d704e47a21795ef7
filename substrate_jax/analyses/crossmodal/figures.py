"""Figures of a comparison of two modalities: agreement over K, and what a planted signal shows.

Cost: about 0.1 s per figure.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from substrate_jax.analyses.crossmodal.orders import ROWS
from substrate_jax.analyses.crossmodal.results import Agreement, Planted
from substrate_jax.report.axes import inch_axes, legend, legend_height, marked, read_curve, scale
from substrate_jax.report.drawing import INK, MARKS, PHONE
from substrate_jax.report.plots import Curve, curves

LEFT, HIGH, BELOW = 0.6, 2.3, 0.45
CHANCE = ("#777777", "s")


def sweep(agreements: Sequence[Agreement], measure: str, quantity: str, power: float) -> Figure:
    """A measure over the number of components, beside chance and the least effect.

    Args:
        agreements: of substrates, by ascending K.
        measure: which.
        quantity: its name on the axis.
        power: of the least effect.

    Returns:
        The figure, its legend below.
    """
    ks = [float(one.k or 0) for one in agreements]
    of = [one.measures[measure] for one in agreements]
    none = [float("nan")] * len(ks)

    def plain(label: str, values: list[float], mark) -> Curve:
        return Curve(label, ks, values, none, none, mark, hollow=True)

    lines = [
        Curve(
            "observed",
            ks,
            [o.value for o in of],
            [o.low for o in of],
            [o.high for o in of],
            MARKS[0],
        ),
        plain(f"seen {power:.0%} of the time", [o.nulls[ROWS].least for o in of], MARKS[1]),
        plain("chance stays below", [o.nulls[ROWS].tau for o in of], CHANCE),
    ]
    return curves(lines, across="components K (logarithmic)", quantity=quantity, most=1.0)


def detection(planted: Planted, observed: float, quantity: str, power: float) -> Figure:
    """The share of draws in which a planted signal is found, by the measure that it gives.

    Args:
        planted: signals.
        observed: the measure of the two sides.
        quantity: its name.
        power: wanted.

    Returns:
        The figure, its legend below.
    """
    bottom = BELOW + legend_height(3)
    figure, axes = inch_axes(
        PHONE, bottom + HIGH + 0.12, left=LEFT, right=0.2, bottom=bottom, top=0.12
    )
    value, share = np.array(planted.value), 100 * np.array(planted.detected)
    known = [v for v in (planted.least, planted.by_null, observed) if np.isfinite(v)]
    start = float(value.min())
    reach = max(max(known) - start, 1e-3)
    limits = (start - 0.1 * reach, start + 1.3 * reach)
    near = value <= limits[1]
    scale(axes, "x", limits, quantity)
    scale(axes, "y", (0.0, 103.0), "found, % of draws")
    axes.axhline(100 * power, color="#999999", linewidth=0.9, zorder=1.5)
    style = marked(MARKS[0], size=4.5) | {"linestyle": "-", "linewidth": 1.4}
    order = np.argsort(value[near])
    x, y = value[near][order], share[near][order]
    (curve,) = axes.plot(x, y, **style)
    read_curve(axes, "found, %", x, y)
    rows = [(curve, f"planted, {planted.draws} draws each")]
    for at, name, dash in (
        (planted.by_null, f"seen {power:.0%} of the time, by the null", (4, 2)),
        (observed, "observed", (None, None)),
    ):
        line = axes.axvline(at, color=INK, linewidth=1.2, dashes=dash)
        rows.append((line, f"{name}: {at:.3f}"))
    legend(figure, rows, LEFT)
    return figure
