"""Pretraining and fine-tuning of a plan, each network kept as it ends.

All ways to pretrain begin with the same weights for one seed and see the same images in the same
order, for as many steps. Weights are written to a file, and every fine-tuning begins with what the
file holds: those of one seed see the same labeled images in the same order, changed alike.

Cost: epochs x images forward and backward passes for each way and seed, twice that for SimCLR, and
tune_steps x batch for each fine-tuning; a program for every way, and for every set and number of
labels.
"""

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Int, UInt8

from substrate_jax.analyses.distill.targets import padded
from substrate_jax.analyses.distill.train import parts
from substrate_jax.analyses.rates import train_at_best_rate
from substrate_jax.analyses.unlabeled.measures import Features, measure
from substrate_jax.analyses.unlabeled.plan import ALL, SCRATCH, SIMCLR, Condition, Plan, way
from substrate_jax.analyses.unlabeled.results import Pretrained, Tuned
from substrate_jax.data.preprocess import Preprocess
from substrate_jax.data.tensors import tensor_bytes
from substrate_jax.encoders.networks.layers import constant_rngs
from substrate_jax.encoders.networks.network import Network
from substrate_jax.encoders.weights import (
    abstract_module,
    checkpoint_arrays,
    fill,
    read_safetensors,
)
from substrate_jax.losses.target import SubstrateTarget
from substrate_jax.report.writing import write_file
from substrate_jax.training.distillation import Student, student_loss
from substrate_jax.training.finetune import Classifier
from substrate_jax.training.labeled_images import TrainingData
from substrate_jax.training.loop import Fitted, fit
from substrate_jax.training.objectives import SimCLR
from substrate_jax.training.predict import accuracy, outputs
from substrate_jax.training.program import Run
from substrate_jax.training.rows import epoch_rows, rows_per_class
from substrate_jax.training.students import student_config, student_optimizer

MEASURED = 1_024  # images whose features say whether they collapsed

Images = UInt8[np.ndarray, "n s s 3"]


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all trainings of a run have in common.

    Attributes:
        plan: ways, numbers of labels, seeds, rates.
        student: name of the network.
        classes: of the images that are pretrained on; 2 or more.
        preprocess: of its images.
        dtype: of the arithmetic.
        together: train the runs of a kind in one step.
        mesh: where to run.
        memory: bytes of a device that a step may take; unlimited if None.
        weights: folder of the pretrained networks.
        checkpoints: folder for resuming.
        writes: whether this process writes weights.
        progress: whether bars are drawn.
    """

    plan: Plan
    student: str
    classes: int
    preprocess: Preprocess
    dtype: Any
    together: bool
    mesh: jax.sharding.Mesh
    memory: int | None
    weights: Path
    checkpoints: Path
    writes: bool
    progress: bool

    def network(self, rngs: nnx.Rngs) -> Network:
        """The untrained network."""
        return student_config(self.student, self.classes).build(rngs)

    def file(self, pretraining: str, seed: int) -> Path:
        """Of a pretrained network's weights."""
        letters = (c if c.isalnum() or c in ".-" else "_" for c in pretraining)
        return self.weights / f"{''.join(letters)}_{seed}.safetensors"


def pretrain(
    setting: Setting,
    images: Images,
    labels: Int[np.ndarray, " n"],
    targets: Mapping[str, SubstrateTarget],
    known: Mapping[tuple[str, int], Pretrained],
    keep: Callable[[Pretrained], None],
) -> list[Pretrained]:
    """All pretrained networks of a plan, their weights in `setting.weights`.

    Args:
        setting: what they have in common.
        images: uint8 [n, s, s, 3].
        labels: [n], read where a way asks for them.
        targets: name -> scores of the images, in their order.
        known: those that were done before.
        keep: is handed every new one as it comes.

    Raises:
        ValueError: a batch that a target tells nothing of, a loss that is not finite, or a step
            that takes too much memory.
    """
    plan, found = setting.plan, dict(known)
    measured = np.sort(
        np.random.default_rng(0).permutation(len(images))[: min(MEASURED, len(images))]
    )
    main = targets[plan.targets[0]].scores[measured] if plan.targets else None

    def done(name: str, seed: int, network: Network, fitted: Fitted | None) -> None:
        if setting.writes:
            write_file(setting.file(name, seed), tensor_bytes(checkpoint_arrays(network)))
        features = outputs(
            Features(network, setting.preprocess), images[measured], min(256, len(measured))
        )
        record = measure(name, seed, features, main, fitted)
        found[record.key] = record
        keep(record)

    for name in plan.pretrainings:
        seeds = [
            seed
            for seed in plan.seeds
            if (name, seed) not in found or not setting.file(name, seed).is_file()
        ]
        if name == SCRATCH:
            for seed in seeds:
                network = setting.network(constant_rngs(np.random.default_rng(seed)))
                network.eval()
                done(name, seed, network, None)
        elif seeds:
            _pretrain(setting, name, seeds, images, labels, targets, done)
    return [found[name, seed] for name in plan.pretrainings for seed in plan.seeds]


def _views_loss(
    module: SimCLR, batch: dict[str, Array], key: Array
) -> tuple[Array, dict[str, Array]]:
    return module.loss(batch["images"], batch["labels"], key)


