"""The report of a benchmark: rates under the machine's ceilings, growth with size, and peers.

`bench_page` turns the result of experiments.bench into a `Page`. Rates count the flops that a
kernel needs and the bytes that it cannot avoid, not those that were done, so that a wasteful
program stands low in the roofline.

Cost: a figure per kernel and ladder, about 0.1 s each.

Not guaranteed: that times of a busy machine mean much; the ceilings were measured three times in
the same run, and the page shows how far they fell.
"""

from collections.abc import Iterator, Mapping, Sequence

from substrate_jax.report import page
from substrate_jax.report.drawing import all_marks
from substrate_jax.report.page import Column, Figures, Page, Prose, Section, Table
from substrate_jax.report.text import counted, csv_text

from .figures import Curve, duration, growth, roofline
from .growth import OURS
from .page_tables import (
    GIGA,
    call_table,
    forward_table,
    peer_blocks,
    ratio_table,
    score_table,
    size_table,
    stage_table,
    start_table,
)
from .results import BenchResult, KernelTime, PeerTime, Rates

AXES = {
    "N": ("n", "rows N"),
    "D": ("total_width", "features D of all encoders"),
    "E": ("encoders", "encoders E, D unchanged"),
}

GROWTH = (
    "Both axes are logarithmic, so a power law is a straight line, and its slope is the exponent "
    "that the legend gives. Where small sizes are dominated by what does not grow, the exponent is "
    "below that of the flops. Hollow points are extrapolated from fewer encoders."
)
CAVEATS = (
    "Flops are those that the result needs: one half of a symmetric product, no matter how many "
    "the program does. Bytes are every input once and every result once, and in a stream the "
    "carried sums once per batch. Both are counted by formula, not measured.",
    "A share of the ceilings is therefore a lower bound of how busy the machine was, and can be "
    "compared between implementations of the same kernel, not between kernels.",
    "Compilation happens once for each shape and is not part of the times.",
    "Of a library that compares pair by pair and would take too long, some encoders are timed and "
    "the time is multiplied by the ratio of its flops; such times say so.",
)


def bench_page(result: BenchResult) -> Page:
    """The page of one run.

    Returns:
        The page, its figures drawn.
    """
    rows, best = result.rows, result.ceilings.best
    sections = [Section("The machine's ceilings", list(_ceilings(result)))]
    if rows:
        sections += [
            Section("Roofline", [Figures([_roofline(rows, best)])]),
            Section("Time against size", list(_growth(result))),
            Section("Other libraries", list(peer_blocks(result))),
            Section("One kernel against another", [ratio_table(result)]),
            Section("All sizes", [size_table(rows)]),
        ]
    if result.forward:
        sections.append(Section("Forward pass of the encoders", [forward_table(result)]))
    if result.domain_stages:
        sections.append(Section("Analysis of domains", [stage_table(result)]))
    if result.score_times:
        sections.append(Section("Scores of transferability", [score_table(result)]))
    if result.starts:
        sections.append(Section("The first minutes", [start_table(result), call_table(result)]))
    sections += [
        Section("What these numbers can and cannot show", list(_caveats(result))),
        Section("How this was made", page.provenance(result.run)),
    ]
    title = "How fast are the kernels?" if rows else "How fast is it here?"
    return Page(title, finding(result), _tiles(result), sections)


def finding(result: BenchResult) -> str:
    """What was timed, or which launcher takes longest at first."""
    rows, beside = result.rows, "the largest matrix product and the largest copy"
    if rows:
        return (
            f"Times of {counted(len({row.label for row in rows}), 'kernel')} at "
            f"{counted(len(rows), 'size')} on this machine, beside {beside} that it reached in the "
            "same run, and beside other libraries where they are installed."
        )
    if result.starts:
        longest = max(result.starts, key=lambda start: start.seconds)
        spent = [start for start in result.starts if start.launcher == longest.launcher]
        said = [
            f"{start.seconds:.0f} s {'again' if start.again else 'from nothing'}" for start in spent
        ]
        count = counted(len({start.launcher for start in result.starts}), "launcher")
        return (
            f"Of {count} {longest.launcher} takes longest: {', '.join(said)}. Compiling is "
            f"{longest.compiling:.0f} s of the first."
        )
    return f"Times on this machine, beside {beside} that it reached in the same run."


def _tiles(result: BenchResult) -> list[tuple[str, str, str]]:
    best = result.ceilings.best
    tiles = [
        (
            f"{best.flops_per_second / GIGA:,.0f} GF/s",
            "largest float32 matrix product",
            counted(result.threads, "thread"),
        ),
        (f"{best.bytes_per_second / GIGA:.1f} GB/s", "largest copy", "bytes read and written"),
    ]
    if result.rows:
        top = max(result.rows, key=lambda row: row.flops_fraction)
        tiles.append((f"{top.flops_fraction:.0%}", "of the matrix product, at best", _where(top)))
    timed = [(peer.ratio or 0.0, peer, row) for row, peer in _compared(result.rows)]
    if timed:
        ratio, peer, row = max(timed, key=lambda item: item[0])
        tiles.append((_times(ratio), f"as fast as {peer.name}, at best", _where(row)))
        ratio, peer, row = min(timed, key=lambda item: item[0])
        tiles.append((_times(ratio), f"as fast as {peer.name}, at worst", _where(row)))
    memory = f"{result.peak_memory_bytes / 2**30:.1f} GiB"
    return [*tiles, (memory, "peak memory of the run", "peers included")]


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}×" if ratio >= 10 else f"{ratio:.2g}×"


def _where(row: KernelTime) -> str:
    return f"{row.label}, N = {row.n:,}"


