"""One table of scores, and all of them of all encoders of a panel.

`SCORES` maps a name to a `Score`. A score of labels is a function(features, labels, **options) of
one encoder; one that needs the panel is function(panel, labels, **options) of all of them, and
gives an array; one that needs source probabilities takes them in place of features.

`score_encoders` finds the principal coordinates of an encoder once for all scores that use them,
and holds those of one encoder at a time.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

from substrate_jax.analyses.threads import fitting

from .bhattacharyya import gbc
from .coding_rate import transrate
from .consensus import subs_rank
from .coordinates import principal_coordinates
from .discriminant import ncti, ncti_terms, sfda
from .energy import energy
from .evidence import logme
from .h_score import h_score, shrunk_h_score
from .inputs import checked_features, classes_of
from .mixture import nleep
from .neighbors import knn_accuracy
from .probe import probe_accuracy
from .representation import parc
from .source_head import leep, nce

LABELS, PANEL, SOURCE = "labels", "panel", "source_probabilities"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """A score of transferability.

    Attributes:
      name: as in `SCORES`.
      title: what it is called in print.
      function: of features, a panel or source probabilities, and labels.
      needs: of "labels", "panel" and "source_probabilities", what it needs beside features.
      citation: authors, year and arXiv number.
      cost: of one encoder, in rows n, features d, classes C and r = min(n, d), given the principal
        coordinates if `shares` them.
      direction: 1 if higher is better; -1 if lower is.
      shares: what it uses of the principal coordinates: "rows", "squares" alone, or "nothing".
      options: which of `k` and `seed` of `score_encoders` it takes.
      terms: for a score of a panel, what of one encoder serves it as well as features.

    Example:
      >>> SCORES["logme"].citation
      'You et al. 2021, arXiv:2102.11005'
      >>> [name for name, score in SCORES.items() if "panel" in score.needs]
      ['subs_rank', 'ncti']
    """

    name: str
    title: str
    function: Callable[..., Any]
    needs: tuple[str, ...]
    citation: str
    cost: str
    direction: Literal[1, -1] = 1
    shares: Literal["rows", "squares", "nothing"] = "rows"
    options: tuple[str, ...] = ()
    terms: Callable[..., Any] | None = None


_ALL = (
    Score(
        name="subs_rank",
        title="subs-rank",
        function=subs_rank,
        needs=(PANEL,),
        citation="Radwan 2026, arXiv:2606.07882",
        cost="4 n d (k + 16) per pass",
        shares="nothing",
        options=("k",),
    ),
    Score(
        name="logme",
        title="LogME",
        function=logme,
        needs=(LABELS,),
        citation="You et al. 2021, arXiv:2102.11005",
        cost="r C per step, of some 20",
        shares="squares",
    ),
    Score(
        name="h_score",
        title="H-score",
        function=h_score,
        needs=(LABELS,),
        citation="Bao et al. 2019, arXiv:2212.10082",
        cost="n r C",
    ),
    Score(
        name="shrunk_h_score",
        title="shrunk H-score",
        function=shrunk_h_score,
        needs=(LABELS,),
        citation="Ibrahim et al. 2022, arXiv:2110.06893",
        cost="n r C",
    ),
    Score(
        name="nleep",
        title="NLEEP",
        function=nleep,
        needs=(LABELS,),
        citation="Li et al. 2021, arXiv:2011.11200",
        cost="20 n C p^2 per step, of at most 100, p components with 80% of the variance",
        options=("seed",),
    ),
    Score(
        name="sfda",
        title="SFDA",
        function=sfda,
        needs=(LABELS,),
        citation="Shao et al. 2022, arXiv:2207.03036",
        cost="4 n r^2 + r^3",
    ),
    Score(
        name="gbc",
        title="GBC",
        function=gbc,
        needs=(LABELS,),
        citation="Pándy et al. 2022, arXiv:2111.12780",
        cost="64 n C + 64 C^2",
    ),
    Score(
        name="ncti",
        title="NCTI",
        function=ncti,
        needs=(LABELS, PANEL),
        citation="Wang et al. 2023, ICCV",
        cost="64^2 n + n C^2",
        terms=ncti_terms,
    ),
    Score(
        name="parc",
        title="PARC",
        function=parc,
        needs=(LABELS,),
        citation="Bolya et al. 2021, arXiv:2111.06977",
        cost="32 n^2 + n^2 log n",
    ),
    Score(
        name="transrate",
        title="TransRate",
        function=transrate,
        needs=(LABELS,),
        citation="Huang et al. 2022, arXiv:2106.09362",
        cost="C min(m, r)^2 max(m, r), m rows of the largest class",
    ),
    Score(
        name="energy",
        title="ETran's energy",
        function=energy,
        needs=(),
        citation="Gholami et al. 2023, arXiv:2308.02027",
        cost="n d",
        shares="nothing",
    ),
    Score(
        name="knn",
        title="kNN accuracy",
        function=knn_accuracy,
        needs=(LABELS,),
        citation="Fix and Hodges 1951",
        cost="n^2 r",
    ),
    Score(
        name="probe",
        title="linear probe, cross-validated",
        function=probe_accuracy,
        needs=(LABELS,),
        citation="Zhai et al. 2019, arXiv:1910.04867",
        cost="7 (n^2 r / 5 + n^3 / 25)",
        options=("seed",),
    ),
    Score(
        name="leep",
        title="LEEP",
        function=leep,
        needs=(LABELS, SOURCE),
        citation="Nguyen et al. 2020, arXiv:2002.12462",
        cost="n C S, S source classes",
        shares="nothing",
    ),
    Score(
        name="nce",
        title="NCE",
        function=nce,
        needs=(LABELS, SOURCE),
        citation="Tran et al. 2019, arXiv:1908.08142",
        cost="n S, S source classes",
        shares="nothing",
    ),
)
SCORES: Mapping[str, Score] = MappingProxyType({score.name: score for score in _ALL})


@dataclasses.dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores of the encoders of a panel for one target.

    Attributes:
      encoders: E names.
      scores: S names, of `SCORES`.
      values: [E, S]; NaN where a score has no value for an encoder.
      seconds: [S] that each score took for all encoders, with another beside it.
      shared_seconds: that the principal coordinates of all encoders took.
      reasons: score -> encoder -> why it has no value, where options or labels do not allow one.
    """

    encoders: tuple[str, ...]
    scores: tuple[str, ...]
    values: Float64[np.ndarray, "E S"]
    seconds: Float64[np.ndarray, " S"]
    shared_seconds: float
    reasons: Mapping[str, Mapping[str, str]]


