"""The detector: which of its domains an image is from, or none, from a panel's features.

    substrate scores -> logistic regression -> domain and its probability
                     -> a score of `scores`  -> p-value within that domain -> abstain where p <= a

It is fitted to some rows and calibrated by others. Saved it is two files, NAME.safetensors with
all arrays and NAME.json with names and settings; nothing is unpickled, and the hash in the one
tells whether the other belongs to it.

Cost: per row 2 D k flops for the scores and 2 D k for the residual.

Not guaranteed: that features come from the weights that it was fitted with; `encoders` holds their
hashes, which the launcher compares.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from substrate_jax.analyses.detector import saved
from substrate_jax.analyses.detector.classify import Classifier, fit_classifier, probabilities
from substrate_jax.analyses.detector.conformal import p_values
from substrate_jax.analyses.detector.parts import deal
from substrate_jax.analyses.detector.scores import SCORES, Reference, likeness, on_substrate
from substrate_jax.substrate import COMPONENTS, Substrate
from substrate_jax.substrate.domains import Domains, Panel, check_components, check_domains

SCORE = "neighbors"
ALPHA = 0.05


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """What a detector says of n rows.

    Attributes:
        domains: names of those that it knows.
        codes: [n] the most probable one of each row.
        probabilities: [n, C], rows sum to 1.
        p_values: [n] how usual the row is among rows of the domain that it is answered with.
        abstained: [n] whether p is at most alpha: the answer should not be used.
        scores: name -> [n], all scores of `scores`; higher is more like the rows fitted to.
    """

    domains: tuple[str, ...]
    codes: Int[np.ndarray, " n"]
    probabilities: Float64[np.ndarray, "n C"]
    p_values: Float64[np.ndarray, " n"]
    abstained: Bool[np.ndarray, " n"]
    scores: Mapping[str, Float64[np.ndarray, " n"]]

    @property
    def names(self) -> list[str]:
        """Most probable domain of each row, abstained from or not."""
        return [self.domains[code] for code in self.codes]

    @property
    def confidence(self) -> Float64[np.ndarray, " n"]:
        """Probability of that domain."""
        return self.probabilities[np.arange(len(self.codes)), self.codes]


@dataclasses.dataclass(frozen=True, eq=False)
class DomainDetector:
    """Tells which domain features are from, and abstains where they are from none.

    Attributes:
        domains: names.
        substrate: of the rows fitted to, of all domains together.
        classifier: of the domain, on the substrate's scores.
        reference: of the rows fitted to, for the scores.
        score: the one that p-values are of.
        alpha: share of rows of its own domains that it may turn away.
        calibration: [q] that score of the calibration rows.
        calibration_codes: [q] domain that each of these is answered with.
        encoders: name -> SHA-256 of the weights, None where unknown.
        settings: further strings that features depend on, such as the normalization.
    """

    domains: tuple[str, ...]
    substrate: Substrate
    classifier: Classifier
    reference: Reference
    score: str
    alpha: float
    calibration: Float64[np.ndarray, " q"]
    calibration_codes: Int[np.ndarray, " q"]
    encoders: Mapping[str, str | None]
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        domains: Domains,
        *,
        k: int = COMPONENTS,
        score: str = SCORE,
        alpha: float = ALPHA,
        seed: int = 0,
    ) -> "DomainDetector":
        """Fit to two thirds of the rows of every domain, and calibrate by the others.

        Args:
            domains: name -> encoder -> [n, d], the same encoders for all.
            k: components of the substrate.
            score: of `scores.SCORES`.
            alpha: share of rows of the domains that may be turned away.
            seed: of the deal and of the folds.

        Raises:
            ValueError: fewer than two domains, too few rows, equal rows in two domains, features
                that do not match or are not finite, an unknown score, or alpha outside (0, 1).

        Example:
            >>> rng = np.random.default_rng(0)
            >>> def rows(shift, n=90):
            ...     return {"net": (rng.normal(size=(n, 8)) + shift).astype(np.float32)}
            >>> detector = DomainDetector.fit({"day": rows(0), "night": rows(9)}, k=4)
            >>> found = detector(rows(9, n=3))
            >>> found.names, found.confidence.round(2).tolist()
            (['night', 'night', 'night'], [1.0, 1.0, 1.0])
            >>> int(detector(rows(-40, n=5)).abstained.sum())
            5
        """
        check_domains(domains)
        features = {name: dict(of) for name, of in domains.items()}
        ids = {name: [str(row) for row in range(rows_of(of))] for name, of in features.items()}
        blocks = {name: [np.asarray(x) for x in of.values()] for name, of in features.items()}
        parts = deal(blocks, ids, shares=(2 / 3, 1 / 3), seed=seed)
        return cls.of_rows(
            stacked(domains),
            parts.codes,
            parts.fit,
            parts.calibrate,
            tuple(domains),
            k=k,
            score=score,
            alpha=alpha,
            seed=seed,
        )

    @classmethod
    def of_rows(
        cls,
        features: Panel,
        codes: Int[np.ndarray, " n"],
        fitted: Bool[np.ndarray, " n"],
        calibrating: Bool[np.ndarray, " n"],
        domains: tuple[str, ...],
        *,
        k: int = COMPONENTS,
        score: str = SCORE,
        alpha: float = ALPHA,
        seed: int = 0,
        encoders: Mapping[str, str | None] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> "DomainDetector":
        """The same from rows that are dealt already.

        Args:
            features: encoder -> [n, d] of all rows.
            codes: number of the domain of each row; of rows in no part it is not read.
            fitted: rows to fit to.
            calibrating: rows to calibrate by.
            domains: names, by number.
            k: components of the substrate.
            score: of `scores.SCORES`.
            alpha: share of rows of the domains that may be turned away.
            seed: of the folds.
            encoders: name -> hash of the weights.
            settings: kept beside.

        Raises:
            ValueError: an unknown score, alpha outside (0, 1), more components than rows or
                features, or fewer than 5 rows of a domain to fit to.
        """
        if score not in SCORES:
            raise ValueError(f"score={score!r}: give one of {', '.join(SCORES)}")
        if not 0 < alpha < 1:
            raise ValueError(f"alpha={alpha}: give a share between 0 and 1")
        rows = {name: np.asarray(block)[fitted] for name, block in features.items()}
        check_components(check_domains({"fitted": rows}, least=2), k)
        substrate = Substrate.fit(rows, k)
        t, _ = on_substrate(substrate, rows)
        classifier = fit_classifier(t, codes[fitted], seed=seed)
        reference = Reference.of(t, codes[fitted])
        known = dict.fromkeys(features) if encoders is None else dict(encoders)
        empty = np.zeros(0), np.zeros(0, int)
        found = cls(
            domains,
            substrate,
            classifier,
            reference,
            score,
            float(alpha),
            *empty,
            known,
            dict(settings or {}),
        )
        answers = found({name: np.asarray(block)[calibrating] for name, block in features.items()})
        return dataclasses.replace(
            found, calibration=answers.scores[score], calibration_codes=answers.codes
        )

    def __call__(self, features: Panel) -> Answers:
        """Domain, probability and p-value of each row.

        Args:
            features: encoder -> [n, d], of the encoders it was fitted with, in any order.

        Raises:
            ValueError: another panel; the message has both. NaN or infinity.
        """
        widths = {name: block.shape[1] for name, block in features.items()}
        own = dict(zip(self.substrate.encoders, self.substrate.widths, strict=True))
        if widths != own:
            raise ValueError(
                f"features are of {_panel(widths)}, and the detector was fitted on {_panel(own)}: "
                "give that panel"
            )
        check_domains({"to answer": features}, least=0)
        t, outside = on_substrate(self.substrate, features)
        logits = self.classifier.logits(t)
        codes = logits.argmax(axis=1)
        scores = likeness(self.reference, t, logits, outside)
        p = p_values(scores[self.score], codes, self.calibration, self.calibration_codes)
        return Answers(self.domains, codes, probabilities(logits), p, p <= self.alpha, scores)

    def save(self, path: str | Path) -> Path:
        """Write `path`.safetensors and `path`.json; each appears whole or not at all.

        Args:
            path: without a suffix, or with one of the two.

        Returns:
            Path of the JSON file.
        """
        arrays = {
            "origin": self.substrate.origin,
            "offset": self.substrate.offset,
            "scale": self.substrate.scale,
            "basis": self.substrate.basis,
            "explained_variance_ratio": self.substrate.explained_variance_ratio,
            "weight": self.classifier.weight,
            "bias": self.classifier.bias,
            "rows": self.reference.rows,
            "means": self.reference.means,
            "precision": self.reference.precision,
            "mean": self.reference.mean,
            "all_precision": self.reference.all_precision,
            "calibration": self.calibration,
            "calibration_codes": self.calibration_codes.astype(np.int64),
        }
        described = {
            "domains": list(self.domains),
            "encoders": dict(self.encoders),
            "widths": dict(zip(self.substrate.encoders, self.substrate.widths, strict=True)),
            "score": self.score,
            "alpha": self.alpha,
            "strength": self.classifier.strength,
            "fold_loss": self.classifier.fold_loss,
            "unsolved": self.classifier.unsolved,
            "settings": dict(self.settings),
        }
        return saved.write(Path(path), arrays, described)

    @classmethod
    def load(cls, path: str | Path) -> "DomainDetector":
        """Read what `save` wrote.

        Args:
            path: of either file, without a suffix, or of the folder of a run.

        Raises:
            ValueError: files that are missing, damaged, or do not belong together.

        Example:
            >>> x = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32)
            >>> domains = {"a": {"net": x[:40]}, "b": {"net": x[40:] + 5}}
            >>> path = DomainDetector.fit(domains, k=2).save("detector")
            >>> DomainDetector.load(path)({"net": x[:2]}).names
            ['a', 'a']
        """
        arrays, described = saved.read(Path(path))
        widths = described["widths"]
        substrate = Substrate(
            tuple(widths),
            tuple(widths.values()),
            **{name: saved.on_device(arrays[name]) for name in saved.SUBSTRATE},
        )
        fit = (described[name] for name in ("strength", "fold_loss", "unsolved"))
        return cls(
            domains=tuple(described["domains"]),
            substrate=substrate,
            classifier=Classifier(arrays["weight"], arrays["bias"], *fit),
            reference=Reference(**{name: arrays[name] for name in saved.REFERENCE}),
            score=described["score"],
            alpha=described["alpha"],
            calibration=arrays["calibration"],
            calibration_codes=arrays["calibration_codes"],
            encoders=described["encoders"],
            settings=described["settings"],
        )


def stacked(domains: Domains) -> dict[str, Float[np.ndarray, "n _"]]:
    """Encoder -> rows of all domains, one domain after another.

    Example:
        >>> stacked({"a": {"net": np.ones((1, 2))}, "b": {"net": np.zeros((2, 2))}})["net"].shape
        (3, 2)
    """
    first = next(iter(domains.values()))
    return {
        encoder: np.concatenate([np.asarray(of[encoder]) for of in domains.values()])
        for encoder in first
    }


def rows_of(features: Panel) -> int:
    """Rows of a panel's features; 0 without encoders."""
    return next((block.shape[0] for block in features.values()), 0)


def _panel(widths: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({width})" for name, width in widths.items()) or "no encoder"
