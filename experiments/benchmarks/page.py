"""The report of a benchmark: rates under the machine's ceilings, growth with size, and peers.

`bench_page` turns the result of experiments.bench into a `Page`. Rates count the flops that a
kernel needs and the bytes that it cannot avoid, not those that were done, so that a wasteful
program stands low in the roofline.

Cost: a figure for each kernel and ladder, about 0.1 s each.

Not guaranteed: that times of a busy machine mean much; the ceilings were measured three times in
the same run, and the page shows how far they fell.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.benchmarks import figures as bench_figures
from experiments.benchmarks.figures import duration
from substrate_jax.report import page
from substrate_jax.report.drawing import Curve, all_marks
from substrate_jax.report.page import Column, Facts, Figures, Page, Prose, Section, Table
from substrate_jax.report.shared_blocks import Thumbnails
from substrate_jax.report.text import counted, csv_text

OURS = "substrate_jax"
AXES = {
    "N": ("n", "rows N"),
    "D": ("total_width", "features D of all encoders"),
    "E": ("encoders", "encoders E, D unchanged"),
}
GIGA = 1e9


def bench_page(result: dict, thumbnails: Thumbnails) -> Page:
    """The page of one run.

    Args:
        result: plain values, as `report.values.plain` makes them.
        thumbnails: not used.

    Returns:
        The page, its figures drawn.
    """
    rows, best = result["rows"], result["ceilings"]["best"]
    lede = (
        f"Times of {counted(len({row['label'] for row in rows}), 'kernel')} at "
        f"{counted(len(rows), 'size')} on this machine, beside the largest matrix product and the "
        "largest copy that it reached in the same run, and beside other libraries where they are "
        "installed."
    )
    sections = [Section("The machine's ceilings", list(_ceilings(result)))]
    if rows:
        sections += [
            Section("Roofline", [Figures([_roofline(rows, best)])]),
            Section("Time against size", list(_growth(result))),
            Section("Other libraries", list(_peers(result))),
            Section("One kernel against another", [_ratios(result)]),
            Section("All sizes", [_table(rows)]),
        ]
    if result.get("forward"):
        sections.append(Section("Forward pass of the encoders", [_forward(result)]))
    if result.get("domain_stages"):
        sections.append(Section("Analysis of domains", [_domain_stages(result)]))
    sections += [
        Section("Reading the numbers", list(_reading(result))),
        Section("How this was made", page.provenance(result)),
    ]
    return Page("How fast are the kernels?", lede, _tiles(result), sections)


def _tiles(result: dict) -> list[tuple[str, str, str]]:
    best = result["ceilings"]["best"]
    tiles = [
        (f"{best['flops_per_second'] / GIGA:,.0f} GF/s", "largest float32 matrix product",
         counted(result["threads"], "thread")),
        (f"{best['bytes_per_second'] / GIGA:.1f} GB/s", "largest copy", "bytes read and written"),
    ]  # fmt: skip
    if result["rows"]:
        top = max(result["rows"], key=lambda row: row["flops_fraction"])
        tiles.append(
            (f"{top['flops_fraction']:.0%}", "of the matrix product, at best", _where(top))
        )
    timed = [(peer["ratio"], peer, row) for row, peer in _compared(result["rows"])]
    if timed:
        ratio, peer, row = max(timed, key=lambda item: item[0])
        tiles.append((_times(ratio), f"as fast as {peer['name']}, at best", _where(row)))
        ratio, peer, row = min(timed, key=lambda item: item[0])
        tiles.append((_times(ratio), f"as fast as {peer['name']}, at worst", _where(row)))
    memory = f"{result['peak_memory_bytes'] / 2**30:.1f} GiB"
    return [*tiles, (memory, "peak memory of the run", "peers included")]


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}×" if ratio >= 10 else f"{ratio:.2g}×"


def _where(row: Mapping[str, Any]) -> str:
    return f"{row['label']}, N = {row['n']:,}"


def _compared(rows: list[dict]) -> Iterator[tuple[dict, dict]]:
    """Every row with every peer that was timed."""
    for row in rows:
        yield from ((row, peer) for peer in row["peers"] if "seconds" in peer)


def _ceilings(result: dict) -> Iterator[page.Block]:
    ceilings = result["ceilings"]
    rows = [
        {"when": when, "flops": rates["flops_per_second"] / GIGA,
         "bytes": rates["bytes_per_second"] / GIGA}
        for when, rates in ceilings["measured"].items()
    ]  # fmt: skip
    drift = ceilings["drift"]
    caption = (
        "Measured in the same process as the kernels; the largest counts. Between the largest and "
        f"the least lie {drift['flops_per_second']:.0%} for the product and "
        f"{drift['bytes_per_second']:.0%} for the copy: that much a time may be off because other "
        "work shared the machine."
    )
    columns = [
        Column("when", "When"),
        Column("flops", "Matrix product, GF/s", "score"),
        Column("bytes", "Copy, GB/s", "score"),
    ]
    yield Table("", caption, columns, rows, "ceilings.csv")


def _roofline(rows: list[dict], best: Mapping[str, float]) -> page.Picture:
    curves = []
    for (label, points), mark in zip(_by(rows, "label"), all_marks(), strict=False):
        points = sorted(points, key=lambda row: row["intensity"])
        x, y = ([row[key] for row in points] for key in ("intensity", "flops_per_second"))
        curves.append(Curve(label, x, y, mark))
    figure = bench_figures.roofline(
        curves, compute=best["flops_per_second"], bandwidth=best["bytes_per_second"]
    )
    caption = (
        "A point is a kernel at one size. The black line is what the machine allows: on its slope "
        "memory is the limit, on its flat part arithmetic is. The farther below the line, the "
        "more there is to gain, or the more the kernel does that is neither arithmetic nor memory "
        "(sorting, small decompositions). A point above the slope works in the caches."
    )
    top = max(rows, key=lambda row: row["flops_fraction"])
    alt = (
        f"Roofline of {counted(len(curves), 'kernel')} at {counted(len(rows), 'size')}; the "
        f"highest is {_where(top)} at {top['flops_fraction']:.0%} of the matrix product."
    )
    csv = _points(curves, "flops_per_byte", "flops_per_second")
    return page.drawn("bench-roofline", "Rate against intensity", caption, alt, figure, csv)


def _by(rows: list[dict], key: str) -> list[tuple[str, list[dict]]]:
    """Rows by a key, in the order of its first appearance."""
    found: dict[str, list[dict]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return list(found.items())


def _growth(result: dict) -> Iterator[page.Block]:
    yield Prose([
        "Both axes are logarithmic, so a power law is a straight line, and its slope is the "
        "exponent that the legend gives. Where small sizes are dominated by what does not grow, "
        "the exponent is below that of the flops. Hollow points are extrapolated from fewer "
        "encoders."
    ])  # fmt: skip
    exponents = {(g["label"], g["method"], g["axis"]): g["seconds"] for g in result["growth"]}
    for name, rows in _by(result["rows"], "benchmark"):
        pictures = [
            _growth_picture(name, axis, [row for row in rows if axis in row["axes"]], exponents)
            for axis in AXES
            if any(axis in row["axes"] for row in rows)
        ]
        yield Figures(pictures, title=name)
    columns = [
        Column("label", "Kernel"), Column("method", "Method"), Column("axis", "With"),
        Column("points", "Sizes", "count"), Column("seconds", "Exponent of the time", "score"),
        Column("flops", "of the flops needed", "score"),
    ]  # fmt: skip
    caption = "Least-squares slopes of log seconds, and of log flops for ours."
    yield Table("Exponents", caption, columns, result["growth"], "growth.csv")


def _growth_picture(
    name: str, axis: str, rows: list[dict], exponents: Mapping[tuple, float]
) -> page.Picture:
    key, title = AXES[axis]
    marks, curves = all_marks(), []
    for label, points in _by(rows, "label"):
        series = {OURS: [(row[key], row["seconds"], False) for row in points]}
        for row, peer in _compared(points) if axis == "N" else ():
            point = (row[key], peer["seconds"], "extrapolated_from" in peer)
            series.setdefault(peer["name"], []).append(point)
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
    figure = bench_figures.growth(curves, x_title=title)
    ends = [f"{curve.label} {duration(curve.y[-1])}" for curve in curves]
    alt = f"Seconds against {title} of {name}. At the largest size: {'; '.join(ends)}."
    caption = "Points are medians, lines the fitted power laws."
    key_of_picture, csv = f"bench-{name}-{axis.lower()}", _points(curves, key, "seconds")
    return page.drawn(key_of_picture, f"{name} by {title}", caption, alt, figure, csv)


def _points(curves: list[Curve], x: str, y: str) -> str:
    """The points of curves as CSV."""
    rows = ((c.label, *point) for c in curves for point in zip(c.x, c.y, strict=True))
    return csv_text(["curve", x, y], rows)


def _peers(result: dict) -> Iterator[page.Block]:
    rows = []
    for row in result["rows"]:
        for peer in row["peers"]:
            state = peer.get("extrapolated_from")
            rows.append({
                "label": row["label"], "n": row["n"], "width": row["total_width"],
                "peer": peer["name"], "version": peer["version"],
                "ours": row["seconds"], "theirs": peer.get("seconds"), "ratio": peer.get("ratio"),
                "quantity": peer["quantity"], "difference": peer.get("difference"),
                "shown": None if peer.get("difference") is None else f"{peer['difference']:.1e}",
                "our_sine": peer.get("our_sine"), "sine": peer.get("sine"),
                "remark": f"time extrapolated from {state}" if state else peer.get("skipped"),
            })  # fmt: skip
    columns = [
        Column("label", "Kernel"), Column("n", "N", "count"),
        Column("width", "D", "count", shown=False), Column("peer", "Library"),
        Column("version", "Version", shown=False),
        Column("ours", "Ours, s", "score"), Column("theirs", "Theirs, s", "score"),
        Column("ratio", "Theirs / ours", "ratio"), Column("quantity", "Compared"),
        Column("shown", "Largest difference"),
        Column("difference", "Largest difference", "score", shown=False),
        Column("our_sine", "Sine of ours", "p"), Column("sine", "of theirs", "p"),
        Column("remark", "Remark"),
    ]  # fmt: skip
    caption = (
        f"Identical inputs and {counted(result['threads'], 'thread')} on both sides. A ratio above "
        "1 says that ours is faster. The difference is the largest over all pairs of encoders or "
        "components. The sine is the largest between the components and exact ones in float64, "
        "where those were affordable."
    )
    if rows:
        yield Table("", caption, columns, rows, "peers.csv")
    found = [peer for row in result["rows"] for peer in row["peers"]]
    remarks = {peer["name"]: peer["note"] for peer in found if peer["note"]}
    if remarks:
        points = [f"{name}: {note}." for name, note in remarks.items()]
        yield Prose(points, title="What differs by design", points=True)
    yield Facts(result["peers"], title="Versions of the libraries")


def _ratios(result: dict) -> Table:
    columns = [
        Column("label", "Kernel"), Column("base", "Against"), Column("n", "N", "count"),
        Column("total_width", "D", "count"), Column("ratio", "Time of the first / second", "ratio"),
    ]  # fmt: skip
    caption = (
        "Times at the same size: of the two spaces in which CKA can be computed, and of what "
        "calibration and a stream of batches cost beside one pass."
    )
    return Table("", caption, columns, result["ratios"], "ratios.csv")


def _table(rows: list[dict]) -> Table:
    shown = [
        row | {
            "gflops": row["flops_per_second"] / GIGA, "gbytes": row["bytes_per_second"] / GIGA,
            "flops_percent": 100 * row["flops_fraction"],
            "bytes_percent": 100 * row["bytes_fraction"],
            "mebibytes": row["memory_bytes"] and round(row["memory_bytes"] / 2**20),
        }
        for row in rows
    ]  # fmt: skip
    columns = [
        Column("label", "Kernel"), Column("n", "N", "count"), Column("total_width", "D", "count"),
        Column("encoders", "E", "count"), Column("k", "k", "count"),
        Column("seconds", "Seconds", "score"), Column("compile_seconds", "Compile, s", "score"),
        Column("passes", "Passes", "count"), Column("gflops", "GF/s", "score"),
        Column("flops_percent", "% of product", "score"), Column("gbytes", "GB/s", "score"),
        Column("bytes_percent", "% of copy", "score"), Column("mebibytes", "MiB", "count"),
        *(Column(key, key, "score", shown=False) for key in ("flops", "bytes", "intensity")),
    ]  # fmt: skip
    caption = (
        "Median of repeats after a warm-up, one call where it takes seconds; MiB are arguments, "
        "results and temporaries of the compiled program."
    )
    return Table("", caption, columns, shown, "sizes.csv")


def _forward(result: dict) -> Table:
    keys = ("compile_seconds", "images_per_second", "timm_images_per_second", "ratio", "difference")
    rows = [dict.fromkeys(keys) | row for row in result["forward"]]
    columns = [
        Column("encoder", "Encoder"), Column("compile_seconds", "Compile, s", "score"),
        Column("images_per_second", "Images/s", "score"),
        Column("timm_images_per_second", "timm, images/s", "score"),
        Column("ratio", "Ours / timm", "ratio"),
    ]  # fmt: skip
    caption = (
        f"Random weights, {result['dtype']}, batches of {result['batch_size']}; turn by turn with "
        "timm's network of the same weights where it is installed."
    )
    return Table("", caption, columns, rows, "forward.csv")


def _domain_stages(result: dict) -> Table:
    columns = [
        Column("stage", "Stage"), Column("rows", "Images a domain", "count"),
        Column("first_seconds", "First run, s", "score"),
        Column("seconds", "Again, s", "score"),
    ]  # fmt: skip
    caption = (
        "Eight domains of random features of the paper's shared panel; the first run compiles."
    )
    return Table("", caption, columns, result["domain_stages"], "domain_stages.csv")


def _reading(result: dict) -> Iterator[page.Block]:
    yield Prose([
        "Flops are those that the result needs: one half of a symmetric product, no matter how "
        "many the program does. Bytes are every input once and every result once, and in a stream "
        "the carried sums once a batch. Both are counted by formula, not measured.",
        "A share of the ceilings is therefore a lower bound of how busy the machine was, and can "
        "be compared between implementations of the same kernel, not between kernels.",
        "Compilation happens once for each shape and is not part of the times.",
        "Of a library that compares pair by pair and would take too long, some encoders are timed "
        "and the time is multiplied by the ratio of its flops; such times say so.",
    ], points=True)  # fmt: skip
    skipped = [
        f"{step['label']}, {step['size']}: {step['estimated_seconds']:.0f} s estimated."
        for step in result["skipped"]
    ]
    if skipped:
        yield Prose(skipped, title="Left out for want of time", points=True)
    if result["notes"]:
        yield Prose(result["notes"], title="Notes of this run", points=True)
