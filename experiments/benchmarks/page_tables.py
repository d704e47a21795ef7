"""The tables of a benchmark's report."""

from collections.abc import Iterator, Sequence

from substrate_jax.report import page
from substrate_jax.report.page import Column, Facts, Prose, Table
from substrate_jax.report.text import counted

from . import score_times, startup_worker
from .results import BenchResult, KernelTime

GIGA = 1e9


def peer_blocks(result: BenchResult) -> Iterator[page.Block]:
    """Our times beside those of other libraries, and what differs by design."""
    rows = []
    for row in result.rows:
        for peer in row.peers:
            state = peer.extrapolated_from
            rows.append(
                {
                    "label": row.label,
                    "n": row.n,
                    "width": row.total_width,
                    "peer": peer.name,
                    "version": peer.version,
                    "ours": row.seconds,
                    "theirs": peer.seconds,
                    "ratio": peer.ratio,
                    "quantity": peer.quantity,
                    "difference": peer.difference,
                    "shown": None if peer.difference is None else f"{peer.difference:.1e}",
                    "our_sine": peer.our_sine,
                    "sine": peer.sine,
                    "remark": f"time extrapolated from {state}" if state else peer.skipped,
                }
            )
    columns = [
        Column("label", "Kernel"),
        Column("n", "N", "count"),
        Column("width", "D", "count", shown=False),
        Column("peer", "Library"),
        Column("version", "Version", shown=False),
        Column("ours", "Ours, s", "score"),
        Column("theirs", "Theirs, s", "score"),
        Column("ratio", "Theirs / ours", "ratio"),
        Column("quantity", "Compared"),
        Column("shown", "Largest difference"),
        Column("difference", "Largest difference", "score", shown=False),
        Column("our_sine", "Sine of ours", "p"),
        Column("sine", "of theirs", "p"),
        Column("remark", "Remark"),
    ]
    caption = (
        f"Identical inputs and {counted(result.threads, 'thread')} on both sides. A ratio above "
        "1 says that ours is faster. The difference is the largest over all pairs of encoders or "
        "components. The sine is the largest between the components and exact ones in float64, "
        "where those were affordable."
    )
    if rows:
        yield Table("", caption, columns, rows, "peers.csv")
    found = [peer for row in result.rows for peer in row.peers]
    remarks = {peer.name: peer.note for peer in found if peer.note}
    if remarks:
        points = [f"{name}: {note}." for name, note in remarks.items()]
        yield Prose(points, title="What differs by design", points=True)
    yield Facts(result.peers, title="Versions of the libraries")


def ratio_table(result: BenchResult) -> Table:
    """Times of one kernel over those of another."""
    columns = [
        Column("label", "Kernel"),
        Column("base", "Against"),
        Column("n", "N", "count"),
        Column("total_width", "D", "count"),
        Column("ratio", "Time of the first / second", "ratio"),
    ]
    caption = (
        "Times at the same size: of the two spaces in which CKA can be computed, and of what "
        "calibration and a stream of batches cost beside one pass."
    )
    return Table("", caption, columns, [vars(each) for each in result.ratios], "ratios.csv")


def size_table(rows: Sequence[KernelTime]) -> Table:
    """Every kernel at every size."""
    shown = [
        vars(row)
        | {
            "gflops": row.flops_per_second / GIGA,
            "gbytes": row.bytes_per_second / GIGA,
            "flops_percent": 100 * row.flops_fraction,
            "bytes_percent": 100 * row.bytes_fraction,
            "mebibytes": row.memory_bytes and round(row.memory_bytes / 2**20),
        }
        for row in rows
    ]
    columns = [
        Column("label", "Kernel"),
        Column("n", "N", "count"),
        Column("total_width", "D", "count"),
        Column("encoders", "E", "count"),
        Column("k", "k", "count"),
        Column("seconds", "Seconds", "score"),
        Column("compile_seconds", "Compile, s", "score"),
        Column("passes", "Passes", "count"),
        Column("gflops", "GF/s", "score"),
        Column("flops_percent", "% of product", "score"),
        Column("gbytes", "GB/s", "score"),
        Column("bytes_percent", "% of copy", "score"),
        Column("mebibytes", "MiB", "count"),
        *(Column(key, key, "score", shown=False) for key in ("flops", "bytes", "intensity")),
    ]
    caption = (
        "Median of repeats after a warm-up, one call where it takes seconds; MiB are arguments, "
        "results and temporaries of the compiled program."
    )
    return Table("", caption, columns, shown, "sizes.csv")


