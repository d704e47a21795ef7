"""Seconds of the analysis of domains, on random features of the paper's shared panel.

Everything that `experiments.domains` computes once features exist, but for the panel test: the
comparison with its resamples, and the controls. Compilation is part of a first run, so the first
time is given beside that of a second run.
"""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from .results import StageTime

WIDTHS = {
    "resnet50": 2048,
    "convnext_base": 1024,
    "vit_base": 768,
    "efficientnet_b0": 1280,
    "dinov2_base": 768,
}
DOMAINS = 8


def measure_stages(rows: int, shrink: int, seed: int) -> Iterator[StageTime]:
    """The seconds of each stage, as it is measured.

    Args:
        rows: images per domain.
        shrink: what widths are divided by.
        seed: of the features.
    """
    from substrate_jax.analyses.domains.compare import compare_domains
    from substrate_jax.analyses.domains.controls import control_agreement

    rng = np.random.default_rng(seed)
    widths = {name: max(width // shrink, 4) for name, width in WIDTHS.items()}
    total = sum(widths.values())
    shared = rng.standard_normal((64, total), np.float32)

    def features() -> dict[str, dict[str, np.ndarray]]:
        """Domains with a decaying spectrum in directions of their own weights, and noise."""
        found = {}
        for number in range(DOMAINS):
            scale = np.arange(1, 65) ** -0.7 * np.exp(0.5 * rng.standard_normal(64))
            x = rng.standard_normal((rows, 64), np.float32) * scale.astype(np.float32) @ shared
            x += 0.5 * rng.standard_normal(x.shape, np.float32)
            blocks = np.split(x, np.cumsum(list(widths.values()))[:-1], axis=1)
            found[f"domain {number}"] = dict(zip(widths, blocks, strict=True))
        return found

    domains, untrained = features(), features()
    images = {
        name: {
            "pixels": rng.uniform(size=(rows, 3072)).astype(np.float32),
            "handcrafted": rng.standard_normal((rows, 59), np.float32),
        }
        for name in domains
    }
    families = ["resnet", "convnext", "vit", "efficientnet", "vit"]
    k = min(16, rows // 4)

    def compare():
        return compare_domains(domains, families, k=k, seed=seed)[1]

    def control(fits):
        return control_agreement(
            dict(zip(fits.names, fits.x, strict=True)),
            dict(zip(fits.names, fits.bases, strict=True)),
            list(widths.values()),
            images,
            untrained_panels=[untrained],
            seed=seed,
        )

    first, fits = _seconds(compare)
    again, _ = _seconds(compare)
    yield StageTime(stage="comparison", rows=rows, first_seconds=first, seconds=again)
    first, _ = _seconds(lambda: control(fits))
    again, _ = _seconds(lambda: control(fits))
    yield StageTime(stage="controls", rows=rows, first_seconds=first, seconds=again)


def _seconds(call) -> tuple[float, Any]:
    start = time.perf_counter()
    found = call()
    return time.perf_counter() - start, found
