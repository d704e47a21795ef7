"""Results as text for a terminal, narrower than 100 columns."""

from collections.abc import Sequence

from .results import (
    BenchResult,
    FirstCall,
    ForwardRate,
    Growth,
    KernelTime,
    LauncherStart,
    PeerTime,
    ScoreTime,
    StageTime,
)


def text(result: BenchResult) -> str:
    """Ceilings, a line for each size with its peers below it, growth, and what was left out."""
    best, drift = result.ceilings.best, result.ceilings.drift
    lines = [
        f"ceilings: matrix product {best.flops_per_second / 1e9:.0f} GF/s (drift "
        f"{drift.flops_per_second:.0%}), copy {best.bytes_per_second / 1e9:.1f} GB/s (drift "
        f"{drift.bytes_per_second:.0%}), {result.threads} threads"
    ]
    if result.rows:
        lines.append(
            f"{'case':28s} {'N':>6s} {'D':>6s} {'E':>2s} {'seconds':>8s} {'compile':>7s} "
            f"{'GF/s':>6s} {'':>4s} {'GB/s':>5s} {'':>4s} {'MiB':>6s}"
        )
        for row in result.rows:
            lines += [row_line(row), *(peer_line(peer) for peer in row.peers)]
    lines += growth_lines(result.growth)
    lines += [
        f"{row.label} takes {row.ratio:.2f} times as long as {row.base} at N={row.n:,} "
        f"D={row.total_width:,}"
        for row in result.ratios
    ]
    lines += [f"note: {note}" for note in result.run.notes]
    lines += [
        f"left out: {step.label} {step.size}, {step.estimated_seconds:.0f} s estimated"
        for step in result.skipped
    ]
    if result.rows:
        missing = [f"{name}: {state}" for name, state in result.peers.items() if "not" in state]
        lines += [f"peer {line}" for line in missing]
    lines.append(f"peak memory of the run: {result.peak_memory_bytes / 2**30:.1f} GiB")
    return "\n".join(lines)


def row_line(row: KernelTime) -> str:
    """Our time and rates at one size."""
    memory = "–" if row.memory_bytes is None else f"{row.memory_bytes / 2**20:.0f}"
    return (
        f"{row.label:28s} {row.n:6d} {row.total_width:6d} {row.encoders:2d} "
        f"{row.seconds:8.3g} {row.compile_seconds:7.2g} "
        f"{row.flops_per_second / 1e9:6.1f} {row.flops_fraction:4.0%} "
        f"{row.bytes_per_second / 1e9:5.2f} {row.bytes_fraction:4.0%} {memory:>6s}"
    )


def peer_line(peer: PeerTime) -> str:
    """A peer's time, how many times ours that is, and how far its result is from ours."""
    name = f"  {peer.name}" + (f" {peer.version}" if peer.version else "")
    if peer.seconds is None:
        return f"{name}: {peer.skipped}"
    line = (
        f"{name}: {peer.seconds:.3g} s, {peer.ratio:.1f}x, {peer.quantity} differs by "
        f"{peer.difference:.1e}"
    )
    if peer.sine is not None:
        line += f", largest sine to exact components {peer.our_sine:.1e} ours, {peer.sine:.1e}"
    if peer.extrapolated_from:
        line += f" (time extrapolated from {peer.extrapolated_from})"
    return line


def growth_lines(growth: Sequence[Growth]) -> list[str]:
    """Exponents, a line for each case and method."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in growth:
        exponent = f"{row.axis}^{row.seconds:.2f}"
        if row.flops is not None:
            exponent += f" (flops {row.flops:.2f})"
        found.setdefault((row.label, row.method), []).append(exponent)
    return [
        f"growth of {label}, {method}: {', '.join(parts)}"
        for (label, method), parts in found.items()
    ]


def domain_line(row: StageTime) -> str:
    """A stage of the analysis of domains as a line of text."""
    return (
        f"{row.stage:12s} 8 domains of {row.rows} images: first "
        f"{row.first_seconds:.1f} s, again {row.seconds:.1f} s"
    )


def score_line(row: ScoreTime) -> str:
    """A score of transferability at one size as a line of text."""
    return (
        f"{row.score:30s} N = {row.rows:6,d} D = {row.width:5,d}: first "
        f"{row.first_seconds:8.3f} s, again {row.seconds:8.3f} s per encoder"
    )


def start_line(row: LauncherStart) -> str:
    """A launcher's first seconds as a line of text."""
    return (
        f"{row.launcher:16s} {'again' if row.again else 'cold':5s} {row.seconds:6.1f} s: "
        f"importing {row.importing:4.1f}, tracing {row.tracing:5.1f}, lowering {row.lowering:5.1f},"
        f" compiling {row.compiling:6.1f} ({row.programs} programs), drawing {row.drawing:4.1f}, "
        f"the rest {row.running:6.1f}; {row.peak_memory_bytes / 2**30:.1f} GiB"
    )


def call_line(row: FirstCall) -> str:
    """The first calls of a kernel as a line of text."""
    return (
        f"{row.kernel:30s} first {row.seconds:6.2f} s, {row.programs:3d} programs; again "
        f"{1000 * row.seconds_again:8.1f} ms, {row.programs_again} programs"
    )


def forward_line(row: ForwardRate) -> str:
    """An encoder's images per second, and timm's."""
    line = (
        f"{row.encoder:18s} compile {row.compile_seconds:5.1f} s "
        f"{row.images_per_second:8.1f} images/s"
    )
    if row.ratio is not None:
        line += (
            f"   timm {row.timm_images_per_second:8.1f}   ratio {row.ratio:.2f}"
            f"   difference {row.difference:.1e}"
        )
    return line
