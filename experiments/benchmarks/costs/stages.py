"""Seconds of the stages of experiments.cka, from the work of the very programs that it will run.

    extract   n images decoded and resized, and the forward passes of all encoders, batch by batch
    analyse   the comparison of every domain with its closed-form null, more measures, PCKA
    nulls     what permutations add to the comparison
    report    a heat map of all pairs, drawn as often as the page has figures

Work is counted by `tally`, rates are those of a `machine.Machine`. Decoding is timed on the first
images, a figure is drawn once. Nothing is fitted.

Not counted: compiling, which is kept from run to run; reading weights; what is fetched; the store.
"""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from substrate_jax.mesh import DATA_AXIS

from ..pods.programs import PROGRAMS, Setting, forward
from .machine import Machine
from .tally import Tally, tally

STAGES = ("extract", "analyse", "nulls", "report")


@dataclasses.dataclass(frozen=True)
class Term:
    """A part of a stage.

    Attributes:
        stage: one of `STAGES`.
        what: is done.
        seconds: what they are spent on -> how many.
    """

    stage: str
    what: str
    seconds: Mapping[str, float]

    @property
    def total(self) -> float:
        """Seconds of all, one after the other."""
        return sum(self.seconds.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What decides the cost of a run of experiments.cka.

    Attributes:
        rows: domain -> images.
        widths: of the features of all encoders.
        batch: images at once over all devices.
        chunk: rows of a chunk of the store.
        ks: neighbors.
        components: of the substrate.
        permutations: of the null; None for the closed form.
        alpha: level.
        measures: more of them.
        draws: resamples of their intervals.
        shuffles: permutations of their chance.
        splits: of the units, for their ceilings.
        dtype: of the networks.
    """

    rows: Mapping[str, int]
    widths: Sequence[int]
    batch: int
    chunk: int
    ks: tuple[int, ...] = (10, 30, 100)
    components: int = 16
    permutations: int | None = None
    alpha: float = 0.05
    measures: Sequence[str] = ()
    draws: int = 0
    shuffles: int = 0
    splits: int = 0
    dtype: str = "float32"

    def setting(self, mesh, n: int) -> Setting:
        """Shapes of the arguments of programs on n images."""
        devices = mesh.shape[DATA_AXIS]
        batch = math.ceil(min(self.batch, self.chunk, n) / devices)
        return Setting(
            mesh,
            n,
            tuple(self.widths),
            batch,
            self.dtype,
            min(self.components, n - 1),
            len(self.rows),
        )


def extraction(machine: Machine, mesh, run: Run, specs: Sequence[Any]) -> list[Term]:
    """Forward passes of the encoders on all images."""
    terms = []
    for spec in specs:
        seconds: dict[str, float] = {}
        known: dict[int, dict[str, float]] = {}  # images at once on a device -> of a batch
        for n in run.rows.values():
            setting = run.setting(mesh, n)
            if setting.batch not in known:
                function, arguments = forward(spec, setting)
                work = _work(machine, setting, function, *arguments)
                known[setting.batch] = machine.seconds(work)
            at_once = setting.batch * (setting.devices // jax.process_count())
            chunks = math.ceil(math.ceil(n / run.chunk) / jax.process_count())
            batches = chunks * math.ceil(min(run.chunk, n) / at_once)
            for name, value in known[setting.batch].items():
                seconds[name] = seconds.get(name, 0.0) + value * batches
        terms.append(Term("extract", spec.name, seconds))
    return terms


def decoding(run: Run, specs: Sequence[Any], sources: Mapping[str, Any]) -> list[Term]:
    """The first images of every domain are decoded and resized, for all encoders at once."""
    from substrate_jax.features.pixels import Batch, decode_ahead

    resizes = tuple({spec.preprocess.pixels: spec.preprocess for spec in specs}.values())
    terms = []
    for name, source in sources.items():
        some = min(len(source), run.batch)
        start = time.perf_counter()
        for _ in decode_ahead([Batch(0, 0, some, resizes)], source, some):
            pass
        seconds = (time.perf_counter() - start) / some * run.rows[name] / jax.process_count()
        terms.append(Term("extract", f"{name} decoded", {"decoding": seconds}))
    return terms


def analysis(machine: Machine, mesh, run: Run) -> list[Term]:
    """All pairs on every domain, and the substrates of all domains."""
    from substrate_jax.analyses.cka.compare import comparison_program
    from substrate_jax.analyses.cka.measured import measure_program
    from substrate_jax.kernels.nulls.calibration import choose_skewness

    terms: list[Term] = []
    key = jax.eval_shape(lambda: jax.random.key(0))
    known: dict[int, list[Term]] = {}
    for n in run.rows.values():
        setting = run.setting(mesh, n)
        arguments = (setting.blocks(), setting.mask(), key)

        def count(stage: str, what: str, program, arguments=arguments, setting=setting) -> Term:
            work = _work(machine, setting, program, *arguments)
            return Term(stage, what, machine.seconds(work))

        if n not in known:
            options = run.permutations or 1, run.alpha
            exact = choose_skewness("auto", setting.blocks()) == "exact"
            closed = comparison_program(mesh, run.ks, "closed_form", *options, exact)
            of_n = [count("analyse", "comparison", closed)]
            for name in run.measures:
                program = measure_program(
                    mesh, name, run.draws, 0.95, run.shuffles, run.alpha, run.splits
                )
                of_n.append(count("analyse", name, program))
            if run.permutations:
                drawn = count(
                    "nulls",
                    f"{run.permutations} permutations",
                    comparison_program(mesh, run.ks, "permutation", *options, False),
                )
                closed_seconds = of_n[0].seconds
                more = {
                    name: max(0.0, value - closed_seconds.get(name, 0.0))
                    for name, value in drawn.seconds.items()
                }
                of_n.append(dataclasses.replace(drawn, seconds=more))
            of_n.append(of_table("substrate", machine, setting))
            known[n] = of_n
        terms += known[n]
    if len(run.rows) > 1:
        terms.append(of_table("pcka", machine, run.setting(mesh, max(run.rows.values()))))
    return terms


def _work(machine: Machine, setting: Setting, function, *arguments) -> Tally:
    return tally(function, *arguments, devices=setting.devices, platform=machine.platform)


def of_table(name: str, machine: Machine, setting: Setting) -> Term:
    """A program of the table of all."""
    function, arguments = PROGRAMS[name].make(setting)
    work = _work(machine, setting, function, *arguments)
    return Term("analyse", name, machine.seconds(work))


def drawing(run: Run) -> list[Term]:
    """A heat map of all pairs, drawn here once, times the figures of the page."""
    from substrate_jax.report.drawing import png
    from substrate_jax.report.heatmaps import grid

    names = [str(number) for number in range(len(run.widths))]
    seconds = math.inf
    for _ in range(2):  # the first loads what draws
        start = time.perf_counter()
        png(grid(np.eye(len(names)), names, names, quantity=""))
        seconds = min(seconds, time.perf_counter() - start)
    # Of each domain: CKA, debiased CKA, its score, and recall and score of each k.
    figures = len(run.rows) * (3 + 2 * len(run.ks) + len(run.measures)) + 2
    return [Term("report", f"{figures} figures", {"drawing": seconds * figures})]


def estimate(
    machine: Machine, mesh, run: Run, specs: Sequence[Any], sources: Mapping[str, Any]
) -> list[Term]:
    """Everything that a run will do.

    Args:
        machine: its rates.
        mesh: of the devices.
        run: what decides its cost.
        specs: records of the encoders that run.
        sources: domain -> images, of domains that are at hand.
    """
    terms = extraction(machine, mesh, run, specs)
    if specs:
        terms += decoding(run, specs, sources)
    return terms + analysis(machine, mesh, run) + drawing(run)


def by_stage(terms: Sequence[Term]) -> dict[str, float]:
    """Stage -> seconds.

    Example:
        >>> by_stage([Term("extract", "a", {"products": 1.0}), Term("extract", "b", {"links": 2})])
        {'extract': 3.0}
    """
    found: dict[str, float] = {}
    for term in terms:
        found[term.stage] = found.get(term.stage, 0.0) + term.total
    return {stage: found[stage] for stage in STAGES if stage in found}


def text(terms: Sequence[Term], machine: Machine) -> str:
    """The estimate for a terminal: a line for each stage and what it is spent on."""
    lines = [f"estimate for {machine.title}; compiling, weights and downloads are not counted:"]
    for stage, seconds in by_stage(terms).items():
        parts: dict[str, float] = {}
        for term in terms:
            if term.stage == stage:
                for name, value in term.seconds.items():
                    parts[name] = parts.get(name, 0.0) + value
        order = sorted(parts.items(), key=lambda part: -part[1])
        spent = ", ".join(f"{name} {value:.2g} s" for name, value in order)
        lines.append(f"  {stage:8s} {seconds:10.1f} s   {spent}")
    lines.append(f"  {'total':8s} {sum(term.total for term in terms):10.1f} s")
    return "\n".join(lines)
