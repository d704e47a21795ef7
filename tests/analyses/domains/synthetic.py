"""Results as experiments.domains makes them, of numbers drawn at random, and contact sheets."""

import itertools

import numpy as np

from substrate_jax.analyses.domains.controls import READINGS
from substrate_jax.features.handcrafted import FEATURE_NAMES
from tests.synthetic import PICTURES, symmetric, synthetic_result

K, K_MAX, N = 16, 64, 512
FEATURES = (*FEATURE_NAMES[:2], *FEATURE_NAMES[8:14], "luminance", "image energy")
KS = (4, 8, 12, 16, 24, 32, 64)


def pairs_of(matrix) -> np.ndarray:
    return np.asarray(matrix)[np.triu_indices(len(matrix), 1)]


def agreement(rng, names: list[str]) -> dict:
    m = len(names)
    matrix = symmetric(rng, m, 0.42, 0.78, 1.0)
    error = symmetric(rng, m, 0.005, 0.02, 0.0)
    p_value = symmetric(rng, m, 1e-40, 1e-30, np.nan)
    values, pairs = pairs_of(matrix), list(itertools.combinations(names, 2))
    median = float(np.median(values))
    return {
        "matrix": matrix, "low": matrix - 2 * error, "high": matrix + 2 * error, "error": error,
        "draws": 50, "level": 0.95, "median": median, "median_low": median - 0.02,
        "median_high": median + 0.02, "min": float(values.min()),
        "min_pair": list(pairs[int(np.argmin(values))]), "alpha": 0.05,
        "tau": np.full((m, m), 0.09), "p_value": p_value, "log10_p_value": np.log10(p_value),
        "q_value": 2 * p_value,
    }  # fmt: skip


def companion(matrix) -> dict:
    return {
        "matrix": matrix,
        "median": float(np.median(pairs_of(matrix))),
        "rank_correlation": 0.93 if len(matrix) > 2 else None,
    }


def sweep_of(median: float) -> dict:
    medians = [median + 0.25 * (np.log(k / 16) / 3 - (k > 16) * np.log(k / 16) / 2.6) for k in KS]
    ends = {"low": -0.02, "high": 0.02, "least": -0.18, "greatest": 0.17}
    return {"ks": list(KS), "median": medians} | {
        key: [value + change for value in medians] for key, change in ends.items()
    }


def control_results(rng, names: list[str]) -> dict:
    """What `control_agreement` gives; pixels stand above the substrate."""
    middles = {"pixels": 0.75, "handcrafted": 0.31, "random": 0.06, "shuffled": 0.1}
    middles["untrained"] = 0.55
    found: dict = {}
    for reading in READINGS:
        center = middles[reading.control] - 0.05 * (not reading.primary)
        draws = {"random": 50, "shuffled": 5}.get(reading.control, 1)
        values = {"paper": reading.paper, "paper_high": reading.paper_high, "draws": draws}
        if reading.name == "overlap":
            scores = rng.uniform(0.1, 0.8, len(names))
        else:
            matrix = np.clip(symmetric(rng, len(names), center - 0.1, center + 0.1, 1.0), 0, 1)
            values["matrix"], scores = matrix, pairs_of(matrix)
        ends = (None, None)
        if draws > 1:
            scores = rng.normal(center, 0.005, draws)
            ends = np.quantile(scores, [0.05, 0.95])
        values |= {"values": scores, "median": np.median(scores), "low": ends[0], "high": ends[1]}
        values["item_high"] = None if draws == 1 else center + 0.1
        found.setdefault(reading.control, {})[reading.name] = values
    return found


def component_reading(rng) -> dict:
    correlation = np.clip(rng.normal(0, 0.12, (K, len(FEATURES))), -1, 1)
    correlation[0, -1], correlation[1, 2] = 0.82, -0.44
    correlation[:, 0] = np.nan
    return {
        "features": FEATURES,
        "correlation": correlation,
        "low": correlation - 0.08,
        "high": correlation + 0.08,
        "q_value": np.where(np.isnan(correlation), np.nan, np.exp(-(correlation**2) * N)),
        "energy_of_first": 0.82,
        "largest_of_others": {
            "correlation": -0.44,
            "component": 1,
            "feature": FEATURES[2],
        },
    }


