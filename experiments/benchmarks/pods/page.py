"""The report of programs compiled for pods: what fits, what is gathered, and what bounds the time.

`pods_page` turns the result of experiments.pods into a `Page`.

Not guaranteed: a time. Least seconds follow from published rates and counted flops and bytes; a
program may take many times as long.
"""

from substrate_jax.report import page
from substrate_jax.report.page import Column, Page, Prose, Section, Table
from substrate_jax.report.text import counted

from .results import PodsResult
from .tables import bound, seconds, size

CAVEATS = (
    "Nothing was run. The compiler's statements about memory and collectives are exact for these "
    "versions; the least seconds are bounds from published rates, not measurements.",
    "Flops are those of matrix products and convolutions, loops multiplied out. A product of "
    "float32 at full precision takes six passes of bfloat16, which the bound by arithmetic counts. "
    "Sorting, decompositions and elementwise work are not counted.",
    "The bound by memory reads arguments and writes results once. The bound by links takes every "
    "collective at half of the chip's two-way rate; a transfer to one neighbor uses one of its "
    "links, and takes longer.",
    "A loop whose steps XLA does not know, such as an iteration until convergence, counts as one "
    "step.",
)


def pods_page(result: PodsResult) -> Page:
    """The page of one run."""
    failed = [row for row in result.programs if row.error]
    fits = len(result.programs) - len(failed)
    lede = (
        f"{fits} of {counted(len(result.programs), 'program')} compiled for "
        f"{', '.join(result.pods)} at n = {result.rows:,} images, "
        f"{sum(result.widths.values()):,} features of {counted(len(result.widths), 'encoder')} and "
        f"{counted(max(result.batch.values()), 'image')} on each device at once, in "
        f"{result.dtype}."
    )
    if failed:
        named = "; ".join(f"{row.program} on {row.topology} {row.error}" for row in failed)
        lede += f" Refused: {named}."
    sections = [
        Section("Memory and least time of every program", [_programs(result)]),
        Section("Collectives", [_collectives(result)]),
        Section("The pods", [_pods(result)]),
        Section("What these numbers can and cannot show", [Prose(CAVEATS, points=True)]),
        Section("How this was made", page.provenance(result.run)),
    ]
    return Page("Does it fit a pod?", lede, _tiles(result), sections)


def _tiles(result: PodsResult) -> list[tuple[str, str, str]]:
    tiles = []
    done = [row for row in result.programs if row.memory_share is not None]
    if done:
        most = max(done, key=lambda row: row.memory_share or 0)
        where = f"{most.program}, {most.topology}"
        tiles.append((f"{most.memory_share:.0%}", "of a device's HBM, at most", where))
        sent = max(done, key=lambda row: row.collective_bytes or 0)
        where = f"{sent.program}, {sent.topology}"
        tiles.append((size(sent.collective_bytes), "received by a device, at most", where))
        slow = max(done, key=lambda row: row.compile_seconds or 0)
        where = f"{slow.program}, {slow.topology}"
        tiles.append((seconds(slow.compile_seconds), "to compile, at most", where))
    return tiles


def _programs(result: PodsResult) -> Table:
    rows = [
        vars(row)
        | {
            "arguments": size(row.argument_bytes),
            "temporaries": size(row.temporary_bytes),
            "share": None if row.memory_share is None else f"{row.memory_share:.1%}",
            "gigaflops": f"{row.flops / 1e9:,.1f}",
            "compiled": seconds(row.compile_seconds),
            "sent": size(row.collective_bytes),
            "least": seconds(row.least_seconds),
            "least_seconds": row.least_seconds,
            "bound": bound(row),
        }
        for row in result.programs
    ]
    hidden = (
        *("lower_seconds", "compile_seconds"),
        *("argument_bytes", "temporary_bytes", "output_bytes", "memory_share", "flops"),
        *("unit_flops", "accessed_bytes", "collective_bytes", "least_seconds", "compute_seconds"),
        *("memory_seconds", "link_seconds"),
    )
    columns = [
        Column("program", "Program"),
        Column("topology", "Pod"),
        Column("compiled", "Compiled in"),
        Column("arguments", "Arguments"),
        Column("temporaries", "Temporaries"),
        Column("share", "Of HBM"),
        Column("gigaflops", "Gflop"),
        Column("sent", "Received"),
        Column("least", "Least time"),
        Column("bound", "Bound by"),
        *(Column(key, key, "score", shown=False) for key in hidden),
    ]
    caption = (
        "Of one device. Received are the bytes of all collectives; the least time is by the "
        "published rates of the chip, and what bounds it is the slowest of arithmetic, memory and "
        "links."
    )
    return Table("", caption, columns, rows, "programs.csv")


def _collectives(result: PodsResult) -> Table:
    rows = [
        {"program": row.program, "topology": row.topology}
        | vars(one)
        | {"each": size(one.bytes), "all": size(one.count * one.bytes)}
        for row in result.programs
        for one in row.collectives
    ]
    columns = [
        Column("program", "Program"),
        Column("topology", "Pod"),
        Column("kind", "Collective"),
        Column("shape", "Largest array"),
        Column("count", "Times", "count"),
        Column("each", "Received in one"),
        Column("all", "In all"),
        Column("bytes", "bytes", "score", shown=False),
    ]
    caption = "By kind and size, the most bytes first."
    return Table(
        "Collectives of every program", caption, columns, rows, "collectives.csv", folded=True
    )


def _pods(result: PodsResult) -> Table:
    rows = [
        {"topology": name}
        | vars(pod)
        | {
            "teraflops": f"{pod.flops / 1e12:,.0f}",
            "memory": size(pod.memory_bytes),
            "rate": f"{pod.memory_rate / 1e9:,.0f}",
            "links": f"{pod.link_rate / 1e9:,.0f}",
        }
        for name, pod in result.pods.items()
    ]
    columns = [
        Column("topology", "Pod"),
        Column("chip", "Chip"),
        Column("chips", "Chips", "count"),
        Column("devices", "Devices", "count"),
        Column("mesh", "Mesh"),
        Column("teraflops", "bfloat16, Tflop/s"),
        Column("memory", "HBM"),
        Column("rate", "HBM, GB/s"),
        Column("links", "Links, GB/s"),
        Column("source", "Published at"),
    ]
    caption = f"Of one device, as published; libtpu {result.libtpu} describes and compiles for it."
    return Table("", caption, columns, rows, "pods.csv")
