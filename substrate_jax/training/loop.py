"""One training loop: an optax optimizer on NNX modules, checkpointed with orbax, resumable.

Several runs go through one compiled step: other seeds, learning rates, weights of a loss's terms or
targets. They train one after another, or together, stacked along an axis that may be split over
devices. Step t draws its rows and its random key from t and the run's seed alone, so a run that is
killed and started again ends with the same bits as one that was not, and runs of one seed see the
same images, changed alike. Rows of a batch are split over the mesh's data axis and parameters
replicated; under jit every mean over the batch, those of batch normalization included, is then a
mean over all devices.

Cost: a step's own; data are put on the devices once where they take at most `RESIDENT` bytes.

Not guaranteed: that runs trained together have the bits of runs trained apart; sums of a batched
product are added in another order.
"""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Shaped
from tqdm import tqdm

from substrate_jax.mesh import DATA_AXIS, make_mesh, replicate
from substrate_jax.training.checkpoints import Saver

RUN_AXIS = "runs"  # of a mesh, optional: runs that train together are split over it
RESIDENT = 2**30  # bytes of data that are kept on the devices

ModuleType = TypeVar("ModuleType", bound=nnx.Module)
Rows = Shaped[np.ndarray, "n ..."]
Loss = Callable[[ModuleType, dict[str, Array], Array], tuple[Array, dict[str, Array]]]


@dataclasses.dataclass(frozen=True)
class Run(Generic[ModuleType]):
    """One training.

    Attributes:
        module: what to train; it is left as it is, and a copy trained.
        seed: of the keys handed to the loss, and of the order of rows.
        learning_rate: factor of the optimizer's updates.
        settings: name -> number, added to every batch as scalars: weights of a loss's terms.
        data: name -> [n, ...], rows of its own beside those that all runs share.
    """

    module: ModuleType
    seed: int = 0
    learning_rate: float = 1.0
    settings: Mapping[str, float] = dataclasses.field(default_factory=dict)
    data: Mapping[str, Rows] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Fitted(Generic[ModuleType]):
    """What came of a run.

    Attributes:
        module: trained, in evaluation mode.
        records: metrics per `save_every` steps (`step`, `loss` and the loss's own, averaged since
            the record before); after a resumed run only the records since.
    """

    module: ModuleType
    records: list[dict[str, float]]


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
        checkpoints: folder for resuming; none are written without it.
        save_every: steps between checkpoints.
        mesh: where to run; all devices by default. An axis `runs` is for runs trained together.
        dtype: of the arithmetic; parameters and optimizer stay float32, and so does the loss.
        watch: called with a run's number, a step and the module in evaluation mode, after so many
            steps; after a resumed run only for the steps since the checkpoint.
        watch_at: the steps to call it at, 0 for the untrained module.
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
    program = _Program(runs, loss, optimizer, data, mesh, dtype, memory)
    groups = [list(range(len(runs)))] if together else [[i] for i in range(len(runs))]
    if not together and mesh.shape.get(RUN_AXIS, 1) > 1:
        raise ValueError(f"mesh has an axis {RUN_AXIS!r}: train the runs together to use it")
    found: list[Fitted[ModuleType]] = []
    watched = frozenset(watch_at if watch else ())
    with tqdm(
        total=steps * len(groups), desc=progress, disable=progress is None, unit="step"
    ) as bar:
        for group in groups:
            own = checkpoints and (checkpoints / f"{group[0]}" if len(groups) > 1 else checkpoints)
            with contextlib.closing(Saver(own)) as saver:
                found += _fit_group(
                    program, group, rows_at, steps, saver, save_every, watch, watched, bar
                )
    return found


