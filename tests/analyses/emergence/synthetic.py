"""A result whose curves rise when they are told to."""

import dataclasses

import numpy as np

from substrate_jax.analyses.emergence import compare
from substrate_jax.analyses.emergence.alignment import TITLES, Alignment
from substrate_jax.analyses.emergence.plan import SELF_SUPERVISED, SHUFFLED, SUPERVISED, make_plan
from substrate_jax.analyses.emergence.results import EmergenceResult, Training
from substrate_jax.report.run import ImageSet
from tests.analyses.cka.synthetic import panel, run_of

PLAN = make_plan("mini_resnet18", [SUPERVISED, SHUFFLED, SELF_SUPERVISED], [0, 1, 2], 30_000)
TARGETS = dict(compare.TARGETS)
U = np.log2(1.0 + np.array(PLAN.watched))


def curve(start, end, middle, rng, noise=0.01):
    """From start to end, half of the way at log2(1 + step) = middle."""
    share = 1 / (1 + np.exp(-1.6 * (U - middle)))
    share = (share - share[0]) / (share[-1] - share[0])
    return start + (end - start) * share + noise * rng.normal(size=len(U)) * (share > 0.02)


def agreement(end, middle, rng) -> Alignment:
    found = {name: curve(0.05, end, middle, rng) for name in TITLES}
    tau = np.full(len(U), 0.04)
    return Alignment(**found, tau=tau, p_value=np.full(len(U), 1e-6))


def training(objective, seed, middle, learns=True) -> Training:
    rng = np.random.default_rng([seed, len(objective)])
    learned = objective == SUPERVISED and learns
    nothing = np.full(len(U), np.nan)
    flat = curve(0.01, 0.01, 5, rng, 0.002)
    names = list(TARGETS) if objective == SUPERVISED else list(TARGETS)[:-1]
    ends = {compare.PANEL: 0.5, compare.UNTRAINED: 0.25, compare.PIXELS: 0.2, compare.SEED: 0.8}
    shift = rng.normal(scale=0.3)
    return Training(
        objective=objective,
        seed=seed,
        accuracy=nothing if objective == SELF_SUPERVISED else
        curve(0.01, 0.46, 9 + shift, rng) if learned else flat,
        probe_accuracy=curve(0.05, 0.4, 8 + shift, rng),
        rankme=curve(20, 60, 6, rng, 0.5),
        effective_rank=curve(3, 25, 6, rng, 0.3),
        alpha=curve(2.5, 1.1, 6, rng, 0.02),
        settled=curve(0.1, 1.0, 10, rng, 0.0),
        alignments={
            name: agreement(ends[name] if learned else ends[name] / 2, middle + shift, rng)
            for name in names
        },
    )  # fmt: skip


def result(seeds=3, middle=7.0, objectives=PLAN.objectives, learns=True) -> EmergenceResult:
    """Supervised agreement that is half risen at log2(1 + step) = middle, accuracy at 9."""
    trainings = [
        training(objective, seed, middle, learns)
        for objective in objectives
        for seed in range(seeds)
    ]
    images = ImageSet("tfds:cifar100:train", "0123456789abcdef" * 4, "Photographs.", 100)
    names = list(trainings[0].alignments)
    return EmergenceResult(
        run=run_of("emergence", panel(5)),
        student=PLAN.student,
        parameters=713_076,
        recipe=PLAN.recipe,
        level=0.95,
        components=16,
        train=images,
        test=dataclasses.replace(images, source="tfds:cifar100:test"),
        train_images=30_000,
        test_images=5_000,
        probe_images=512,
        classes=100,
        majority=0.01,
        per_epoch=PLAN.per_epoch,
        steps=PLAN.watched,
        targets={name: TARGETS[name] for name in names},
        trainings=trainings,
        rises=compare.rises(PLAN.watched, trainings),
    )
