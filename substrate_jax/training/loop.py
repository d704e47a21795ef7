"""One training loop: an optax optimizer on an NNX module, checkpointed with orbax, resumable.

Step t draws its batch and its random key from t alone, so a run that is killed and started again
ends with the same bits as one that was not. Batches are split over the mesh's data axis and
parameters replicated; under jit every mean over the batch, those of batch normalization included,
is then a mean over all devices.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array
from tqdm import tqdm

from substrate_jax.mesh import make_mesh, place_rows, replicate

Batch = dict[str, np.ndarray]
ModuleType = TypeVar("ModuleType", bound=nnx.Module)
Loss = Callable[[ModuleType, dict[str, Array], Array], tuple[Array, dict[str, Array]]]


def fit(
    module: ModuleType,
    loss: Loss[ModuleType],
    optimizer: optax.GradientTransformation,
    batch_at: Callable[[int], Batch],
    *,
    steps: int,
    seed: int = 0,
    checkpoints: Path | None = None,
    save_every: int = 200,
    mesh: jax.sharding.Mesh | None = None,
    progress: str | None = None,
) -> tuple[ModuleType, list[dict[str, float]]]:
    """Minimize `loss` over the module's parameters.

    Args:
        module: what to train; it is left as it is, and a copy trained.
        loss: `(module, batch, key) -> (scalar, metrics)`; may update running statistics.
        optimizer: an optax transformation.
        batch_at: step -> arrays with equal numbers of rows; must depend on the step alone.
        steps: number of optimizer steps in all.
        seed: of the keys handed to `loss`.
        checkpoints: folder for resuming; none are written without it.
        save_every: steps between checkpoints.
        mesh: where to run; all devices by default.
        progress: label of a progress bar; none without it.

    Returns:
        The trained module in evaluation mode, and one record of metrics per `save_every` steps
        (`step`, `loss` and the loss's own, averaged since the record before); after a resumed run
        only the records since.

    Raises:
        ValueError: `steps` is below 1 or below what `checkpoints` holds, or the loss is not finite.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: train for at least one step")
    mesh = mesh or make_mesh()
    module = nnx.clone(module)
    module.train()
    graph, parameters, rest = nnx.split(module, nnx.Param, ...)
    state = {"parameters": parameters, "rest": rest, "optimizer": optimizer.init(parameters)}
    # Copied, since a step donates the buffers of the state it is given.
    state = replicate(jax.tree.map(jnp.copy, state), mesh)

    def step_function(state, batch, step):
        key = jax.random.fold_in(jax.random.key(seed), step)

        def objective(parameters):
            module = nnx.merge(graph, parameters, state["rest"], copy=True)
            value, metrics = loss(module, batch, key)
            _, _, rest = nnx.split(module, nnx.Param, ...)
            return value, (rest, {"loss": value, **metrics})

        gradients, (rest, metrics) = jax.grad(objective, has_aux=True)(state["parameters"])
        with jax.numpy_dtype_promotion("standard"):  # optax's Adam needs it
            updates, optimizer_state = optimizer.update(
                gradients, state["optimizer"], state["parameters"]
            )
        parameters = optax.apply_updates(state["parameters"], updates)
        return {"parameters": parameters, "rest": rest, "optimizer": optimizer_state}, metrics

    step_function = jax.jit(step_function, donate_argnums=0)
    records: list[dict[str, float]] = []
    pending: list[dict[str, Array]] = []
    with contextlib.ExitStack() as stack:
        saver, first = None, 0
        if checkpoints is not None:
            saver = stack.enter_context(contextlib.closing(_Saver(checkpoints)))
            first, state = saver.restore(state)
        if first > steps:
            raise ValueError(
                f"steps={steps}: {str(checkpoints)!r} holds a run of {first} steps; "
                "ask for as many, or give another folder"
            )
        bar = tqdm(total=steps, initial=first, desc=progress, disable=progress is None, unit="step")
        stack.enter_context(bar)
        for step in range(first, steps):
            batch = {
                name: place_rows(rows, mesh, len(rows) * jax.process_count())
                for name, rows in batch_at(step).items()
            }
            state, metrics = step_function(state, batch, jnp.uint32(step))
            pending.append(metrics)
            bar.update()
            if (step + 1) % save_every == 0 or step + 1 == steps:
                record = {"step": step + 1}
                record |= {k: float(np.mean([float(m[k]) for m in pending])) for k in pending[0]}
                pending.clear()
                if not np.isfinite(record["loss"]):
                    raise ValueError(
                        f"the loss is {record['loss']} by step {step + 1}; lower the learning rate"
                    )
                records.append(record)
                bar.set_postfix({k: f"{v:.3f}" for k, v in record.items() if k != "step"})
                if saver:
                    saver.save(step + 1, state)
    module = nnx.merge(graph, state["parameters"], state["rest"])
    module.eval()
    return module, records


class _Saver:
    """The newest checkpoint in a folder; leaves are stored under their tree paths."""

    def __init__(self, folder: Path):
        # Half a second to import, and only runs that are to be resumed need it.
        import orbax.checkpoint as ocp

        self._args = ocp.args
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, step: int, state) -> None:
        self._manager.save(step, args=self._args.StandardSave(_named(state)))

    def restore(self, state):
        step = self._manager.latest_step()
        if step is None:
            return 0, state
        named = self._manager.restore(step, args=self._args.StandardRestore(_named(state)))
        leaves = [named[name] for name in _named(state)]
        return step, jax.tree.unflatten(jax.tree.structure(state), leaves)

    def close(self) -> None:
        self._manager.close()


def _named(state) -> dict[str, Array]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {f"{i:05d}{jax.tree_util.keystr(path)}": leaf for i, (path, leaf) in enumerate(leaves)}
