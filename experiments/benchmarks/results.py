"""What a benchmark finds: typed results, fields named as in result.json."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from substrate_jax.report.run import Run
from substrate_jax.report.values import INLINE


@dataclasses.dataclass(frozen=True)
class Rates:
    """What a machine or a program reaches.

    Attributes:
        flops_per_second: of a float32 matrix product.
        bytes_per_second: of a copy, read and written.
    """

    flops_per_second: float
    bytes_per_second: float


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """The machine's ceilings in this run.

    Attributes:
        measured: when ("before", "middle", "after") -> rates.
        best: the largest of each.
        drift: share by which the least of each is below the largest, in [0, 1].
    """

    measured: Mapping[str, Rates]
    best: Rates
    drift: Rates


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeerTime:
    """Another library at one size.

    Attributes:
        name: of its function.
        package: it is part of.
        version: installed; None where it is not.
        quantity: what is compared with ours.
        note: what it does otherwise by design.
        skipped: why it was not timed; None where it was, and then all that follows is there but
            for what says otherwise.
        seconds: of a call.
        encoders: it was timed with.
        extrapolated_from: "2 of 14 encoders", where the time is multiplied up.
        difference: largest, of its result from ours.
        sine: largest between its components and exact ones, where they were computed.
        our_sine: of ours.
        ratio: its seconds over ours.
    """

    name: str
    package: str
    version: str | None
    quantity: str
    note: str
    skipped: str | None = None
    seconds: float | None = None
    encoders: int | None = None
    extrapolated_from: str | None = None
    difference: float | None = None
    sine: float | None = None
    our_sine: float | None = None
    ratio: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class KernelTime:
    """A kernel at one size.

    Attributes:
        benchmark: name of the kernel.
        variant: of it, such as a space.
        label: both, for tables.
        axes: ladders that the size is on, of "N", "D" and "E".
        n: rows.
        widths: of the encoders.
        total_width: their sum D.
        encoders: their number E.
        k: components or neighbors; None where there are none.
        passes: over the rows.
        seconds: median of a call.
        repeats: calls timed.
        compile_seconds: tracing and compilation, apart from it.
        flops: that the result needs.
        bytes: that it cannot avoid.
        intensity: flops per byte.
        flops_per_second: needed flops over seconds.
        bytes_per_second: likewise.
        flops_fraction: of the machine's best matrix product.
        bytes_fraction: of its best copy.
        memory_bytes: of arguments, results and temporaries; None where XLA does not say.
        peers: other libraries at this size.
    """

    benchmark: str
    variant: str
    label: str
    axes: Sequence[str]
    n: int
    widths: Sequence[int]
    total_width: int
    encoders: int
    k: int | None
    passes: float
    seconds: float
    repeats: int
    compile_seconds: float
    flops: float
    bytes: float
    intensity: float
    flops_per_second: float
    bytes_per_second: float
    flops_fraction: float = math.nan
    bytes_fraction: float = math.nan
    memory_bytes: int | None
    peers: Sequence[PeerTime]


@dataclasses.dataclass(frozen=True)
class Growth:
    """How a time grows along a ladder.

    Attributes:
        label: of the kernel.
        method: ours or the peer's name.
        axis: "N", "D" or "E".
        points: sizes.
        seconds: least-squares slope of log seconds against log size.
        flops: that of the counted flops; None for peers.
    """

    label: str
    method: str
    axis: str
    points: int
    seconds: float
    flops: float | None


@dataclasses.dataclass(frozen=True)
class TimeRatio:
    """Seconds of one kernel over those of another at the same size."""

    label: str
    base: str
    n: int
    total_width: int
    ratio: float


@dataclasses.dataclass(frozen=True)
class SpaceChoice:
    """The space that CKA's cost model takes, and its seconds over the faster space's."""

    n: int
    total_width: int
    space: str
    loss: float


@dataclasses.dataclass(frozen=True)
class SkippedStep:
    """A step that was left out, and the seconds it would have taken."""

    label: str
    size: str
    estimated_seconds: float


@dataclasses.dataclass(frozen=True)
class ForwardRate:
    """Images per second of an encoder.

    Attributes:
        encoder: its name.
        compile_seconds: of its forward pass.
        images_per_second: ours.
        timm_images_per_second: timm's network of the same weights; None without timm, as the rest.
        ratio: ours over timm's.
        difference: of the features, relative.
    """

    encoder: str
    compile_seconds: float
    images_per_second: float
    timm_images_per_second: float | None = None
    ratio: float | None = None
    difference: float | None = None


@dataclasses.dataclass(frozen=True)
class StageTime:
    """A stage of the analysis of domains.

    Attributes:
        stage: its name.
        first_seconds: with compilation.
        seconds: of a second run.
        rows: images per domain.
    """

    stage: str
    first_seconds: float
    seconds: float
    rows: int


@dataclasses.dataclass(frozen=True)
class ScoreTime:
    """A score of transferability at one size.

    Attributes:
        score: its name in print, or that of a peer.
        rows: labeled images.
        width: features of the encoder.
        classes: of the labels.
        first_seconds: per encoder, with compilation.
        seconds: per encoder, median of further calls.
    """

    score: str
    rows: int
    width: int
    classes: int
    first_seconds: float
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class LauncherStart:
    """A launcher by its name alone, from nothing or again.

    Attributes:
        launcher: its name.
        again: whether programs and features of a run before were there.
        seconds: of its process.
        importing: of them, by Python's -X importtime.
        tracing: functions to jaxprs.
        lowering: jaxprs to StableHLO.
        compiling: by XLA, or reading what was kept.
        programs: that were compiled or read.
        drawing: figures and the page.
        peak_memory_bytes: of its process.
    """

    launcher: str
    again: bool
    seconds: float
    importing: float
    tracing: float
    lowering: float
    compiling: float
    programs: int
    drawing: float
    peak_memory_bytes: int

    @property
    def running(self) -> float:
        """Seconds of everything else."""
        named = self.importing + self.tracing + self.lowering + self.compiling + self.drawing
        return max(self.seconds - named, 0.0)


@dataclasses.dataclass(frozen=True)
class FirstCall:
    """A kernel called outside jax.jit, on a few rows.

    Attributes:
        kernel: its name.
        seconds: of the first call.
        seconds_again: of the second.
        programs: compiled by the first.
        programs_again: by the second.
    """

    kernel: str
    seconds: float
    seconds_again: float
    programs: int
    programs_again: int


@dataclasses.dataclass(frozen=True)
class Torch:
    """Versions of the forward passes' peer, and where it ran."""

    torch: str
    timm: str
    torch_device: str
    torch_threads: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchResult:
    """Everything that experiments.bench finds.

    Attributes:
        run: how it was made.
        what: kernels asked for.
        ceilings: of the machine.
        rows: a time per kernel and size.
        growth: along the ladders.
        ratios: of kernels to each other.
        skipped: what did not fit the budget.
        peers: package -> version, or why it is not there.
        threads: processors used.
        forward: encoders timed.
        domain_stages: stages of the analysis of domains.
        score_times: scores of transferability timed.
        starts: of launchers.
        first_calls: of kernels.
        peak_memory_bytes: of the process, peers included.
        batch_size: of the forward passes; None without.
        dtype: of the forward passes; None without.
        torch: their peer; None without.
    """

    run: Run = dataclasses.field(metadata=INLINE)
    what: Sequence[str]
    ceilings: Ceilings
    rows: Sequence[KernelTime]
    growth: Sequence[Growth]
    ratios: Sequence[TimeRatio]
    skipped: Sequence[SkippedStep]
    peers: Mapping[str, str]
    threads: int
    forward: Sequence[ForwardRate]
    domain_stages: Sequence[StageTime]
    score_times: Sequence[ScoreTime]
    starts: Sequence[LauncherStart]
    first_calls: Sequence[FirstCall]
    peak_memory_bytes: int
    batch_size: int | None = None
    dtype: str | None = None
    torch: Torch | None = dataclasses.field(default=None, metadata=INLINE)