def forward_table(result: BenchResult) -> Table:
    """Images per second of the encoders."""
    rows = [vars(row) for row in result.forward]
    columns = [
        Column("encoder", "Encoder"),
        Column("compile_seconds", "Compile, s", "score"),
        Column("images_per_second", "Images/s", "score"),
        Column("timm_images_per_second", "timm, images/s", "score"),
        Column("ratio", "Ours / timm", "ratio"),
    ]
    caption = (
        f"Random weights, {result.dtype}, batches of {result.batch_size}; turn by turn with "
        "timm's network of the same weights where it is installed."
    )
    return Table("", caption, columns, rows, "forward.csv")


def stage_table(result: BenchResult) -> Table:
    """Stages of the analysis of domains."""
    columns = [
        Column("stage", "Stage"),
        Column("rows", "Images per domain", "count"),
        Column("first_seconds", "First run, s", "score"),
        Column("seconds", "Again, s", "score"),
    ]
    caption = (
        "Eight domains of random features of the paper's shared panel; the first run compiles."
    )
    return Table(
        "", caption, columns, [vars(each) for each in result.domain_stages], "domain_stages.csv"
    )


def score_table(result: BenchResult) -> Table:
    """Scores of transferability, beside the published LogME where that was timed."""
    published = {
        (row.rows, row.width): row.seconds
        for row in result.score_times
        if row.score == score_times.PUBLISHED
    }
    rows = []
    for row in result.score_times:
        theirs = published.get((row.rows, row.width))
        ratio = None if theirs is None else theirs / row.seconds
        rows.append(vars(row) | {"ratio": ratio})
    columns = [
        Column("score", "Score"),
        Column("rows", "N", "count"),
        Column("width", "D", "count"),
        Column("classes", "Classes", "count", shown=False),
        Column("first_seconds", "First call, s", "score"),
        Column("seconds", "Again, s", "score"),
        Column("ratio", "Published LogME / this", "ratio"),
    ]
    caption = (
        "Seconds per encoder, each score alone: what several share, such as the principal "
        "coordinates, is part of the time of each. The first call compiles."
    )
    return Table("", caption, columns, rows, "scores.csv")


def start_table(result: BenchResult) -> Table:
    """Where the seconds of launchers go, from nothing and again."""
    parts = ("importing", "tracing", "lowering", "compiling", "drawing", "running")
    rows = [
        {
            "launcher": row.launcher,
            "run": "again" if row.again else "cold",
            "seconds": row.seconds,
            "programs": row.programs,
            "gib": row.peak_memory_bytes / 2**30,
        }
        | {part: getattr(row, part) for part in parts}
        for row in result.starts
    ]
    columns = [
        Column("launcher", "Launcher"),
        Column("run", "Run"),
        Column("seconds", "Seconds", "score"),
        *(Column(part, part.capitalize(), "score") for part in parts),
        Column("programs", "Programs", "count"),
        Column("gib", "GiB", "score"),
    ]
    caption = (
        "Each launcher by its name alone, in a process of its own: with an empty folder for "
        "compiled programs, then with what that run left. Compiling is XLA's, or reading what was "
        "kept; threads that compile at once count each, so parts can add up to more than the "
        "whole. Running is what no other part is."
    )
    return Table("Launchers", caption, columns, rows, "startup.csv")


def call_table(result: BenchResult) -> Table:
    """The first and the second call of each kernel."""
    columns = [
        Column("kernel", "Kernel"),
        Column("seconds", "First call, s", "score"),
        Column("programs", "Programs", "count"),
        Column("milliseconds_again", "Again, ms", "score"),
        Column("programs_again", "Programs again", "count"),
    ]
    caption = (
        f"Called outside jax.jit on {startup_worker.ROWS} rows of "
        f"{len(startup_worker.WIDTHS)} encoders, one after the other in one process."
    )
    rows = [
        vars(row) | {"milliseconds_again": 1e3 * row.seconds_again} for row in result.first_calls
    ]
    return Table("Kernels", caption, columns, rows, "first_calls.csv")