def _fit_group(
    program: "_Program",
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
    for step in range(first, steps + 1):
        if watch and step in watch_at and (step > first or step == 0):
            for i, module in zip(group, program.modules(state, len(runs)), strict=True):
                watch(i, step, module)
        if step == steps:
            break
        rows = np.stack([rows_at(run, step) for run in runs]).astype(np.int32)
        state, metrics = program.step(state, *take(rows), np.uint32(step))
        pending.append(metrics)
        bar.update()
        if (step + 1) % save_every and step + 1 < steps:
            continue
        for i, (run, kept) in enumerate(zip(runs, records, strict=True)):
            _check_finite([m["loss"] for m in pending], i, run, step + 1, saver)
            means = {k: float(np.mean([_value(m[k], i) for m in pending])) for k in pending[0]}
            kept.append({"step": step + 1} | means)
        pending.clear()
        bar.set_postfix({k: f"{v:.3f}" for k, v in records[0][-1].items() if k != "step"})
        saver.save(step + 1, state)
    return [
        Fitted(module, kept)
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


class _Program:
    """The compiled step that all runs share, and what it takes."""

    def __init__(
        self,
        runs: Sequence[Run],
        loss: Loss,
        optimizer: optax.GradientTransformation,
        data: Mapping[str, Rows],
        mesh: jax.sharding.Mesh,
        dtype: Any,
        memory: int | None,
    ):
        self.runs, self.optimizer, self.mesh, self.memory = runs, optimizer, mesh, memory
        self._modules = [nnx.clone(run.module) for run in runs]
        for module in self._modules:
            module.train()
        self._graph = nnx.split(self._modules[0], nnx.Param, ...)[0]
        shapes = {str(jax.tree.map(np.shape, self._split(i))) for i in range(len(runs))}
        names = {(tuple(run.settings), tuple(run.data)) for run in runs}
        if len(shapes) > 1 or len(names) > 1:
            raise ValueError(
                "runs differ in the shapes of their modules, or in the names of their settings or "
                "data; train them apart"
            )
        rows = {len(values) for values in itertools.chain(data.values(), *_own(runs))}
        if len(rows) > 1:
            raise ValueError(f"data have {sorted(rows)} rows; give as many of each")
        total = sum(values.nbytes for values in itertools.chain(data.values(), *_own(runs)))
        self._resident = total <= RESIDENT
        self._data = dict(data)
        self._placed = replicate(self._data, mesh) if self._resident else {}
        self._step = functools.partial(_step, self._graph, loss, optimizer, mesh, dtype)
        self._compiled: dict[int, Any] = {}

    def _split(self, i: int):
        return nnx.split(self._modules[i], nnx.Param, ...)[1:]

    def _stacked(self, trees: Sequence[Any]) -> Any:
        """One tree as it is, several along a first axis that is split over the mesh's runs."""
        if len(trees) == 1:
            # Copied, since a step donates the buffers of the state it is given.
            return replicate(jax.tree.map(jnp.copy, trees[0]), self.mesh)
        stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(x) for x in leaves]), *trees)
        spec = PartitionSpec(RUN_AXIS) if RUN_AXIS in self.mesh.shape else PartitionSpec()
        return jax.tree.map(lambda leaf: _place(leaf, self.mesh, spec), stacked)

    def begin(self, runs: Sequence[Run]) -> Any:
        """The state before the first step."""
        states = []
        for run in runs:
            i = next(i for i, other in enumerate(self.runs) if other is run)
            parameters, rest = self._split(i)
            optimizer = self.optimizer.init(parameters)
            states.append({"parameters": parameters, "rest": rest, "optimizer": optimizer})
        return self._stacked(states)

    def modules(self, state: Any, count: int) -> Iterator[Any]:
        """Each run's module in evaluation mode."""
        for i in range(count):
            own = state if count == 1 else jax.tree.map(lambda leaf, i=i: leaf[i], state)
            module = nnx.merge(self._graph, own["parameters"], own["rest"], copy=True)
            module.eval()
            yield module

    def inputs(self, runs: Sequence[Run]) -> Callable[[Int[np.ndarray, "r b"]], tuple]:
        """Rows of all runs -> what a step takes beside the state."""
        scalars = self._stacked(
            [
                {
                    "settings": {k: np.float32(v) for k, v in run.settings.items()},
                    "learning_rate": np.float32(run.learning_rate),
                    "seed": np.uint32(run.seed),
                }
                for run in runs
            ]
        )
        own = self._stacked([dict(run.data) for run in runs]) if self._resident else {}
        spec = PartitionSpec(DATA_AXIS)
        if len(runs) > 1:
            spec = PartitionSpec(RUN_AXIS if RUN_AXIS in self.mesh.shape else None, DATA_AXIS)

        def take(rows: Int[np.ndarray, "r b"]) -> tuple:
            def laid(per_run: Sequence[Rows]) -> Array:
                values = per_run[0] if len(runs) == 1 else np.stack(per_run)
                return _place(values, self.mesh, spec)

            given = {}
            if not self._resident:
                held = [self._data | dict(run.data) for run in runs]
                given = {
                    name: laid([of[name][taken] for of, taken in zip(held, rows, strict=True)])
                    for name in held[0]
                }
            return self._placed, own, scalars, laid(list(rows)), given

        return take

    def step(self, state: Any, *inputs: Any) -> tuple[Any, dict[str, Array]]:
        """The state after one more step, and its metrics."""
        rows = inputs[3]
        several = rows.ndim == 2
        if several not in self._compiled:
            self._compiled[several] = self._compile(several, rows.shape[-1], state, *inputs)
        return self._compiled[several](state, *inputs)

    def _compile(self, several: bool, batch: int, *arguments: Any) -> Any:
        step = self._step
        if several:
            axis = RUN_AXIS if RUN_AXIS in self.mesh.shape else None
            step = jax.vmap(
                step, in_axes=(0, None, 0, 0, 0, 0, None), out_axes=0, spmd_axis_name=axis
            )
        compiled = jax.jit(step, donate_argnums=0).lower(*arguments).compile()
        analysis = compiled.memory_analysis()
        if self.memory is not None and analysis is not None:
            held = analysis.argument_size_in_bytes
            if held + analysis.temp_size_in_bytes > self.memory:
                fits = int(batch * (self.memory - held) / max(analysis.temp_size_in_bytes, 1))
                advice = (
                    f"a batch of about {fits} fits"
                    if fits > 0
                    else "parameters and data alone do not fit"
                )
                raise ValueError(
                    f"batches of {batch} take {held / 2**20:.0f} MiB and "
                    f"{analysis.temp_size_in_bytes / 2**20:.0f} MiB to compute with, above "
                    f"{self.memory / 2**20:.0f} MiB; {advice}"
                )
        return compiled


