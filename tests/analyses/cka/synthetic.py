"""Results as experiments.cka makes them, from random features."""

import itertools

import numpy as np

from substrate_jax.analyses.cka.compare import domain_agreement
from substrate_jax.analyses.cka.results import (
    CalibratedPairs,
    CalibratedRecall,
    CkaDomain,
    CkaResult,
    DomainAgreement,
    EncoderComparison,
    SeparationOfMeans,
)
from substrate_jax.report.run import EncoderRecord, ImageSet, Run

PANEL = {
    "resnet50": "supervised",
    "convnext_base": "supervised",
    "dinov2_base": "self_supervised",
    "mae_base": "masked_reconstruction",
    "clip_base": "image_text",
    "fcmae_base": "masked_reconstruction",
    "efficientnet_b0": "supervised",
    "beitv2_base": "self_supervised",
}
PICTURES = {
    "photographs": 8,
    "microscopy": 2,
    "medical": 3,
    "texture": 3,
    "astronomy": 2,
    "depth": 1,
    "writing": 3,
    "galaxies": 10,
}
# How much of an encoder's features is shared with the others.
SHARED = {"masked_reconstruction": 0.4, "image_text": 0.8}
ROWS, IMAGES = 150, 512


def symmetric(rng: np.random.Generator, m: int, low: float, high: float, diagonal) -> np.ndarray:
    upper = np.triu(rng.uniform(low, high, (m, m)), 1)
    return upper + upper.T + np.diag(np.full(m, diagonal))


def calibration(rng: np.random.Generator, observed: np.ndarray, level: float) -> CalibratedPairs:
    tau = symmetric(rng, len(observed), 0.8 * level, 1.2 * level, level)
    log_p_value = -3 * (observed / tau) ** 2
    np.fill_diagonal(log_p_value, np.nan)
    p_value = np.exp(log_p_value)
    return CalibratedPairs(
        method="closed_form",
        skewness="exact",
        alpha=0.05,
        score=np.maximum((observed - tau) / (1 - tau), 0),
        tau=tau,
        p_value=p_value,
        log10_p_value=log_p_value / np.log(10),
        q_value=np.minimum(1.3 * p_value, 1),
    )


def separation(score: np.ndarray, paradigms: list[str]) -> SeparationOfMeans:
    found = {}
    groups = {"discriminative": {"supervised", "self_supervised"}, "mim": {"masked_reconstruction"}}
    for name, group in groups.items():
        members = [i for i, paradigm in enumerate(paradigms) if paradigm in group]
        values = [score[pair] for pair in itertools.combinations(members, 2)]
        found[f"{name}_mean"] = float(np.mean(values)) if values else None
        found[f"{name}_pairs"] = len(values)
    high, low = found["discriminative_mean"], found["mim_mean"]
    return SeparationOfMeans(**found, ratio=high / low if high is not None and low else None)


def domain_result(rng: np.random.Generator, name: str, paradigms: list[str], ks) -> CkaDomain:
    common = rng.normal(size=(ROWS, 12)) * np.arange(1, 13) ** -0.5
    grams = []
    for paradigm in paradigms:
        weight = SHARED.get(paradigm, 1.2) * rng.uniform(0.7, 1.3)
        x = weight * common @ rng.normal(size=(12, 40)) + 1.5 * rng.normal(size=(ROWS, 40))
        x -= x.mean(0)
        grams.append((x @ x.T / np.linalg.norm(x @ x.T)).ravel())
    cka = np.stack(grams) @ np.stack(grams).T
    calibrated = calibration(rng, cka, 0.16)
    neighbors = {}
    for k in ks:
        recall = np.minimum(cka * (0.3 + k / 400) + k / IMAGES, 1)
        np.fill_diagonal(recall, 1)
        neighbors[k] = CalibratedRecall(recall, calibration(rng, recall, k / IMAGES))
    return CkaDomain(
        images=ImageSet(
            source=f"sample:{name}",
            fingerprint="0123456789abcdef" * 4,
            description=f"Pictures of {name}.",
            pictures=PICTURES[name],
        ),
        comparison=EncoderComparison(
            n=IMAGES,
            cka=cka,
            cka_debiased=(cka - 0.2) / 0.8,
            calibrated=calibrated,
            mutual_knn=neighbors,
        ),
        separation=separation(calibrated.score, paradigms),
    )


def agreement(rng: np.random.Generator, names: list[str]) -> DomainAgreement | None:
    return domain_agreement(names, symmetric(rng, len(names), 0.4, 0.8, 1.0), k=16)


def panel(encoders: int) -> list[EncoderRecord]:
    """Records of encoders of all paradigms, the first eight as the mini panel has them."""
    records = []
    for i in range(encoders):
        name, paradigm = list(PANEL.items())[i % len(PANEL)]
        records.append(
            EncoderRecord(
                name=f"mini_{name}" + (f"_{i // len(PANEL)}" if i >= len(PANEL) else ""),
                family=("resnet", "convnext", "vit")[i % 3],
                paradigm=paradigm,
                width=(128, 96, 192)[i % 3],
                parameters=400_000 + 31_337 * i,
                source="bundled",
                revision=None,
                sha256=f"{i + 10:02x}" * 32,
            )
        )
    return records


def run_of(experiment: str, encoders: list[EncoderRecord]) -> Run:
    """How a result is said to be made."""
    return Run(
        experiment=experiment,
        command=f"python -m experiments.{experiment} --out=runs/first --encoders=all",
        versions={"python": "3.11.11", "substrate_jax": "0.1.0", "jax": "0.10.2"},
        devices={"platform": "cpu", "kind": "cpu", "count": 1, "mesh": "data=1"},
        seconds={"load": 1.2, "extract": 33.4, "analyse": 2.1, "report": None, "total": 38.0},
        arguments={"encoders": ["all"], "out": "runs/first", "batch_size": 64, "store": None},
        encoders=encoders,
        notes=["Weights are those bundled with the package."],
    )


def synthetic_result(
    encoders: int = 8, domains: int = 5, seed: int = 0, ks=(10, 30, 100)
) -> CkaResult:
    """A result as experiments.cka makes it, from random features that share a part."""
    rng = np.random.default_rng(seed)
    records = panel(encoders)
    paradigms = [record.paradigm for record in records]
    names = list(PICTURES)[:domains]
    return CkaResult(
        run=run_of("cka", records),
        domains={name: domain_result(rng, name, paradigms, ks) for name in names},
        pcka=agreement(rng, names),
    )
