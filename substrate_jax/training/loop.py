"""One training loop: an optax optimizer on NNX modules, checkpointed with orbax, resumable.

Several runs go through one compiled step: other seeds, learning rates, weights of a loss's terms or
targets. They train one after another, or together, stacked along an axis that may be split over
devices. Step t draws its rows and its random key from t and the run's seed alone, so a run that is
killed and started again ends with the same bits as one that was not, and runs of one seed see the
same images, changed alike. Rows of a batch are split over the mesh's data axis and parameters
replicated; under jit every mean over the batch, those of batch normalization included, is then a
mean over all devices.

Cost: a step's own; data are put on the devices once where they fit.

Not guaranteed: that runs trained together have the bits of runs trained apart; sums of a batched
product are added in another order.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int
from tqdm import tqdm

from substrate_jax.mesh import make_mesh
from substrate_jax.progress import progress_bar
from substrate_jax.training.checkpoints import Saver
from substrate_jax.training.program import RUN_AXIS, Loss, ModuleType, Program, Rows, Run


@dataclasses.dataclass(frozen=True)
class Fitted(Generic[ModuleType]):
    """What came of a run.

    Attributes:
        module: trained, in evaluation mode.
        records: metrics per `save_every` steps (`step`, `loss` and the loss's own, averaged since
            the record before); after a resumed run only the records since.
        rows_per_second: rows of batches per second, of the steps of this process less the first;
            NaN of fewer than two. Of runs that train together: of all of them.
        memory: bytes of a device that a step takes, of all runs that train together; 0 where the
            backend does not say, and of a run that was done before.
    """

    module: ModuleType
    records: list[dict[str, float]]
    rows_per_second: float
    memory: int


def fit(
    runs: Sequence[Run[ModuleType]],
    loss: Loss[ModuleType],
    optimizer: optax.GradientTransformation,
    data: Mapping[str, Rows],
    rows_at: Callable[[Run[ModuleType], int], Int[np.ndarray, " b"]],
    *,
    steps: int,
    together: bool = False,
    checkpoints: Path | None = None,
    save_every: int = 200,
    mesh: jax.sharding.Mesh | None = None,
    dtype: Any = jnp.float32,
    watch: Callable[[int, int, ModuleType], None] | None = None,
    watch_at: Sequence[int] = (),
    finished: Callable[[int, Fitted[ModuleType]], None] | None = None,
    memory: int | None = None,
    progress: str | None = None,
) -> list[Fitted[ModuleType]]:
    """Minimize `loss` over the parameters of each run's module.

    Args:
        runs: one or more; modules and data of one shape.
        loss: `(module, batch, key) -> (scalar, metrics)`; may update running statistics.
        optimizer: an optax transformation.
        data: name -> [n, ...], equal numbers of rows.
        rows_at: run and step -> rows of its batch; must depend on these alone.
        steps: number of optimizer steps in all.
        together: train all runs in each step, rather than one run after the other.
        checkpoints: folder for resuming, with one in it for each run that has a name or is one of
            several that train apart; none are written without it.
        save_every: steps between checkpoints.
        mesh: where to run; all devices by default. An axis `runs` is for runs trained together.
        dtype: of the arithmetic; parameters and optimizer stay float32, and so does the loss.
        watch: called with a run's number, a step and the module in evaluation mode, after so many
            steps; after a resumed run only for the checkpoint's own step, which a kill may have cut
            short, and those since.
        watch_at: the steps to call it at, 0 for the untrained module.
        finished: called with a run's number and what came of it, as soon as it is done.
        memory: bytes of a device that a step may take; unlimited without it.
        progress: label of a progress bar; none without it.

    Returns:
        What came of each run, in order.

    Raises:
        ValueError: no runs, runs of different shapes, `steps` below 1 or below what `checkpoints`
            holds, a loss that is not finite, or a step that takes more memory than there is.
    """
    if not runs:
        raise ValueError("runs: give at least one")
    if steps < 1:
        raise ValueError(f"steps={steps}: train for at least one step")
    mesh = mesh or make_mesh()
    program = Program(runs, loss, optimizer, data, mesh, dtype, memory)
    groups = [list(range(len(runs)))] if together else [[i] for i in range(len(runs))]
    if not together and mesh.shape.get(RUN_AXIS, 1) > 1:
        raise ValueError(f"mesh has an axis {RUN_AXIS!r}: train the runs together to use it")
    names = [run.name or str(i) for i, run in enumerate(runs)]
    found: list[Fitted[ModuleType]] = []
    watched = frozenset(watch_at if watch else ())
    with progress_bar(progress, steps * len(groups), "step") as bar:
        for group in groups:
            own = checkpoints
            if checkpoints and (len(groups) > 1 or runs[group[0]].name):
                own = checkpoints / names[group[0]]
            with contextlib.closing(Saver(own)) as saver:
                found += _fit_group(
                    program, group, rows_at, steps, saver, save_every, watch, watched, bar
                )
            if finished:
                for i in group:
                    finished(i, found[i])
    return found


def _fit_group(
    program: Program,
    group: Sequence[int],
    rows_at: Callable[[Run, int], Int[np.ndarray, " b"]],
    steps: int,
    saver: Saver,
    save_every: int,
    watch: Callable[[int, int, Any], None] | None,
    watch_at: frozenset[int],
    bar: tqdm,
) -> list[Fitted]:
    """Train the runs of a group together."""
    runs = [program.runs[i] for i in group]
    first, state = saver.restore(program.begin(runs))
    if first > steps:
        raise ValueError(
            f"steps={steps}: {str(saver.folder)!r} holds a run of {first} steps; "
            "ask for as many, or give another folder"
        )
    bar.update(first)
    take = program.inputs(runs)
    records: list[list[dict[str, float]]] = [[] for _ in runs]
    pending: list[dict[str, Array]] = []
    began, ended, taken = 0.0, 0.0, 0
    for step in range(first, steps + 1):
        if watch and step in watch_at:
            for i, module in zip(group, program.modules(state, len(runs)), strict=True):
                watch(i, step, module)
        if step == steps:
            break
        rows = np.stack([rows_at(run, step) for run in runs]).astype(np.int32)
        state, metrics = program.step(state, *take(rows), np.uint32(step))
        pending.append(metrics)
        taken += rows.size
        if step == first:  # it was compiled before
            jax.block_until_ready(metrics)
            began, taken = time.perf_counter(), 0
        bar.update()
        if (step + 1) % save_every and step + 1 < steps:
            continue
        for i, (run, kept) in enumerate(zip(runs, records, strict=True)):
            _check_finite([m["loss"] for m in pending], i, run, step + 1, saver)
            means = {k: float(np.mean([_value(m[k], i) for m in pending])) for k in pending[0]}
            kept.append({"step": step + 1} | means)
        pending.clear()
        ended = time.perf_counter()
        shown = {k: f"{v:.3f}" for k, v in records[0][-1].items() if k != "step"}
        bar.set_postfix(shown, refresh=False)
        saver.save(step + 1, state)
    rate = taken / (ended - began) if taken else float("nan")
    return [
        Fitted(module, kept, rate, program.memory_of(len(runs) > 1))
        for module, kept in zip(program.modules(state, len(runs)), records, strict=True)
    ]


def _value(values: Array, i: int) -> float:
    """Of one run; a lone run has no axis of runs."""
    return float(np.asarray(values).reshape(-1)[i])


def _check_finite(losses: Sequence[Array], i: int, run: Run, step: int, saver: Saver) -> None:
    """Say where a loss stopped being a number, and from where to go on."""
    values = [_value(loss, i) for loss in losses]
    bad = [k for k, value in enumerate(values) if not np.isfinite(value)]
    if not bad:
        return
    at = step - len(values) + bad[0] + 1
    held = f"; {str(saver.folder)!r} holds step {saver.last}" if saver.last else ""
    settings = "".join(f", {name} {value:g}" for name, value in run.settings.items())
    raise ValueError(
        f"the loss is {values[bad[0]]} by step {at} (seed {run.seed}{settings}){held}; lower the "
        "learning rate, or the weight of the term that grows"
    )
