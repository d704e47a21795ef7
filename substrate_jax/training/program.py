"""The compiled step of a training loop, and how runs and data lie on the devices.

Runs of one shape share a step. Stacked, it is mapped over them (`jax.vmap`), and a mesh axis `runs`
splits them; else each is stepped by itself. Data of at most `RESIDENT` bytes are copied to every
device once, and a step takes its rows there; more stay on the host, which sends each batch.

Cost: the data once on every device; a batched convolution has a kernel for each run, which
processors do slowly.

Not guaranteed: that the memory which the compiler states is all that a backend takes.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Shaped

from substrate_jax.mesh import DATA_AXIS, replicate

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
        name: of its folder of checkpoints; its number by default.
    """

    module: ModuleType
    seed: int = 0
    learning_rate: float = 1.0
    settings: Mapping[str, float] = dataclasses.field(default_factory=dict)
    data: Mapping[str, Rows] = dataclasses.field(default_factory=dict)
    name: str = ""


class Program:
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
        self._step = functools.partial(train_step, self._graph, loss, optimizer, mesh, dtype)
        self._compiled: dict[bool, Any] = {}
        self._taken: dict[bool, int] = {}

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

    def memory_of(self, several: bool) -> int:
        """Bytes of a device that a step takes, 0 where it is not known."""
        return self._taken.get(several, 0)

    def _compile(self, several: bool, batch: int, *arguments: Any) -> Any:
        step = self._step
        if several:
            axis = RUN_AXIS if RUN_AXIS in self.mesh.shape else None
            step = jax.vmap(
                step, in_axes=(0, None, 0, 0, 0, 0, None), out_axes=0, spmd_axis_name=axis
            )
        compiled = jax.jit(step, donate_argnums=0).lower(*arguments).compile()
        analysis = compiled.memory_analysis()
        if analysis is not None:
            held, scratch = analysis.argument_size_in_bytes, analysis.temp_size_in_bytes
            self._taken[several] = held + scratch
            if self.memory is not None and held + scratch > self.memory:
                fits = int(batch * (self.memory - held) / max(scratch, 1))
                advice = f"a batch of about {fits} fits"
                if fits < 1:
                    advice = "parameters and data alone do not fit"
                raise ValueError(
                    f"batches of {batch} take {held / 2**20:.0f} MiB and {scratch / 2**20:.0f} MiB "
                    f"to compute with, above {self.memory / 2**20:.0f} MiB; {advice}"
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


def train_step(
    graph, loss, optimizer, mesh, dtype, state, shared, own, scalars, rows, given, step
) -> tuple[Any, dict[str, Array]]:
    """One optimizer step of one run; `Program` says what it is given."""
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
