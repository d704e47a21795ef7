"""Seconds per encoder of every score of transferability, on random features.

A score stands alone here: the principal coordinates, which `score_encoders` finds once for all,
are part of the time of each. Scores of a panel are timed on three encoders, and divided by three.

The published LogME (github.com/thuml/LogME, LogME.py) is no package. Where its file is given, its
default algorithm is timed on the same features.
"""

import functools
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .results import ScoreTime, SkippedStep

ROWS, WIDTHS, CLASSES, PANEL = (1000, 10_000), (768, 2048), 10, 3
LEAST = 60  # rows: NLEEP takes five components per class, the probe five folds
LONG = 5.0  # seconds beyond which a call is not repeated
PUBLISHED = "LogME, as published"


def published_logme(path: str) -> Callable[[np.ndarray, np.ndarray], float]:
    """The function of a file, as LogME().fit.

    Raises:
        ValueError: no such file, one that cannot be imported, or one without LogME.
    """
    try:
        spec = importlib.util.spec_from_file_location("published_logme", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.LogME().fit
    except (AssertionError, AttributeError, OSError, ImportError, SyntaxError) as error:
        raise ValueError(
            f"logme={path!r}: give LogME.py of github.com/thuml/LogME, with numba installed "
            f"({type(error).__name__}: {error})"
        ) from error


def measure_scores(
    rows: tuple[int, ...],
    shrink: int,
    repeats: int,
    seed: int,
    logme: Callable[[np.ndarray, np.ndarray], float] | None,
    seconds_left: Callable[[], float],
) -> Iterator[ScoreTime | SkippedStep]:
    """The seconds of each score at each size, as they are measured, or what did not fit.

    Args:
        rows: numbers of rows.
        shrink: what widths are divided by.
        repeats: timed calls, of which the median counts.
        seed: of the features.
        logme: the published code; None without.
        seconds_left: of the budget. A score is left out where the time at the size before, by the
            ratio of rows x width x the smaller of both, would pass it.
    """
    from substrate_jax.analyses.transferability.scores.table import PANEL as OF_A_PANEL
    from substrate_jax.analyses.transferability.scores.table import SCORES, SOURCE

    functions: dict[str, Callable[..., Any]] = {
        name: score.function for name, score in SCORES.items() if SOURCE not in score.needs
    }
    if logme is not None:
        functions[PUBLISHED] = logme
    last: dict[str, tuple[float, float]] = {}
    for n in rows:
        for d in (width // shrink for width in WIDTHS):
            x, labels = _features(n, d, seed)
            work = float(n) * d * min(n, d)
            for name, function in functions.items():
                label = SCORES[name].title if name in SCORES else name
                expected = last[name][0] * work / last[name][1] if name in last else 0.0
                if expected * (1 if expected > LONG else 1 + repeats) > seconds_left():
                    yield SkippedStep(label, f"N = {n:,}, D = {d:,}", expected)
                    continue
                panel = name in SCORES and OF_A_PANEL in SCORES[name].needs
                given = dict.fromkeys("abc", x) if panel else x
                count = len(given) if isinstance(given, dict) else 1
                first, median = _time(functools.partial(function, given, labels), repeats)
                last[name] = (median, work)
                yield ScoreTime(label, n, d, CLASSES, first / count, median / count)


def _features(n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """64 directions of decaying strength and noise, as features have; classes a little apart."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    strength = np.arange(1, 65, dtype=np.float32) ** -0.7
    latent = rng.standard_normal((n, 64), np.float32)
    latent += 0.5 * rng.standard_normal((CLASSES, 64), np.float32)[labels]
    directions = strength[:, None] * rng.standard_normal((64, d), np.float32)
    return latent @ directions + 0.5 * rng.standard_normal((n, d), np.float32), labels


def _time(call: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Seconds of the first call, and the median of the repeats."""
    times = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
        if times[-1] > LONG and len(times) > 1:
            break
    return times[0], statistics.median(times[1:])
