"""The newest checkpoint of a training run, in orbax's format, leaves under their tree paths."""

from pathlib import Path
from typing import Any

import jax
from jaxtyping import Array


class Saver:
    """Checkpoints in a folder, of which the newest is kept.

    Args:
        folder: where; without one nothing is saved, and nothing found.
    """

    def __init__(self, folder: Path | None):
        self.folder = folder
        self.last = 0  # step that the folder holds
        self._manager = None
        if folder is None:
            return
        # Half a second to import, and only runs that are to be resumed need it.
        import orbax.checkpoint as ocp

        self._args = ocp.args
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, step: int, state: Any) -> None:
        """Keep the state after a step."""
        if self._manager is not None:
            self._manager.save(step, args=self._args.StandardSave(_named(state)))
            self.last = step

    def restore(self, state: Any) -> tuple[int, Any]:
        """The last step and its state, laid out as the given; 0 and the given if there is none.

        Raises:
            ValueError: the folder holds the state of something else.
        """
        step = self._manager.latest_step() if self._manager is not None else None
        if self._manager is None or step is None:
            return 0, state
        try:
            named = self._manager.restore(step, args=self._args.StandardRestore(_named(state)))
        except ValueError:  # with both trees in its message
            raise ValueError(
                f"{str(self.folder)!r} holds a checkpoint of another training; give another folder"
            ) from None
        self.last = step
        return step, jax.tree.unflatten(
            jax.tree.structure(state), [named[name] for name in _named(state)]
        )

    def close(self) -> None:
        """Release the folder."""
        if self._manager is not None:
            self._manager.close()


def _named(state: Any) -> dict[str, Array]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {f"{i:05d}{jax.tree_util.keystr(path)}": leaf for i, (path, leaf) in enumerate(leaves)}
