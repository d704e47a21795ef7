"""The report of a comparison of layers: one heat map, its calibration, and the best matches.

`layers_page` turns the result of experiments.layers into a `Page`. Rows are layers of the first
encoder and columns those of the second, in order of computation, first on top and on the left. The
headline is debiased CKA where the run asked for it, raw CKA elsewhere.

Cost: three figures, about 0.1 s each.

Not guaranteed: that a best match means anything; the page gives its p beside it, and the p of the
best of all pairs.

References: Kornblith et al. (2019), arXiv:1905.00414. Westfall, Young (1993) (adjusted p).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from substrate_jax.report import heatmaps as figures
from substrate_jax.report import page
from substrate_jax.report.page import Column, Figures, Page, Prose, Section, Table
from substrate_jax.report.shared_blocks import Thumbnails, encoder_table, null_in_words, p_columns
from substrate_jax.report.tags import paradigm_tag
from substrate_jax.report.text import counted, matrix_csv, number
from substrate_jax.report.thumbnails import strip
from substrate_jax.report.values import plain

MEASURES = {"cka": "linear CKA", "cka_debiased": "debiased linear CKA"}
POOLS = {
    "mean": "Each layer gives one vector an image: its activation averaged over positions or "
    "tokens, a class token among them.",
    "flatten": "Each layer gives one vector an image: its whole activation, position by position.",
}


def layers_page(result: dict, thumbnails: Thumbnails) -> Page:
    """The page of one run.

    Args:
        result: plain values, as `report.values.plain` makes them.
        thumbnails: domain -> a few of its images; may be empty.

    Returns:
        The page, its figures drawn.

    Raises:
        ValueError: a matrix of the wrong size.
    """
    domain, compared = result["domain"], result["comparison"]
    names = [compared[side]["encoder"] for side in ("rows", "columns")]
    tags = {encoder["name"]: paradigm_tag(encoder["paradigm"]) for encoder in result["encoders"]}
    images: list[page.Block] = []
    if len(shown := thumbnails.get(domain["name"], ())):
        caption = f"{len(shown)} of the {compared['n']:,} images."
        images.append(strip(shown, caption, f"Images of {domain['name']}"))
    where = [
        f"{domain['description']} {counted(compared['n'], 'image')}, source {domain['source']}, "
        f"fingerprint {domain['fingerprint'][:12]}.".strip()
    ]
    itself = names[0] == names[1]
    pair = f"the layers of {names[0]} with each other" if itself else " and ".join(names)
    lede = (
        f"Linear CKA of every layer of {names[0]} with every "
        f"{'other of its layers' if itself else f'layer of {names[1]}'} on "
        f"{counted(compared['n'], 'image')} of {domain['name']}, computed from all images at once "
        "and calibrated against permuted images."
    )
    sections = [
        Section("Layer by layer", list(_maps(result, pair))),
        Section("Best matches", list(_matches(compared, itself))),
        Section("Reading the numbers", list(_reading(result))),
        Section("Images", [*images, Prose(where)]),
        Section("Encoders", [encoder_table(result["encoders"], tags)]),
        Section("How this was made", page.provenance(result)),
    ]
    title = f"Which layers of {names[0] if itself else pair} are alike?"
    return Page(title, lede, _tiles(result), sections)


def best_matches(compared: Mapping[str, Any], side: str) -> list[dict]:
    """The most similar layer of the other encoder (or other layer) for each layer of a side.

    Args:
        compared: the "comparison" of a result.
        side: "rows" or "columns".

    Returns:
        For each layer: `layer`, `match`, the `value` of the headline measure, `cka`,
        `cka_debiased`, `score`, `tau`, `p_value`, `q_value` and `p_family` of the pair. A layer
        without a value anywhere has None throughout.
    """
    measure, other = compared["measure"], "columns" if side == "rows" else "rows"
    matrices = {key: values if side == "rows" else values.T for key, values in tables(compared)}
    values = np.array(matrices[measure])
    if _itself(compared):
        np.fill_diagonal(values, np.nan)
    theirs, found = list(compared[other]["layers"]), []
    for i, layer in enumerate(compared[side]["layers"]):
        row = {"layer": layer, "match": None, "value": None} | dict.fromkeys(matrices)
        if np.isfinite(values[i]).any():
            j = int(np.nanargmax(values[i]))
            row |= {"match": theirs[j], "value": values[i, j]}
            row |= {key: matrix[i, j] for key, matrix in matrices.items()}
        found.append(row)
    return found


def match_table(result: Mapping[str, Any]) -> str:
    """The best match of each layer of the first encoder as text for a terminal."""
    compared = plain(result["comparison"])
    names = [figures.drawable(compared[side]["encoder"], 40) for side in ("rows", "columns")]
    rows = [(names[0], names[1], "CKA", "debiased", "τ", "q")]
    for match in best_matches(compared, "rows"):
        layer, other = (figures.drawable(str(match[key] or "–"), 40) for key in ("layer", "match"))
        scores = (number(_plain(match[key])) for key in ("cka", "cka_debiased", "tau"))
        rows.append((layer, other, *scores, number(_plain(match["q_value"]), "p")))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    justify = (str.ljust, str.ljust, str.rjust, str.rjust, str.rjust, str.rjust)
    lines = [
        "  ".join(f(cell, w) for f, cell, w in zip(justify, row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def tables(compared: Mapping[str, Any]) -> Iterator[tuple[str, Float[np.ndarray, "a b"]]]:
    """Name and values of every matrix of layers by layers, NaN where there is none.

    Raises:
        ValueError: a matrix of the wrong size.
    """
    shape = tuple(len(compared[side]["layers"]) for side in ("rows", "columns"))
    calibrated = {
        key: compared["calibrated"][key]
        for key in ("score", "tau", "p_value", "log10_p_value", "q_value")
        if key in compared["calibrated"]
    }
    found = {key: compared[key] for key in MEASURES} | calibrated
    found["p_family"] = (compared["maximum"] or {}).get("p_family")
    for key, values in found.items():
        matrix = np.full(shape, np.nan) if values is None else np.array(values, np.float64)
        if matrix.shape != shape:
            raise ValueError(f"{key} has shape {matrix.shape}; give {shape[0]} x {shape[1]}")
        yield key, matrix


def _plain(value: Any) -> Any:
    return None if value is None or np.isnan(value) else float(value)


def _itself(compared: Mapping[str, Any]) -> bool:
    return compared["rows"]["encoder"] == compared["columns"]["encoder"]


def _tiles(result: dict) -> list[tuple[str, str, str]]:
    compared = result["comparison"]
    layers = [len(compared[side]["layers"]) for side in ("rows", "columns")]
    matches = [m for m in best_matches(compared, "rows") if m["match"] is not None]
    best = max(matches, key=lambda match: match["value"], default=None)
    q = dict(tables(compared))["q_value"]
    family = np.isfinite(q) & (np.triu(np.ones(q.shape), 1) > 0 if _itself(compared) else True)
    tested, alpha = int(family.sum()), compared["calibrated"]["alpha"]
    significant = int((q[family] < alpha).sum())
    tiles = [(f"{layers[0]} × {layers[1]}", "layers", f"{compared['n']:,} images")]
    if best:
        pair = f"{best['layer']} and {best['match']}"
        tiles.append((number(best["value"]), f"highest {MEASURES[compared['measure']]}", pair))
    if tested:
        detail = f"{significant} of {tested}"
        tiles.append((f"{significant / tested:.0%}", f"of pairs have q < {alpha:g}", detail))
    if maximum := compared["maximum"]:
        detail = f"its {1 - alpha:.0%} quantile in {maximum['permutations']} permutations"
        tiles.append((number(maximum["tau"]), "CKA of the best pair by chance", detail))
    return tiles


def _maps(result: dict, pair: str) -> Iterator[page.Block]:
    compared, matrices = result["comparison"], dict(tables(result["comparison"]))
    rows, columns = (list(compared[side]["layers"]) for side in ("rows", "columns"))
    titles = (compared["rows"]["encoder"], compared["columns"]["encoder"])
    measure = compared["measure"]
    other = "cka" if measure == "cka_debiased" else "cka_debiased"
    yield Prose([
        f"{POOLS[compared['pool']]} Rows are layers of {titles[0]}, columns layers of "
        f"{titles[1]}, both in order of computation. A bright cell is a pair of layers that "
        "arrange the images alike, up to rotation and scale. Layers that match one another at "
        "equal depth show as a bright diagonal; a bright block is a run of layers that change "
        "little. A framed cell is the best match of its row."
    ])  # fmt: skip

    def picture(key: str, name: str, caption: str, size, frames=None) -> page.Picture:
        matrix = matrices[key]
        figure = figures.grid(
            matrix, rows, columns, quantity=name, titles=titles, size=size, frames=frames
        )
        title = name[0].upper() + name[1:]
        slug = f"layers-{key.replace('_', '-')}"
        alt, csv = _described(title, rows, columns, matrix), matrix_csv(rows, columns, matrix)
        return page.drawn(slug, title, caption, alt, figure, csv)

    caption = (
        f"{MEASURES[measure].capitalize() if measure != 'cka' else 'Linear CKA'} of {pair}. 1 "
        "means the same arrangement of the images."
    )
    framed = _frames(matrices[measure], _itself(compared))
    yield Figures([
        picture(measure, MEASURES[measure], caption, figures.LARGE, framed)
    ])  # fmt: skip
    captions = {
        "score": "How far CKA stands above its chance threshold τ: 0 at or below it, 1 where CKA "
        "is 1.",
        "cka_debiased": "CKA from the unbiased HSIC, 0 on average for unrelated layers whatever "
        "their widths. It may be negative, and is not clamped; colors stop at 0.",
        "cka": "Raw CKA, which grows with the width of layers when there are few images.",
    }
    yield Figures([
        picture("score", "calibrated CKA", captions["score"], figures.SMALL),
        picture(other, MEASURES[other], captions[other], figures.SMALL),
    ], title="Against chance")  # fmt: skip


def _frames(values: np.ndarray, itself: bool) -> Bool[np.ndarray, "a b"]:
    """The largest cell of each row, the diagonal left out of a comparison with itself."""
    values = np.where(np.isfinite(values), values, -np.inf)
    if itself:
        np.fill_diagonal(values, -np.inf)
    frames = values == values.max(axis=1, keepdims=True)
    return frames & np.isfinite(values)


def _described(title: str, rows: list[str], columns: list[str], matrix: np.ndarray) -> str:
    """What a heat map says, for those who cannot see it."""
    if not np.isfinite(matrix).any():
        return f"Heat map. {title} of layers: no values."
    low, high = (
        np.unravel_index(find(matrix), matrix.shape) for find in (np.nanargmin, np.nanargmax)
    )
    ends = [f"{number(matrix[i, j])} ({rows[i]} and {columns[j]})" for i, j in (low, high)]
    median = number(float(np.nanmedian(matrix)))
    return f"Heat map. {title} of layers: from {ends[0]} to {ends[1]}, median {median}."


def _matches(compared: dict, itself: bool) -> Iterator[page.Block]:
    sampled = compared["maximum"] is not None
    sides = ("rows",) if itself else ("rows", "columns")
    for side in sides:
        other = compared["columns" if side == "rows" else "rows"]["encoder"]
        encoder = compared[side]["encoder"]
        columns = [
            Column("layer", f"Layer of {encoder}"),
            Column("match", "Best other layer" if itself else f"Best layer of {other}"),
            Column("cka", "Raw", "score"), Column("cka_debiased", "Debiased", "score"),
            Column("tau", "τ", "score"), Column("score", "Calibrated", "score"),
            *p_columns(compared["calibrated"]), Column("q_value", "q", "p"),
            Column("p_family", "p of the family", "p", shown=sampled),
        ]  # fmt: skip
        caption = f"By {MEASURES[compared['measure']]}; a click on a heading sorts by it."
        title = "" if itself else f"For each layer of {encoder}"
        yield Table(title, caption, columns, best_matches(compared, side), f"best-{side}.csv")
    matrices = dict(tables(compared))
    layers = [list(compared[side]["layers"]) for side in ("rows", "columns")]
    pairs = np.argwhere(np.triu(np.ones(matrices["cka"].shape), 1) if itself else
                        np.ones(matrices["cka"].shape))  # fmt: skip
    rows = [
        {"row": layers[0][i], "column": layers[1][j]} | {k: v[i, j] for k, v in matrices.items()}
        for i, j in pairs
    ]
    rows.sort(key=lambda row: -np.nan_to_num(row[compared["measure"]], nan=-1))
    columns = [
        Column("row", compared["rows"]["encoder"]),
        Column("column", compared["columns"]["encoder"]),
        *columns[2:],
    ]  # fmt: skip
    yield Table("All pairs", "The CSV has all digits.", columns, rows, "pairs.csv", folded=True)


def _reading(result: dict) -> Iterator[page.Block]:
    compared, domain = result["comparison"], result["domain"]
    points = [
        "CKA is that of all images together, not an average over batches, which would depend on "
        "the batch size.",
        "τ is the CKA that the pair would exceed with probability "
        f"{compared['calibrated']['alpha']:g} if the images of one side were permuted; p and q "
        f"(Benjamini-Hochberg over all pairs) are {null_in_words(compared['calibrated'])}. Almost "
        "all layers of two encoders that look at images beat chance, so q tells little; compare "
        "values with each other.",
        "A high CKA says that two layers arrange these images alike. It does not say what they "
        "respond to, nor that one could replace the other.",
    ]
    if maximum := compared["maximum"]:
        layers = [list(compared[side]["layers"]) for side in ("rows", "columns")]
        pair = f"{layers[0][maximum['row']]} and {layers[1][maximum['column']]}"
        points.insert(2, (
            "The best of many pairs is high by chance too. Over "
            f"{maximum['permutations']} permutations of the images the largest raw CKA of all "
            f"pairs stays below {number(maximum['tau'])} with probability "
            f"{1 - compared['calibrated']['alpha']:g}; here it is {number(maximum['cka'])} "
            f"({pair}), p = {number(maximum['p_value'], 'p')}. The p of the family of a pair is "
            "the share of permutations whose largest CKA reaches the pair's."
        ))  # fmt: skip
    if compared["pool"] == "flatten":
        points.append(
            "Flattened activations compare position by position, so two layers that see the same "
            "things in different places, or at different resolutions, count as different."
        )
    if str(domain["source"]).startswith("sample:"):
        points.append(
            "Sample domains are crops of few pictures. Crops of one picture are not independent: p "
            "and q are too small, and the values describe these pictures."
        )
    if any(encoder["name"].startswith("mini_") for encoder in result["encoders"]):
        points.append(
            "The mini panel's networks are small and were trained on 32 × 32 images. They show the "
            "method, and say nothing about the large ones."
        )
    yield Prose(points, points=True)
    if result["notes"]:
        yield Prose(result["notes"], title="Notes of this run", points=True)
