"""Trainings of a plan, watched.

Trainings that learn labels share one compiled step, whatever the labels; self-supervised ones share
another. Each has its own folder of checkpoints, and what was watched has its own files: a run that
goes on takes what is there, and one that asks for more seeds or objectives trains those alone.

Cost: the trainings one after another, and a forward pass of all test images per watched step.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Int

from substrate_jax.analyses.emergence.plan import SELF_SUPERVISED, SHUFFLED, Plan, shuffled
from substrate_jax.analyses.emergence.watch import Watched, Watcher
from substrate_jax.data.preprocess import Preprocess
from substrate_jax.training.labeled_images import TrainingData
from substrate_jax.training.loop import fit
from substrate_jax.training.mini_panel import make_optimizer
from substrate_jax.training.objectives import SimCLR, Supervised
from substrate_jax.training.program import Run
from substrate_jax.training.rows import epoch_rows
from substrate_jax.training.students import student_config


def train(
    plan: Plan,
    data: TrainingData,
    watcher: Watcher,
    preprocess: Preprocess,
    *,
    checkpoints: Path | None = None,
    mesh: Mesh | None = None,
    progress: Callable[[str], str | None] = lambda _: None,
) -> None:
    """Train all that a plan has; the watcher keeps what is found.

    Args:
        plan: what to train, and when to watch.
        data: to train on.
        watcher: of the same images.
        preprocess: gives mean and standard deviation of the pixels.
        checkpoints: folder for resuming; none are written without it.
        mesh: where to run; all devices by default.
        progress: what is trained -> label of a progress bar, or None.

    Raises:
        ValueError: a loss that is not finite.
    """
    for learns_labels in (True, False):
        trainings = [one for one in plan.trainings if (one[0] != SELF_SUPERVISED) is learns_labels]
        if not trainings:
            continue
        runs = list(_runs(plan, trainings, data, preprocess))
        # A run alone would have the folder itself, and not find it once there are two.
        folder = checkpoints and (checkpoints / runs[0].name if len(runs) == 1 else checkpoints)

        def watch(i: int, step: int, module: Any, runs=runs, classifies=learns_labels) -> None:
            watcher.watch(runs[i].name, step, module.network, classifies=classifies)

        fit(
            runs,
            _loss,
            make_optimizer(plan.recipe, plan.steps),
            {"images": data.train.images},
            _rows_of(plan, len(data.train)),
            steps=plan.steps,
            checkpoints=folder,
            save_every=max(plan.per_epoch, -(-plan.steps // 20)),
            mesh=mesh,
            watch=watch,
            watch_at=plan.watched,
            progress=progress("labels" if learns_labels else "self-supervised"),
        )


def name_of(objective: str, seed: int) -> str:
    """Of a training, and its folders.

    Example:
        >>> name_of("supervised", 0)
        'supervised-0'
    """
    return f"{objective}-{seed}"


def watched(plan: Plan, watcher: Watcher) -> dict[tuple[str, int], list[Watched]]:
    """What was found: objective and seed -> at every watched step.

    Raises:
        ValueError: a step that is not there.
    """
    return {
        one: [Watched.load(watcher.path(name_of(*one), step)) for step in plan.watched]
        for one in plan.trainings
    }


def _runs(
    plan: Plan, trainings: Sequence[tuple[str, int]], data: TrainingData, preprocess: Preprocess
) -> Iterator[Run]:
    config = student_config(plan.student, data.classes)
    for objective, seed in trainings:
        rngs = nnx.Rngs(seed)
        kind = SimCLR if objective == SELF_SUPERVISED else Supervised
        module = kind(config.build(rngs), preprocess, rngs=rngs)
        labels = data.train.labels
        labels = shuffled(labels, seed) if objective == SHUFFLED else labels
        yield Run(module, seed, data={"labels": labels}, name=name_of(objective, seed))


def _rows_of(plan: Plan, images: int) -> Callable[[Run, int], Int[np.ndarray, " b"]]:
    rows = np.arange(images)
    return lambda run, step: epoch_rows(rows, run.seed, step, plan.recipe.batch_size)


def _loss(module: Any, batch: dict[str, Array], key: Array) -> tuple[Array, dict[str, Array]]:
    return module.loss(batch["images"], batch["labels"], key)
