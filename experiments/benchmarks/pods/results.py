"""What compiling for pods finds: typed results, fields named as in result.json."""

import dataclasses
from collections.abc import Mapping, Sequence

from substrate_jax.report.run import Run
from substrate_jax.report.values import INLINE

from .reading import Collective


@dataclasses.dataclass(frozen=True)
class PodFacts:
    """A pod, as published.

    Attributes:
        chip: its name.
        chips: how many.
        devices: that jax sees.
        mesh: of the devices.
        flops: bfloat16, per second and device; as are those below.
        memory_bytes: HBM.
        memory_rate: bytes per second of HBM.
        link_rate: bytes per second between chips, both ways together.
        source: of the numbers.
    """

    chip: str
    chips: int
    devices: int
    mesh: str
    flops: float
    memory_bytes: float
    memory_rate: float
    link_rate: float
    source: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompiledProgram:
    """A program compiled for a pod; all numbers are of one device.

    Attributes:
        topology: of the pod.
        program: its name.
        group: what it is part of.
        gathers: whether every device is meant to hold all rows.
        lower_seconds: of tracing and lowering.
        compile_seconds: of XLA; None where it refused.
        error: what XLA said then.
        argument_bytes: in HBM; None where it refused, as all below.
        temporary_bytes: likewise.
        output_bytes: likewise, but for what takes the place of arguments.
        memory_share: of the three, of HBM.
        flops: of matrix products and convolutions.
        dtypes: of their operands, and the flops of each.
        unit_flops: the same, times the passes of bfloat16 that float32 takes.
        accessed_bytes: of memory, as XLA counts them: a loop's body once.
        collectives: of each kind and size.
        collective_bytes: received in all of them.
        compute_seconds: least, by the chip's published rates, as the next two.
        memory_seconds: arguments and results once.
        link_seconds: of the collectives.
    """

    topology: str
    program: str
    group: str
    gathers: bool
    lower_seconds: float
    compile_seconds: float | None = None
    error: str | None = None
    argument_bytes: float | None = None
    temporary_bytes: float | None = None
    output_bytes: float | None = None
    memory_share: float | None = None
    flops: float
    dtypes: Mapping[str, float]
    unit_flops: float
    accessed_bytes: float | None = None
    collectives: Sequence[Collective] = dataclasses.field(default_factory=list)
    collective_bytes: float | None = None
    compute_seconds: float
    memory_seconds: float | None = None
    link_seconds: float | None = None

    @property
    def bounds(self) -> dict[str, float]:
        """Least seconds by what they are spent on."""
        found = {
            "arithmetic": self.compute_seconds,
            "memory": self.memory_seconds,
            "links": self.link_seconds,
        }
        return {name: seconds for name, seconds in found.items() if seconds is not None}

    @property
    def least_seconds(self) -> float:
        """The most of the bounds: a call takes no less."""
        return max(self.bounds.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class PodsResult:
    """Everything that experiments.pods finds.

    Attributes:
        run: how it was made.
        libtpu: its version.
        rows: images of a comparison.
        widths: of the encoders' features.
        batch: topology -> images on each device at once.
        dtype: of the networks.
        pods: topology -> facts.
        programs: one for each program and topology.
    """

    run: Run = dataclasses.field(metadata=INLINE)
    libtpu: str
    rows: int
    widths: Mapping[str, int]
    batch: Mapping[str, int]
    dtype: str
    pods: Mapping[str, PodFacts]
    programs: Sequence[CompiledProgram]
