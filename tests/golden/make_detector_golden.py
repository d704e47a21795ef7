"""AUROC of pytorch-ood's detectors on drawn features, as `tests/golden/detector.json` has it.

    python -m tests.golden.make_detector_golden

writes the file; it needs torch and pytorch-ood, which no test does. There the positive class is the
unknown one, so its FPR at 95 % is of known rows where 95 % of the unknown are found; both ways are
recorded. Its AUPR is by trapezoids, which is another number than average precision.
"""

import importlib.metadata
import json
from pathlib import Path

import numpy as np

PATH = Path(__file__).parent / "detector.json"
NEIGHBOR = 10


def drawn() -> dict[str, np.ndarray]:
    """Rows fitted to with their classes, known and unknown rows, and logits of the latter two."""
    rng = np.random.default_rng(7)
    codes = np.arange(240) % 3
    mix, centers = rng.normal(size=(5, 5)), 2 * rng.normal(size=(3, 5))
    weight = rng.normal(size=(5, 3))
    fitted = rng.normal(size=(240, 5)) @ mix + centers[codes]
    known = rng.normal(size=(90, 5)) @ mix + centers[codes[:90]]
    unknown = 1.5 * rng.normal(size=(60, 5)) @ mix + 2 * rng.normal(size=5)
    return {
        "fitted": fitted,
        "codes": codes,
        "known": known,
        "unknown": unknown,
        "known_logits": known @ weight,
        "unknown_logits": unknown @ weight,
    }


def main() -> None:
    import torch
    from pytorch_ood.detector import KNN, RMD, EnergyBased, Mahalanobis, MaxSoftmax
    from pytorch_ood.metrics import OODMetrics

    torch.set_default_dtype(torch.float64)
    data = {name: torch.as_tensor(x) for name, x in drawn().items()}
    both = torch.cat([data["known"], data["unknown"]])
    logits = torch.cat([data["known_logits"], data["unknown_logits"]])
    fit = data["fitted"], data["codes"]
    near = KNN(None, k=NEIGHBOR, normalize=False).fit_features(*fit)
    outlier = {
        "softmax": MaxSoftmax.score(logits),
        "energy": EnergyBased.score(logits),
        "mahalanobis": Mahalanobis(None).fit_features(*fit).predict_features(both),
        "relative": RMD(None).fit_features(*fit).predict_features(both),
        "neighbors": near.predict_features(both),
    }
    n, m = len(data["known"]), len(data["unknown"])
    found = {}
    for name, score in outlier.items():
        unknown = torch.cat([torch.zeros(n), -torch.ones(m)]).long()
        there = OODMetrics().update(score, unknown).compute()
        swapped = OODMetrics().update(-score, -1 - unknown).compute()
        found[name] = {
            "auroc": float(there["AUROC"]),
            "fpr95_of_unknown": float(swapped["FPR95TPR"]),
            "fpr95_of_known": float(there["FPR95TPR"]),
        }
    version = importlib.metadata.version("pytorch-ood")
    PATH.write_text(json.dumps({"pytorch-ood": version, "scores": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