def _own(runs: Sequence[Run]) -> list:
    return [run.data.values() for run in runs]


def _place(values: Rows, mesh: jax.sharding.Mesh, spec: PartitionSpec) -> Array:
    """An array that every process holds whole, laid out over the mesh."""
    values = np.asarray(values)
    return jax.make_array_from_callback(
        values.shape, NamedSharding(mesh, spec), lambda index: values[index]
    )


def _step(
    graph, loss, optimizer, mesh, dtype, state, shared, own, scalars, rows, given, step
) -> tuple[Any, dict[str, Array]]:
    """One optimizer step of one run."""
    split = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
    batch = {
        name: jax.lax.with_sharding_constraint(values[rows], split)
        for name, values in (shared | own).items()
    }
    batch = batch | given | scalars["settings"]
    key = jax.random.fold_in(jax.random.key(scalars["seed"]), step)

    def objective(parameters):
        cast = jax.tree.map(lambda leaf: leaf.astype(dtype), parameters)
        module = nnx.merge(graph, cast, state["rest"], copy=True)
        value, metrics = loss(module, batch, key)
        _, _, rest = nnx.split(module, nnx.Param, ...)
        value = value.astype(jnp.float32)
        return value, (rest, {"loss": value, **metrics})

    gradients, (rest, metrics) = jax.grad(objective, has_aux=True)(state["parameters"])
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam needs it
        updates, moments = optimizer.update(gradients, state["optimizer"], state["parameters"])
    updates = jax.tree.map(lambda leaf: leaf * scalars["learning_rate"], updates)
    parameters = optax.apply_updates(state["parameters"], updates)
    return {"parameters": parameters, "rest": rest, "optimizer": moments}, metrics


def epoch_rows(
    rows: Int[np.ndarray, " n"], seed: int, step: int, batch_size: int
) -> Int[np.ndarray, " b"]:
    """Rows of a step: epochs follow each other without a gap, each in an order of its own.

    Args:
        rows: to take from.
        seed: of the orders.
        step: from 0.
        batch_size: rows per step; may exceed the number of rows.

    Example:
        >>> rows = np.arange(10)
        >>> taken = np.concatenate([epoch_rows(rows, 0, step, 5) for step in range(2)])
        >>> sorted(taken.tolist()) == rows.tolist()
        True
    """
    n = len(rows)
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = {int(epoch): _permutation(n, seed, int(epoch)) for epoch in np.unique(places // n)}
    return rows[np.array([epochs[int(place // n)][place % n] for place in places])]


@functools.lru_cache(maxsize=8)
def _permutation(n: int, seed: int, epoch: int) -> Int[np.ndarray, " n"]:
    return np.random.default_rng([seed, epoch]).permutation(n)
