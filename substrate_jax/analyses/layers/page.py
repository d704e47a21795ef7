"""The report of a comparison of layers: one heat map, its calibration, and the best matches.

`layers_page` turns a `LayersResult` into a `Page`. Rows are layers of the first encoder and columns
those of the second, in order of computation, first on top and on the left. The headline is debiased
CKA where the run asked for it, raw CKA elsewhere.

Cost: three figures, about 0.1 s each.

Not guaranteed: that a best match means anything; the page gives its p beside it, and the p of the
best of all pairs.

References: Kornblith et al. (2019), arXiv:1905.00414. Westfall, Young (1993) (adjusted p).
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool

from substrate_jax.analyses.layers.matches import MEASURES, best_matches, matrices
from substrate_jax.analyses.layers.results import LayerComparison, LayerPairs, LayersResult
from substrate_jax.report import heatmaps, page
from substrate_jax.report.page import Block, Column, Figures, Page, Picture, Prose, Section, Table
from substrate_jax.report.shared_blocks import (
    Thumbnails,
    encoder_tables,
    image_caveats,
    images_in_words,
    mini_panel_caveat,
    null_in_words,
    p_columns,
)
from substrate_jax.report.text import counted, matrix_csv, number
from substrate_jax.report.thumbnails import strip

QUANTITIES = MEASURES | {"score": "calibrated CKA"}
POOLS = {
    "mean": "Each layer gives one vector per image: its activation averaged over positions or "
    "tokens, a class token among them.",
    "flatten": "Each layer gives one vector per image: its whole activation, position by position.",
    "file": "Each layer gives one vector per row, as its file holds it.",
}
CAPTIONS = {
    "score": "How far CKA stands above its chance threshold τ: 0 at or below it, 1 where CKA is 1.",
    "cka_debiased": "CKA from the unbiased HSIC, 0 on average for unrelated layers whatever their "
    "widths. It may be negative, and is not clamped; colors stop at 0.",
    "cka": "Raw CKA, which grows with the width of layers when there are few images.",
}
ALIKE = (
    "A high CKA says that two layers arrange these images alike. It does not say what they respond "
    "to, nor that one could replace the other."
)
ALL_AT_ONCE = (
    "CKA is that of all images together, not an average over batches, which would depend on the "
    "batch size."
)
FLATTENED = (
    "Flattened activations compare position by position, so two layers that see the same things in "
    "different places, or at different resolutions, count as different."
)
OF_SAMPLES = (
    "Crops of one picture are not independent: p and q are too small, and the values describe "
    "these pictures."
)
OF_OTHERS = (
    "p and q assume that images are exchangeable. Near-duplicates, frames of one video or slices "
    "of one patient make them too small."
)


def layers_page(result: LayersResult, thumbnails: Thumbnails) -> Page:
    """The page of one run.

    Args:
        result: of experiments.layers.
        thumbnails: domain -> a few of its images; may be empty.

    Returns:
        The page, its figures drawn.

    Raises:
        ValueError: a matrix of the wrong size.
    """
    domain, compared = result.domain, result.comparison
    first, second = compared.rows.encoder, compared.columns.encoder
    images = counted(compared.n, "image")
    if compared.same_encoder:
        title = f"Which layers of {first} are alike?"
        pairs = f"every layer of {first} with every other of its layers"
    else:
        title = f"Which layers of {first} and {second} are alike?"
        pairs = f"every layer of {first} with every layer of {second}"
    lede = (
        f"Linear CKA of {pairs} on {images} of {domain.name}, computed from all images at once and "
        "calibrated against permuted images."
    )
    shown = thumbnails.get(domain.name, ())
    caption = f"{len(shown)} of the {images}."
    strips = [strip(shown, caption, f"Images of {domain.name}")] if len(shown) else []
    sections = [
        Section("Layer by layer", list(_maps(compared))),
        Section("Best matches", list(_matches(compared))),
        Section("Caveats", list(_caveats(result))),
        Section("Images", [*strips, Prose([images_in_words(domain.images, compared.n)])]),
        Section("Encoders", encoder_tables(result.run)),
        Section("How this was made", page.provenance(result.run)),
    ]
    return Page(title, lede, list(_tiles(compared)), sections)


def _tiles(compared: LayerComparison) -> Iterator[tuple[str, str, str]]:
    family, calibrated = compared.family, compared.calibrated
    layers = f"{family.n_rows} × {family.n_columns}"
    yield layers, "layers", f"{compared.n:,} images"
    matches = [match for match in best_matches(compared, "rows") if match["match"] is not None]
    if matches:
        best = max(matches, key=lambda match: match["value"])
        what = f"highest {MEASURES[compared.measure]}"
        yield number(best["value"]), what, f"{best['layer']} and {best['match']}"
    q = calibrated.q_value[family.members & np.isfinite(calibrated.q_value)]
    if len(q):
        significant = int((q < calibrated.alpha).sum())
        share, alpha = f"{significant / len(q):.0%}", f"{calibrated.alpha:g}"
        yield share, f"of pairs have q < {alpha}", f"{significant} of {len(q)}"
    if maximum := compared.maximum:
        level = f"{1 - calibrated.alpha:.0%}"
        detail = f"its {level} quantile in {maximum.permutations} permutations"
        yield number(maximum.tau), "CKA of the best pair by chance", detail


def _maps(compared: LayerComparison) -> Iterator[Block]:
    first, second = compared.rows.encoder, compared.columns.encoder
    yield Prose(
        [
            f"{POOLS[compared.pool]} Rows are layers of {first}, columns layers of {second}, both "
            "in order of computation. A bright cell is a pair of layers that arrange the images "
            "alike, up to rotation and scale. Layers that match one another at equal depth show as "
            "a bright diagonal; a bright block is a run of layers that change little. A framed "
            "cell is the best match of its row."
        ]
    )
    measure = compared.measure
    other = "cka" if measure == "cka_debiased" else "cka_debiased"
    pair = f"{first} and {second}"
    if compared.same_encoder:
        pair = f"the layers of {first} with each other"
    caption = f"{_title(measure)} of {pair}. 1 means the same arrangement of the images."
    frames = _best_of_rows(matrices(compared)[measure], compared.same_encoder)
    yield Figures([_heatmap(compared, measure, caption, heatmaps.LARGE, frames)])
    smaller = [_heatmap(compared, key, CAPTIONS[key]) for key in ("score", other)]
    yield Figures(smaller, title="Against chance")


def _heatmap(
    compared: LayerComparison,
    key: str,
    caption: str,
    size: heatmaps.CellSize = heatmaps.SMALL,
    frames: Bool[np.ndarray, "a b"] | None = None,
) -> Picture:
    """One matrix as a figure."""
    matrix, title = matrices(compared)[key], _title(key)
    rows, columns = list(compared.rows.layers), list(compared.columns.layers)
    figure = heatmaps.grid(
        matrix,
        rows,
        columns,
        quantity=QUANTITIES[key],
        titles=(compared.rows.encoder, compared.columns.encoder),
        size=size,
        frames=frames,
    )
    alt, csv = _described(title, rows, columns, matrix), matrix_csv(rows, columns, matrix)
    return page.drawn(f"layers-{key.replace('_', '-')}", title, caption, alt, figure, csv)


def _title(key: str) -> str:
    name = QUANTITIES[key]
    return name[0].upper() + name[1:]


def _best_of_rows(values: LayerPairs, same_encoder: bool) -> Bool[np.ndarray, "a b"]:
    """The largest cell of each row, the diagonal left out of a comparison with itself."""
    values = np.where(np.isfinite(values), values, -np.inf)
    if same_encoder:
        np.fill_diagonal(values, -np.inf)
    return (values == values.max(axis=1, keepdims=True)) & np.isfinite(values)


def _described(title: str, rows: list[str], columns: list[str], matrix: LayerPairs) -> str:
    """What a heat map says, for those who cannot see it."""
    if not np.isfinite(matrix).any():
        return f"Heat map. {title} of layers: no values."
    low, high = (
        np.unravel_index(find(matrix), matrix.shape) for find in (np.nanargmin, np.nanargmax)
    )
    ends = [f"{number(matrix[i, j])} ({rows[i]} and {columns[j]})" for i, j in (low, high)]
    median = number(float(np.nanmedian(matrix)))
    return f"Heat map. {title} of layers: from {ends[0]} to {ends[1]}, median {median}."


def _matches(compared: LayerComparison) -> Iterator[Block]:
    found, same = matrices(compared), compared.same_encoder
    scores = [
        Column("cka", "Raw", "score"),
        Column("cka_debiased", "Debiased", "score"),
        Column("tau", "τ", "score"),
        Column("score", "Calibrated", "score"),
        *p_columns(found["p_value"], found["log10_p_value"]),
        Column("q_value", "q", "p"),
        Column("p_family", "p of the family", "p", shown=compared.maximum is not None),
    ]
    names = {"rows": compared.rows.encoder, "columns": compared.columns.encoder}
    sides = [("rows", "columns")] if same else [("rows", "columns"), ("columns", "rows")]
    for side, other in sides:
        columns = [
            Column("layer", f"Layer of {names[side]}"),
            Column("match", "Best other layer" if same else f"Best layer of {names[other]}"),
            *scores,
        ]
        caption = f"By {MEASURES[compared.measure]}; a click on a heading sorts by it."
        title = "" if same else f"For each layer of {names[side]}"
        yield Table(title, caption, columns, best_matches(compared, side), f"best-{side}.csv")
    rows = [
        {
            "row": list(compared.rows.layers)[i],
            "column": list(compared.columns.layers)[j],
            **{key: matrix[i, j] for key, matrix in found.items()},
        }
        for i, j in np.argwhere(compared.family.members)
    ]
    rows.sort(key=lambda row: -np.nan_to_num(row[compared.measure], nan=-1))
    columns = [Column("row", names["rows"]), Column("column", names["columns"]), *scores]
    yield Table("All pairs", "The CSV has all digits.", columns, rows, "pairs.csv", folded=True)


def _caveats(result: LayersResult) -> Iterator[Block]:
    compared, encoders = result.comparison, result.run.encoders
    calibrated, maximum = compared.calibrated, compared.maximum
    null = null_in_words(calibrated.method, calibrated.skewness)
    points = [
        ALL_AT_ONCE,
        f"τ is the CKA that the pair would exceed with probability {calibrated.alpha:g} if the "
        "images of one side were permuted; p and q (Benjamini-Hochberg over all pairs) are "
        f"{null}. Almost all layers of two encoders that look at images beat chance, so q tells "
        "little; compare values with each other.",
    ]
    if maximum is not None:
        row, column = list(compared.rows.layers), list(compared.columns.layers)
        points.append(
            f"The best of many pairs is high by chance too. Over {maximum.permutations} "
            "permutations of the images the largest raw CKA of all pairs stays below "
            f"{number(maximum.tau)} with probability {1 - calibrated.alpha:g}; here it is "
            f"{number(maximum.cka)} ({row[maximum.row]} and {column[maximum.column]}), "
            f"p = {number(maximum.p_value, 'p')}. The p of the family of a pair is the share of "
            "permutations whose largest CKA reaches the pair's."
        )
    points.append(ALIKE)
    if compared.pool == "flatten":
        points.append(FLATTENED)
    images = {result.domain.name: (result.domain.images, compared.n)}
    points += image_caveats(images, OF_SAMPLES, OF_OTHERS)
    points += mini_panel_caveat(encoders)
    yield Prose(points, points=True)
    if result.run.notes:
        yield Prose(result.run.notes, title="Notes of this run", points=True)
