"""Which images a contact sheet shows: those a detector abstained from, and unknown ones it took.

Cost: one decode for each picture shown.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from substrate_jax.analyses.detector.detector import Answers
from substrate_jax.analyses.detector.measure import Measured
from substrate_jax.analyses.detector.results import SheetLine
from substrate_jax.data.sources import Source
from substrate_jax.features import Features

PICTURES = 12  # in a line


def measured_sheets(
    measured: Measured,
    known: Sequence[str],
    sources: Mapping[str, Source],
    features: Mapping[str, Features],
) -> list[SheetLine]:
    """Held-out images that the detector abstains from, and images from elsewhere that it answers.

    Args:
        measured: the detector and its answers.
        known: names of its domains.
        sources: name -> images, of the domains and of the unknown sets.
        features: name -> features, for the ids of the rows.

    Returns:
        A line for each domain or set that has such images.
    """
    ids = [(name, row_id) for name in known for row_id in features[name].ids]
    rows = [ids[row] for row in np.flatnonzero(measured.parts.held_out)]
    own_ids = [row_id for _, row_id in rows]
    lines: list[SheetLine] = []
    for name in known:
        own = np.array([domain == name for domain, _ in rows])
        where = own & measured.held_out.abstained
        of = f"{int(own.sum())} held-out images"
        lines += _line(f"{name}: abstained", of, where, measured.held_out, own_ids, sources[name])
    for name, answers in measured.unknowns.items():
        of = f"{len(answers.codes)} unknown images"
        where, there = ~answers.abstained, features[name].ids
        lines += _line(f"{name}: answered", of, where, answers, there, sources[name], usual=True)
    return lines


def answer_sheets(answers: Answers, source: Source, ids: Sequence[str]) -> list[SheetLine]:
    """Images that a detector was asked about: those it abstained from, then those of each answer.

    Args:
        answers: to the images.
        source: the images.
        ids: of the rows.
    """
    of = f"{len(ids)} images"
    lines = _line("asked: abstained", of, answers.abstained, answers, ids, source, 3 * PICTURES)
    for code, name in enumerate(answers.domains):
        where = ~answers.abstained & (answers.codes == code)
        lines += _line(f"asked: {name}", of, where, answers, ids, source, usual=True)
    return lines


def _line(
    title: str,
    of: str,
    where: np.ndarray,
    answers: Answers,
    ids: Sequence[str],
    source: Source,
    count: int = PICTURES,
    *,
    usual: bool = False,
) -> list[SheetLine]:
    """A line of some rows, the least usual first or the most usual; none for no rows."""
    rows = np.flatnonzero(where)
    if not len(rows):
        return []
    p = answers.p_values[rows]
    rows = rows[np.argsort(-p if usual else p, kind="stable")]
    place = {row_id: row for row, row_id in enumerate(source.ids)}
    shown = [ids[int(row)] for row in rows[:count]]
    pictures = [source[place[row_id]].image for row_id in shown]
    first = "highest" if usual else "lowest"
    return [SheetLine(title, f"{len(rows)} of {of}, {first} p first", pictures)]