def score_encoders(
    features: Mapping[str, ArrayLike],
    labels: ArrayLike,
    *,
    scores: Sequence[str] | None = None,
    source_probabilities: Mapping[str, ArrayLike] | None = None,
    k: int = 16,
    seed: int = 0,
) -> ScoreTable:
    """Every score of every encoder for one target.

    Args:
      features: encoder -> [n, d_e] floating-point, rows aligned.
      labels: [n] integers >= 0 of at least two classes.
      scores: names of `SCORES`; None for all that the inputs allow.
      source_probabilities: encoder -> [n, S_e] for LEEP and NCE, of encoders that have a head.
      k: components of subs-rank.
      seed: of NLEEP's clusters and of the probe's folds.

    Returns:
      The table. What a score refuses for these labels or sizes is NaN, with the reason.

    Raises:
      ValueError: no encoder, an unknown score, features or labels that no score takes, rows that
        differ, or probabilities of an encoder that is not in the panel.

    Example:
      >>> rng = np.random.default_rng(0)
      >>> labels = np.arange(60) % 3
      >>> panel = {"noise": rng.normal(size=(60, 8)).astype(np.float32)}
      >>> panel["apart"] = panel["noise"] + 3 * np.eye(3, 8, dtype=np.float32)[labels]
      >>> found = score_encoders(panel, labels, scores=["logme", "h_score"])
      >>> found.encoders, (found.values[1] > found.values[0]).tolist()
      (('noise', 'apart'), [True, True])
    """
    arrays, heads, names = _checked(features, labels, scores, source_probabilities)
    encoders = tuple(arrays)
    values = np.full((len(encoders), len(names)), np.nan)
    seconds, shared_seconds = np.zeros(len(names)), 0.0
    reasons: dict[str, dict[str, str]] = {}
    common = {"k": k, "seed": seed}
    kept: dict[str, dict[str, Any]] = {name: {} for name in names}
    uses = {SCORES[name].shares for name in names}

    def timed(column: int, function, encoder: str | None, *arguments):
        """The function's value, or None and a reason."""
        score = SCORES[names[column]]
        options = {name: common[name] for name in score.options}
        start = time.perf_counter()
        try:
            return function(*arguments, labels, **options)
        except ValueError as error:
            for each in encoders if encoder is None else (encoder,):
                reasons.setdefault(score.name, {}).setdefault(each, str(error))
        finally:
            seconds[column] += time.perf_counter() - start
        return None

    def compute(row: int, shared, column: int) -> None:
        name, encoder = names[column], encoders[row]
        score = SCORES[name]
        if PANEL in score.needs:
            if score.terms is not None:
                kept[name][encoder] = timed(column, score.terms, encoder, shared)
            return
        given = heads.get(encoder) if SOURCE in score.needs else shared
        if given is None:
            reasons.setdefault(name, {})[encoder] = "no source probabilities were given"
            return
        value = timed(column, score.function, encoder, given)
        values[row, column] = np.nan if value is None else value

    with fitting("score") as pool:
        for row, encoder in enumerate(encoders):
            start = time.perf_counter()
            shared = arrays[encoder]
            if uses - {"nothing"}:
                shared = principal_coordinates(arrays[encoder])
                jax.block_until_ready(shared.rows if "rows" in uses else shared.squares)
            shared_seconds += time.perf_counter() - start
            list(pool.map(functools.partial(compute, row, shared), range(len(names))))
    for column, name in enumerate(names):
        if PANEL in SCORES[name].needs:
            parts = kept[name] or arrays
            if all(part is not None for part in parts.values()):
                value = timed(column, SCORES[name].function, None, parts)
                values[:, column] = np.nan if value is None else value
    return ScoreTable(encoders, names, values, seconds, shared_seconds, reasons)


def _checked(features, labels, scores, source_probabilities):
    """Arrays and source probabilities by encoder, and the names of the scores."""
    if not features:
        raise ValueError("features must hold at least one encoder, got none: add one.")
    heads = dict(source_probabilities or {})
    if scores is None:
        scores = [name for name, score in SCORES.items() if heads or SOURCE not in score.needs]
    for name in scores:
        if name not in SCORES:
            raise ValueError(f"scores must be of {', '.join(SCORES)}, got {name!r}.")
        if SOURCE in SCORES[name].needs and not heads:
            raise ValueError(f"scores have {name!r}: give source_probabilities for it, got none.")
    unknown = sorted(heads.keys() - features.keys())
    if unknown:
        raise ValueError(
            f"source_probabilities must be of encoders in features, got {unknown}: drop them."
        )
    arrays = {
        name: checked_features(array, f"features[{name!r}]") for name, array in features.items()
    }
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"features must hold the same rows for all encoders, got {counts}: align.")
    classes_of(labels, next(iter(counts.values())), "a score")
    return arrays, heads, tuple(dict.fromkeys(scores))