def _pretrain(
    setting: Setting,
    name: str,
    seeds: Sequence[int],
    images: Images,
    labels: Int[np.ndarray, " n"],
    targets: Mapping[str, SubstrateTarget],
    done: Callable[[str, int, Network, Fitted | None], None],
) -> None:
    """Pretrain in one way."""
    plan, how = setting.plan, way(name)
    batch_size, steps = min(plan.batch_size, len(images)), plan.steps(len(images))
    data: dict[str, np.ndarray] = {"images": images, "labels": labels}
    width = 0
    if how.target:
        targets[how.target].check_batch(batch_size)
        data["target"] = padded({how.target: targets[how.target]})[how.target]
        width = data["target"].shape[1]
    runs = []
    for seed in seeds:
        rngs = constant_rngs(np.random.default_rng(seed))
        network = setting.network(rngs)
        if name == SIMCLR:
            module: Any = SimCLR(network, setting.preprocess, rngs=rngs)
        else:
            module = Student(network, setting.preprocess, how.method, width=width, rngs=rngs)
        settings = {"classify": float(how.labels), "weight": 1.0}
        run_name = setting.file(name, seed).stem
        runs.append(Run(module, seed, plan.pretraining_rate, settings, name=run_name))
    everything = np.arange(len(images))

    def rows_at(run: Run, step: int) -> Int[np.ndarray, " b"]:
        return epoch_rows(everything, run.seed, step, batch_size)

    def finished(i: int, fitted: Fitted) -> None:
        done(name, seeds[i], fitted.module.network, fitted)
        shutil.rmtree(setting.checkpoints / runs[i].name, ignore_errors=True)

    fit(
        runs,
        _views_loss if name == SIMCLR else student_loss,
        student_optimizer(setting.student, steps),
        data,
        rows_at,
        steps=steps,
        together=setting.together,
        checkpoints=setting.checkpoints,
        mesh=setting.mesh,
        dtype=setting.dtype,
        finished=finished,
        memory=setting.memory,
        progress=f"pretraining on {how.title}" if setting.progress else None,
    )


def tune(
    setting: Setting,
    name: str,
    data: TrainingData,
    known: Mapping[tuple[Condition, float, int], Tuned],
    keep: Callable[[Tuned], None],
) -> list[Tuned]:
    """All fine-tunings on one labeled set.

    Args:
        setting: what they have in common.
        name: of the set.
        data: its images.
        known: those that were done before.
        keep: is handed every new one as it comes.

    Raises:
        ValueError: a class with fewer images than labels are asked for, a loss that is not finite,
            or a step that takes too much memory.
    """
    plan, found = setting.plan, dict(known)
    wanted = []
    for labels in plan.labels:
        wanted += train_at_best_rate(
            plan.conditions(name, labels),
            plan.rates,
            plan.seeds,
            lambda keys: _tune(setting, data, keys, found, keep),
            found,
        )
    return [found[key] for key in wanted]


def labeled(
    plan: Plan, labels: Int[np.ndarray, " n"], count: int, seed: int
) -> Int[np.ndarray, " m"]:
    """Rows of the training images that a seed fine-tunes on.

    Raises:
        ValueError: a class with fewer images than `count`.
    """
    rows, _ = parts(plan.rates, labels)
    return rows if count == ALL else rows[rows_per_class(labels[rows], count, seed)]


def _tune(
    setting: Setting,
    data: TrainingData,
    keys: Sequence[tuple[Condition, float, int]],
    found: dict[tuple[Condition, float, int], Tuned],
    keep: Callable[[Tuned], None],
) -> None:
    """Fine-tune what is not yet known, all on one set with one number of labels."""
    keys = [key for key in keys if key not in found]
    if not keys:
        return
    plan, train, test = setting.plan, data.train, data.test
    ((images, count),) = {(one.images, one.labels) for one, _, _ in keys}
    rows = {seed: labeled(plan, train.labels, count, seed) for seed in {key[2] for key in keys}}
    batch_size = min(plan.batch_size, *(len(own) for own in rows.values()))
    _, validation = parts(plan.rates, train.labels)
    config = student_config(setting.student, setting.classes)
    runs = []
    for condition, rate, seed in keys:
        path = setting.file(condition.pretraining, seed)
        network = fill(abstract_module(config), read_safetensors(path), source=path.name)
        classifier = Classifier(network, setting.preprocess, data.classes)
        runs.append(Run(classifier, seed, rate))

    def rows_at(run: Run, step: int) -> Int[np.ndarray, " b"]:
        return epoch_rows(rows[run.seed], run.seed, step, batch_size)

    def loss(module: Classifier, batch: dict[str, Array], key: Array):
        return module.loss(batch["images"], batch["labels"], key)

    def finished(i: int, fitted: Fitted[Classifier]) -> None:
        condition, rate, seed = keys[i]

        module = fitted.module
        tuned = Tuned(
            condition=condition,
            rate=rate,
            seed=seed,
            validation=accuracy(module, train.images[validation], train.labels[validation], 64),
            accuracy=accuracy(module, test.images, test.labels, 64),
            loss=fitted.records[-1]["loss"],
            images_per_second=fitted.rows_per_second,
        )
        found[tuned.key] = tuned
        keep(tuned)

    fit(
        runs,
        loss,
        student_optimizer(setting.student, plan.tune_steps),
        {"images": train.images, "labels": train.labels},
        rows_at,
        steps=plan.tune_steps,
        together=setting.together,
        mesh=setting.mesh,
        dtype=setting.dtype,
        finished=finished,
        memory=setting.memory,
        progress=f"fine-tuning on {images}" if setting.progress else None,
    )