def _compared(rows: Sequence[KernelTime]) -> Iterator[tuple[KernelTime, PeerTime]]:
    """Every row with every peer that was timed."""
    for row in rows:
        yield from ((row, peer) for peer in row.peers if peer.seconds is not None)


def _ceilings(result: BenchResult) -> Iterator[page.Block]:
    ceilings = result.ceilings
    rows = [
        {
            "when": when,
            "flops": rates.flops_per_second / GIGA,
            "bytes": rates.bytes_per_second / GIGA,
        }
        for when, rates in ceilings.measured.items()
    ]
    drift = ceilings.drift
    caption = (
        "Measured in the same process as the kernels; the largest counts. Between the largest and "
        f"the least lie {drift.flops_per_second:.0%} for the product and "
        f"{drift.bytes_per_second:.0%} for the copy: that much a time may be off because other "
        "work shared the machine."
    )
    columns = [
        Column("when", "When"),
        Column("flops", "Matrix product, GF/s", "score"),
        Column("bytes", "Copy, GB/s", "score"),
    ]
    yield Table("", caption, columns, rows, "ceilings.csv")


def _roofline(rows: Sequence[KernelTime], best: Rates) -> page.Picture:
    curves = []
    for (label, points), mark in zip(_by(rows, "label"), all_marks(), strict=False):
        points = sorted(points, key=lambda row: row.intensity)
        x, y = ([getattr(row, key) for row in points] for key in ("intensity", "flops_per_second"))
        curves.append(Curve(label, x, y, mark))
    figure = roofline(curves, compute=best.flops_per_second, bandwidth=best.bytes_per_second)
    caption = (
        "A point is a kernel at one size. The black line is what the machine allows: on its slope "
        "memory is the limit, on its flat part arithmetic is. The farther below the line, the "
        "more there is to gain, or the more the kernel does that is neither arithmetic nor memory "
        "(sorting, small decompositions). A point above the slope works in the caches."
    )
    top = max(rows, key=lambda row: row.flops_fraction)
    alt = (
        f"Roofline of {counted(len(curves), 'kernel')} at {counted(len(rows), 'size')}; the "
        f"highest is {_where(top)} at {top.flops_fraction:.0%} of the matrix product."
    )
    csv = _points(curves, "flops_per_byte", "flops_per_second")
    return page.drawn("bench-roofline", "Rate against intensity", caption, alt, figure, csv)


def _by(rows: Sequence[KernelTime], key: str) -> list[tuple[str, list[KernelTime]]]:
    """Rows by a key, in the order of its first appearance."""
    found: dict[str, list[KernelTime]] = {}
    for row in rows:
        found.setdefault(getattr(row, key), []).append(row)
    return list(found.items())


def _growth(result: BenchResult) -> Iterator[page.Block]:
    yield Prose([GROWTH])
    exponents = {(g.label, g.method, g.axis): g.seconds for g in result.growth}
    for name, rows in _by(result.rows, "benchmark"):
        pictures = [
            _growth_picture(name, axis, [row for row in rows if axis in row.axes], exponents)
            for axis in AXES
            if any(axis in row.axes for row in rows)
        ]
        yield Figures(pictures, title=name)
    columns = [
        Column("label", "Kernel"),
        Column("method", "Method"),
        Column("axis", "With"),
        Column("points", "Sizes", "count"),
        Column("seconds", "Exponent of the time", "score"),
        Column("flops", "of the flops needed", "score"),
    ]
    caption = "Least-squares slopes of log seconds, and of log flops for ours."
    yield Table("Exponents", caption, columns, [vars(each) for each in result.growth], "growth.csv")


def _growth_picture(
    name: str, axis: str, rows: Sequence[KernelTime], exponents: Mapping[tuple, float]
) -> page.Picture:
    key, title = AXES[axis]
    marks, curves = all_marks(), []
    for label, points in _by(rows, "label"):
        series = {OURS: [(getattr(row, key), row.seconds, False) for row in points]}
        for row, peer in _compared(points) if axis == "N" else ():
            seconds, hollow = peer.seconds or 0.0, peer.extrapolated_from is not None
            series.setdefault(peer.name, []).append((getattr(row, key), seconds, hollow))
        for method, values in series.items():
            mark = next(marks)
            exponent = exponents.get((label, method, axis))
            words = f"{label}: {method}" if label != name else method
            if exponent is not None:
                words += f", {axis}^{round(exponent, 2) + 0.0:.2f}"
            for hollow in (False, True):
                kept = sorted(v[:2] for v in values if v[2] is hollow)
                if kept:
                    x, y = zip(*kept, strict=True)
                    text = words if not hollow else f"{method}, extrapolated"
                    curves.append(Curve(text, x, y, mark, hollow))
    figure = growth(curves, x_title=title)
    ends = [f"{curve.label} {duration(curve.y[-1])}" for curve in curves]
    alt = f"Seconds against {title} of {name}. At the largest size: {'; '.join(ends)}."
    caption = "Points are medians, lines the fitted power laws."
    key_of_picture, csv = f"bench-{name}-{axis.lower()}", _points(curves, key, "seconds")
    return page.drawn(key_of_picture, f"{name} by {title}", caption, alt, figure, csv)


def _points(curves: list[Curve], x: str, y: str) -> str:
    """The points of curves as CSV."""
    rows = ((c.label, *point) for c in curves for point in zip(c.x, c.y, strict=True))
    return csv_text(["curve", x, y], rows)


def _caveats(result: BenchResult) -> Iterator[page.Block]:
    yield Prose(CAVEATS, points=True)
    skipped = [
        f"{step.label}, {step.size}: {step.estimated_seconds:.0f} s estimated."
        for step in result.skipped
    ]
    if skipped:
        yield Prose(skipped, title="Left out to keep to the budget", points=True)
    if result.run.notes:
        yield Prose(result.run.notes, title="Notes of this run", points=True)
