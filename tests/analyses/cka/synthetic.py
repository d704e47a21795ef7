"""Results as experiments.cka makes them, from random features."""

import itertools

import numpy as np

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


def calibration(rng: np.random.Generator, observed: np.ndarray, level: float) -> dict:
    tau = symmetric(rng, len(observed), 0.8 * level, 1.2 * level, level)
    p_value = np.exp(-3 * (observed / tau) ** 2)
    np.fill_diagonal(p_value, np.nan)
    score = np.maximum((observed - tau) / (1 - tau), 0)
    return {"score": score, "tau": tau, "p_value": p_value, "q_value": np.minimum(1.3 * p_value, 1)}


def separation(score: np.ndarray, paradigms: list[str]) -> dict:
    found = {}
    groups = {"discriminative": {"supervised", "self_supervised"}, "mim": {"masked_reconstruction"}}
    for name, group in groups.items():
        members = [i for i, paradigm in enumerate(paradigms) if paradigm in group]
        values = [score[pair] for pair in itertools.combinations(members, 2)]
        found[f"{name}_mean"] = float(np.mean(values)) if values else None
        found[f"{name}_pairs"] = len(values)
    high, low = found["discriminative_mean"], found["mim_mean"]
    return found | {"ratio": high / low if high is not None and low else None}


def domain_result(rng: np.random.Generator, name: str, paradigms: list[str], ks) -> dict:
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
        neighbors[str(k)] = {"recall": recall} | calibration(rng, recall, k / IMAGES)
    return {
        "n": IMAGES,
        "source": f"sample:{name}",
        "fingerprint": "0123456789abcdef" * 4,
        "description": f"Pictures of {name}.",
        "pictures": PICTURES[name],
        "cka": cka,
        "cka_debiased": (cka - 0.2) / 0.8,
        "calibrated": {"method": "closed_form", "alpha": 0.05} | calibrated,
        "mutual_knn": neighbors,
        "separation": separation(calibrated["score"], paradigms),
    }


def agreement(rng: np.random.Generator, names: list[str]) -> dict | None:
    if len(names) < 2:
        return None
    matrix = symmetric(rng, len(names), 0.4, 0.8, 1.0)
    pairs = list(itertools.combinations(range(len(names)), 2))
    values = [float(matrix[pair]) for pair in pairs]
    least = pairs[int(np.argmin(values))]
    return {
        "domains": names,
        "matrix": matrix,
        "median": float(np.median(values)),
        "min": min(values),
        "min_pair": [names[i] for i in least],
        "k": 16,
    }


def synthetic_result(encoders: int = 8, domains: int = 5, seed: int = 0, ks=(10, 30, 100)) -> dict:
    """A result as experiments.cka makes it, from random features that share a part."""
    rng = np.random.default_rng(seed)
    panel = []
    for i in range(encoders):
        name, paradigm = list(PANEL.items())[i % len(PANEL)]
        panel.append(
            {
                "name": f"mini_{name}" + (f"_{i // len(PANEL)}" if i >= len(PANEL) else ""),
                "family": ("resnet", "convnext", "vit")[i % 3],
                "paradigm": paradigm,
                "width": (128, 96, 192)[i % 3],
                "parameters": 400_000 + 31_337 * i,
                "source": "bundled",
                "sha256": f"{i + 10:02x}" * 32,
            }
        )
    paradigms = [encoder["paradigm"] for encoder in panel]
    names = list(PICTURES)[:domains]
    return {
        "experiment": "cka",
        "command": "python -m experiments.cka --out=runs/first --encoders=all",
        "versions": {"python": "3.11.11", "substrate_jax": "0.1.0", "jax": "0.10.2"},
        "devices": {"platform": "cpu", "kind": "cpu", "count": 1, "mesh": "data=1"},
        "seconds": {"load": 1.2, "extract": 33.4, "analyse": 2.1, "report": None, "total": 38.0},
        "arguments": {"encoders": ["all"], "out": "runs/first", "batch_size": 64, "store": None},
        "encoders": panel,
        "domains": {name: domain_result(rng, name, paradigms, ks) for name in names},
        "pcka": agreement(rng, names),
        "notes": ["Weights are those bundled with the package."],
    }