def separation_test(rng, encoders: list[dict], high: float, low: float) -> dict:
    kinds = {"supervised": "D", "self_supervised": "D", "masked_reconstruction": "M"}
    pairs = []
    for a, b in itertools.combinations(encoders, 2):
        both = {kinds.get(encoder["paradigm"], "?") for encoder in (a, b)}
        kind = {"D": "discriminative", "M": "mim"}.get("".join(both), "other")
        score = rng.uniform(0.8, 1.2) * (high if kind == "discriminative" else low)
        pairs.append({"a": a["name"], "b": b["name"], "kind": kind, "score": score,
                      "raw": score + 0.05})  # fmt: skip
    found: dict = {"pairs": pairs}
    for kind in ("discriminative", "mim"):
        scores = [pair["score"] for pair in pairs if pair["kind"] == kind]
        mean = float(np.mean(scores)) if scores else None
        ends = {"low": mean and mean - 0.01, "high": mean and mean + 0.01}
        found[kind] = {"mean": mean, **ends, "pairs": len(scores)}
    means = [found[kind]["mean"] for kind in ("discriminative", "mim")]
    ratio = None if None in means else means[0] / means[1]
    found["ratio"] = {"value": ratio, "low": ratio and 0.9 * ratio, "high": ratio and 1.2 * ratio}
    found["leave_out"] = [
        {"family": family, "encoders": [e["name"] for e in encoders if e["family"] == family],
         "ratio": ratio, "low": ratio, "high": None, "discriminative_mean": means[0]}
        for family in dict.fromkeys(encoder["family"] for encoder in encoders)
    ]  # fmt: skip
    return found


def panel_test(rng, encoders: list[dict], names: list[str]) -> dict:
    tests = {
        name: {
            "cka": separation_test(rng, encoders, 0.6, 0.15 + 0.05 * i),
            "mutual_knn": {
                str(k): separation_test(rng, encoders, 0.3 + k / 300, 0.1) for k in (10, 30, 100)
            },
            "n": N,
        }
        for i, name in enumerate([*names, "pooled"])
    }
    return {"domains": tests, "alpha": 0.05, "draws": 50, "level": 0.95}


def domains_result(encoders: int = 15, domains: int = 8, seed: int = 0) -> dict:
    """A result as experiments.domains makes it, of numbers drawn at random."""
    rng = np.random.default_rng(seed)
    base = synthetic_result(encoders, 1, ks=())
    names, panel = list(PICTURES)[:domains], base["encoders"]
    records = {}
    for name in names:
        ratios = np.sort(rng.dirichlet(np.full(200, 0.15)))[::-1][:K_MAX]
        records[name] = {
            "source": f"sample:{name}", "fingerprint": "0123456789abcdef" * 4,
            "description": f"Pictures of {name}.", "pictures": PICTURES[name], "n": N,
            "explained_variance_ratio": ratios,
        }  # fmt: skip
    pcka = agreement(rng, names)
    matrix, median = pcka["matrix"], pcka["median"]
    own = {key: base[key] for key in ("command", "versions", "devices", "seconds", "arguments")}
    return own | {
        "experiment": "domains", "encoders": panel, "notes": ["Weights are bundled."], "k": K,
        "domains": records, "pcka": pcka, "grassmann": companion(0.95 * matrix),
        "procrustes": companion(1 - matrix), "sweep": sweep_of(median),
        "leave_one_out": {
            "none": median,
            "encoders": [
                {"left_out": e["name"], "median": median + rng.normal(0, 0.02), "min": 0.3}
                for e in panel
            ],
            "families": [
                {"left_out": f, "encoders": [e["name"] for e in panel if e["family"] == f],
                 "median": median + rng.normal(0, 0.04), "min": 0.3}
                for f in dict.fromkeys(e["family"] for e in panel)
            ],
        },
        "split_half": {
            "splits": 10, "n": N // 2, "between": median - 0.03,
            "ceiling": {
                name: {"mean": mean, "low": mean - 0.03, "high": mean + 0.02}
                for name, mean in zip(names, rng.uniform(0.85, 0.95, domains), strict=True)
            },
        },
        "controls": control_results(rng, names),
        "components": {name: component_reading(rng) for name in names},
        "panel_test": panel_test(rng, panel, names),
    }  # fmt: skip


def contact_sheets(names, components: int = K, images: int = 6, seed: int = 0) -> dict:
    """Images whose brightness is that of their end, of three shapes."""
    rng = np.random.default_rng(seed)
    shapes = [(48, 48), (32, 64), (90, 60)]

    def picture(level: int) -> np.ndarray:
        noise = rng.integers(0, 40, (*shapes[rng.integers(3)], 3))
        return (level + noise + rng.integers(0, 30, 3)).astype(np.uint8)

    return {
        name: [
            {"component": i, "top": [picture(170) for _ in range(images)],
             "bottom": [picture(20) for _ in range(images)]}
            for i in range(components)
        ]
        for name in names
    }  # fmt: skip
