"""The part of a CKA report on one domain: heat maps of all pairs of encoders, and their table.

What each heat map shows is data: `FIGURES` lists heading, caption, matrix and colors, one entry per
figure. Captions say how to read a figure.

Cost: about 0.1 s and 40 kB per figure of 8 encoders; four figures, and one for each k and measure.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from substrate_jax.analyses.cka.measure_blocks import measure_blocks
from substrate_jax.analyses.cka.results import CkaDomain, CkaResult, EncoderComparison, Pairs
from substrate_jax.report import heatmaps, page
from substrate_jax.report.page import Block, Column, Figures, Prose, Table
from substrate_jax.report.shared_blocks import (
    P_VALUES,
    encoder_tags,
    images_in_words,
    p_columns,
)
from substrate_jax.report.tags import Tag
from substrate_jax.report.text import describe, matrix_csv
from substrate_jax.report.values import upper


@dataclasses.dataclass(frozen=True)
class FigureSpec:
    """One heat map of every domain.

    Attributes:
        key: part of the file's name.
        group: heading over the figures that stand side by side.
        title: heading of the figure.
        caption: how to read it.
        matrix: what it shows of a comparison.
        quantity: what the colors stand for.
        limits: values of the first and last color.
        large: whether it is drawn large, with the tree.
        rings: whether pairs that are not significant have a ring.
    """

    key: str
    group: str
    title: str
    caption: str
    matrix: Callable[[EncoderComparison], Pairs]
    quantity: str
    limits: tuple[float, float] = (0.0, 1.0)
    large: bool = False
    rings: bool = False


FIGURES = (
    FigureSpec(
        key="cka",
        group="Linear CKA",
        title="Raw linear CKA",
        caption=(
            "1 means the same arrangement of the images up to rotation and scale. The tree joins "
            "encoders by average linkage on 1 − CKA; every figure of this domain keeps its order. "
            "The gray diagonal is each encoder with itself; values stand below it."
        ),
        matrix=lambda comparison: comparison.cka,
        quantity="linear CKA",
        large=True,
    ),
    FigureSpec(
        key="calibrated",
        group="Against chance",
        title="Calibrated CKA",
        caption=(
            "How far CKA stands above its chance threshold: 0 at or below it, 1 where CKA is 1. A "
            "ring marks a pair that is not significant after correction (q ≥ α)."
        ),
        matrix=lambda comparison: comparison.calibrated.score,
        quantity="calibrated CKA",
        rings=True,
    ),
    FigureSpec(
        key="threshold",
        group="Against chance",
        title="Chance threshold τ",
        caption=(
            "The CKA that unrelated rows exceed with probability α only. Same colors as raw CKA: a "
            "bright cell is a pair for which high values mean little."
        ),
        matrix=lambda comparison: comparison.calibrated.tau,
        quantity="threshold τ of linear CKA",
    ),
    FigureSpec(
        key="debiased",
        group="Against chance",
        title="Debiased CKA",
        caption=(
            "CKA from the unbiased HSIC, which is 0 on average for unrelated encoders whatever "
            "their widths. It may be negative, and is not clamped; colors stop at 0."
        ),
        matrix=lambda comparison: comparison.cka_debiased,
        quantity="debiased linear CKA",
    ),
)


def domain_blocks(result: CkaResult, name: str, slug: str) -> Iterator[Block]:
    """Images in words, heat maps, further measures, and the table of all pairs of one domain.

    Args:
        result: what experiments.cka found.
        name: of the domain.
        slug: the name as part of file names.

    Raises:
        ValueError: a matrix that is not one row per encoder.
    """
    domain, names = result.domains[name], result.run.names
    comparison, tags = domain.comparison, encoder_tags(result.run.encoders)
    yield Prose([images_in_words(domain.images, comparison.n)])
    if len(names) < 2:
        yield Prose(["There is one encoder, so there are no pairs to compare."])
        return
    tree = heatmaps.cluster(comparison.cka)
    insignificant = comparison.calibrated.q_value >= comparison.calibrated.alpha
    specs = (*FIGURES, *_neighbor_figures(comparison, _highest_recall(result)))
    legend = list(dict.fromkeys(tags.values()))
    for group, members in itertools.groupby(specs, key=lambda spec: spec.group):
        pictures = []
        for member in members:
            matrix = member.matrix(comparison)
            figure = heatmaps.heatmap(
                matrix,
                names,
                quantity=f"{member.quantity}, {name}",
                limits=member.limits,
                size=heatmaps.LARGE if member.large else heatmaps.SMALL,
                tree=tree,
                draw_tree=member.large,
                tags=[tags[n] for n in names],
                rings=insignificant if member.rings else None,
            )
            alt = describe(f"{member.title} of {name}", names, matrix)
            key, csv = f"{slug}-{member.key}", matrix_csv(names, names, matrix, "encoder")
            pictures.append(page.drawn(key, member.title, member.caption, alt, figure, csv))
        yield Figures(pictures, title=group, legend=legend)
        legend = []
    yield from measure_blocks(domain.measures or {}, slug, names, tags, tree)
    yield _pair_table(domain, f"pairs-{slug}.csv", names, tags)


def _highest_recall(result: CkaResult) -> float:
    """The end of the colors of recall, the same for every k and domain."""
    of_all = (domain.comparison.mutual_knn.values() for domain in result.domains.values())
    values = np.concatenate([[0.1], *(upper(knn.recall) for of in of_all for knn in of)])
    return float(np.ceil(np.nanmax(values) * 10) / 10)


def _neighbor_figures(comparison: EncoderComparison, highest: float) -> list[FigureSpec]:
    return [
        FigureSpec(
            key=f"neighbors-{k}",
            group="Shared nearest neighbors",
            title=f"Mutual k-NN recall, k = {k}",
            caption=(
                f"Mean share of an image's {k} nearest images (cosine) that both encoders agree "
                f"on; chance gives {k / max(comparison.n - 1, 1):.3f}. Same colors for every k and "
                "domain."
            ),
            matrix=lambda comparison, k=k: comparison.mutual_knn[k].recall,
            quantity=f"recall at k = {k}",
            limits=(0.0, highest),
        )
        for k in comparison.mutual_knn
    ]


def _pair_table(domain: CkaDomain, file: str, names: list[str], tags: Mapping[str, Tag]) -> Table:
    comparison, calibrated = domain.comparison, domain.comparison.calibrated
    matrices = {
        Column("cka", "Raw", "score"): comparison.cka,
        Column("cka_debiased", "Debiased", "score"): comparison.cka_debiased,
        Column("tau", "τ", "score"): calibrated.tau,
        Column("score", "Calibrated", "score"): calibrated.score,
        **p_columns(calibrated.p_value, calibrated.log10_p_value),
        Column("q_value", "q", "p"): calibrated.q_value,
    }
    for k, knn in comparison.mutual_knn.items():
        matrices[Column(f"knn{k}_recall", f"k-NN {k}", "score")] = knn.recall
        for part in ("score", "tau", "p_value", "log10_p_value", "q_value"):
            column = Column(f"knn{k}_{part}", f"k-NN {k}", shown=False)
            matrices[column] = getattr(knn.calibrated, part)
    rows = [
        {"encoder_a": names[i], "encoder_b": names[j]}
        | {column.key: matrix[i, j] for column, matrix in matrices.items()}
        for i, j in itertools.combinations(range(len(names)), 2)
    ]
    rows.sort(key=lambda row: -np.nan_to_num(row["score"], nan=-1))
    caption = (
        f"A click on a heading sorts by it. p: {P_VALUES[calibrated.method]}; q: p corrected "
        "for the number of pairs (Benjamini-Hochberg). Of tiny values only the order of magnitude "
        "means anything. The CSV has all digits and the calibration of k-NN."
    )
    heads = [Column("encoder_a", "Encoder"), Column("encoder_b", "Encoder"), *matrices]
    return Table("All pairs", caption, heads, rows, file, tags)
