"""The part of a CKA report that shows further similarity measures of a domain, with intervals.

`measure_blocks` turns the measures of a domain into blocks: one heat map per measure and one table
of all pairs. What a measure is called and what its 1 and 0 mean comes from
`kernels.MEASURES`. Rows stand in the order of the domain's CKA tree. A measure that is not
symmetric is drawn whole, the row's encoder first in the pair.

Cost: about 0.1 s per measure.

Not guaranteed: that two measures are comparable; their 1 and 0 mean different things.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from substrate_jax.analyses.cka.results import MeasuredPairs
from substrate_jax.kernels import MEASURES
from substrate_jax.report import heatmaps, page
from substrate_jax.report.page import Column, Figures, Picture, Prose, Table
from substrate_jax.report.tags import Tag
from substrate_jax.report.text import describe, matrix_csv, number
from substrate_jax.report.values import plain, upper

RESAMPLING = {
    "bootstrap": "images drawn with replacement",
    "subsample": "four fifths of the images, drawn without replacement",
}


def measure_blocks(
    measures: Mapping[str, MeasuredPairs],
    slug: str,
    names: Sequence[str],
    tags: Mapping[str, Tag],
    tree: Float[np.ndarray, "merges 4"] | None,
) -> Iterator[page.Block]:
    """Heat maps and a table of the measures of one domain; nothing where there are none.

    Args:
        measures: name in `kernels.MEASURES` -> its values, with or without intervals.
        slug: the domain's name as part of file names.
        names: encoders, in the order of the matrices.
        tags: class of each encoder.
        tree: of `report.heatmaps.cluster`; it orders the encoders.

    Raises:
        ValueError: a matrix of the wrong size.
    """
    if not measures:
        return
    pictures = [_picture(key, found, slug, names, tags, tree) for key, found in measures.items()]
    yield Figures(pictures, title="More measures")
    if intervals := next(iter(measures.values())).intervals:
        text = (
            f"Intervals are at {intervals.level:.0%}, from {intervals.draws} resamples of the "
            "images that are the same for all encoders. They cover the sampling of images of this "
            "number, not a measure's own bias at few images, and take images to be independent."
        )
        yield Prose([text])
    if words := _chance_in_words(measures):
        yield Prose(words)
    yield _table(measures, slug, names, tags)
    if any(found.closest for found in measures.values()):
        yield _closest_table(measures, slug, tags)


def _chance_in_words(measures: Mapping[str, MeasuredPairs]) -> list[str]:
    """How the null and the ceilings were made, as far as they were."""
    known = [found.calibrated for found in measures.values() if found.calibrated]
    words = []
    if known:
        without = [MEASURES[key].title for key, found in measures.items() if not found.calibrated]
        words.append(
            "Chance is what unrelated encoders exceed with probability "
            f"{number(known[0].alpha)}: their images are permuted, all orders in closed form where "
            "a measure has one and a sample of them else. q is after Benjamini-Hochberg over all "
            "pairs of one measure."
            + (f" Not sampled: {', '.join(without)} (--measure_permutations)." if without else "")
        )
    if any(found.ceiling is not None for found in measures.values()):
        words.append(
            "The ceiling of a pair is what two samples of the same units would reach: the halves "
            "of each encoder's units against each other, corrected to the whole (Spearman-Brown), "
            "the geometric mean of both encoders. A pair above it shares more than halves of one "
            "network do; it is no bound where units are not alike."
        )
    if any(found.seed_ceiling is not None for found in measures.values()):
        words.append(
            "Other seed is what the same networks trained from another seed would reach: the "
            "geometric mean of both encoders' agreement with theirs."
        )
    return words


def _closest_table(
    measures: Mapping[str, MeasuredPairs], slug: str, tags: Mapping[str, Tag]
) -> Table:
    columns = [
        Column("measure", "Measure"),
        Column("encoder", "Encoder"),
        Column("closest", "Closest"),
        Column("next", "Next"),
        Column("difference", "Difference", "score"),
        Column("low", "low", "score"),
        Column("high", "high", "score"),
        Column("p_value", "p", "p"),
    ]
    rows = [
        {"measure": MEASURES[key].title} | plain(of)
        for key, found in measures.items()
        for of in found.closest or ()
    ]
    caption = (
        "The next encoder is compared with the closest on the same resampled images; p is of no "
        "difference, two-sided, not corrected for having picked these two or for their number."
    )
    file = f"closest-{slug}.csv"
    return Table("Closest encoder of each", caption, columns, rows, file, tags, folded=True)


def _picture(
    key: str,
    found: MeasuredPairs,
    slug: str,
    names: Sequence[str],
    tags: Mapping[str, Tag],
    tree: Float[np.ndarray, "merges 4"] | None,
) -> Picture:
    measure, matrix = MEASURES[key], found.matrix
    if measure.symmetric:
        figure = heatmaps.heatmap(
            matrix, names, quantity=measure.title, tree=tree, tags=[tags[name] for name in names]
        )
    else:
        order = heatmaps.leaves(tree, len(names))
        ordered = [names[i] for i in order]
        figure = heatmaps.grid(
            matrix[np.ix_(order, order)],
            ordered,
            ordered,
            quantity=measure.title,
            titles=("x", "y"),
        )
    words = f"1: {measure.meaning_of_one}. 0: {measure.meaning_of_zero}."
    if not measure.symmetric:
        words += " Of the pair (x, y): not the same both ways."
    if measure.lowest < 0:
        words += " Can be negative; colors stop at 0."
    if found.intervals:
        errors = upper(found.intervals.error)
        errors = errors[np.isfinite(errors)]
        if len(errors):
            words += f" Median standard error {number(float(np.median(errors)))} "
            words += f"({RESAMPLING[found.intervals.resampling]})."
    alt = describe(measure.title, names, matrix)
    caption, csv = f"{words} {measure.citation}.", matrix_csv(names, names, matrix, "encoder")
    return page.drawn(f"{slug}-measure-{key}", measure.title, caption, alt, figure, csv)


def _table(
    measures: Mapping[str, MeasuredPairs],
    slug: str,
    names: Sequence[str],
    tags: Mapping[str, Tag],
) -> Table:
    columns = [Column("encoder_a", "Encoder"), Column("encoder_b", "Encoder")]
    pairs = list(itertools.combinations(range(len(names)), 2))
    rows: list[dict[str, Any]] = [{"encoder_a": names[i], "encoder_b": names[j]} for i, j in pairs]
    for key, found in measures.items():
        measure = MEASURES[key]
        ways = {"": measure.title}
        if not measure.symmetric:
            ways = {"_ab": f"{measure.title} →", "_ba": f"{measure.title} ←"}
        for suffix, title in ways.items():
            name = key + suffix
            parts = {Column(name, title, "score"): found.matrix}
            if intervals := found.intervals:
                parts |= {
                    Column(f"{name}_low", "low", "score"): intervals.low,
                    Column(f"{name}_high", "high", "score"): intervals.high,
                    Column(f"{name}_error", "", "score", shown=False): intervals.error,
                }
            for file, label, ceiling in (
                ("ceiling", "ceiling", found.ceiling),
                ("seed_ceiling", "other seed", found.seed_ceiling),
            ):
                if ceiling is not None:
                    both = np.sqrt(np.maximum(ceiling, 0))
                    parts[Column(f"{name}_{file}", label, "score")] = np.outer(both, both)
            if chance := found.calibrated:
                parts |= {
                    Column(f"{name}_tau", "chance", "score"): chance.tau,
                    Column(f"{name}_p", "", "p", shown=False): chance.p_value,
                    Column(f"{name}_q", "q", "p"): chance.q_value,
                }
            for column, values in parts.items():
                columns.append(column)
                values = values.T if suffix == "_ba" else values
                for row, (i, j) in zip(rows, pairs, strict=True):
                    row[column.key] = values[i, j]
    caption = (
        "A click on a heading sorts by it. → is the measure of the pair as it stands in the row, "
        "← of the pair turned round."
    )
    file = f"measures-{slug}.csv"
    return Table("All pairs by every measure", caption, columns, rows, file, tags, folded=True)
