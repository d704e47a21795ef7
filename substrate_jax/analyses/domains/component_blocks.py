"""The components of each domain in a domains report: their extreme images, and what they follow.

`followed_blocks` compares domains, `domain_blocks` is the section of one. People look at the images
first, so these stand first.

Cost: about 0.1 s a figure, and 2.5 kB an image of the contact sheets.

Not guaranteed: that the images at the ends of a component stand for what lies between.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from substrate_jax.features.handcrafted import FEATURE_GROUPS, FEATURE_NAMES
from substrate_jax.report import heatmaps as figures
from substrate_jax.report import page
from substrate_jax.report import plots as domains_figures
from substrate_jax.report.heatmaps import CellSize
from substrate_jax.report.page import Column, Figures, Picture, Prose, Sheet, Table
from substrate_jax.report.text import counted, csv_text, matrix_csv, number
from substrate_jax.report.thumbnails import sheet_row, strip

SHOWN_COMPONENTS = 4
GROUPS = dict(zip(FEATURE_NAMES, FEATURE_GROUPS, strict=True))

Images = Sequence[UInt8[np.ndarray, "h w 3"]]
Sheets = Mapping[str, Sequence[Mapping[str, Any]]]


def followed_blocks(result: dict) -> Iterator[page.Block]:
    """How far the components of all domains follow hand-made features of the images."""
    components, names = result["components"], list(result["components"])
    features = next(iter(components.values()))["features"]
    largest = {}
    for name, found in components.items():
        values = np.abs(np.array(found["correlation"], float))
        known = np.isfinite(values).any(axis=1)
        largest[name] = np.where(known, np.nanmax(np.where(known[:, None], values, 0), axis=1),
                                 np.nan)  # fmt: skip
    k = max(map(len, largest.values()))
    matrix = np.full((k, len(names)), np.nan)
    for j, values in enumerate(largest.values()):
        matrix[: len(values), j] = values
    labels = [str(i) for i in range(k)]
    figure = figures.grid(
        matrix, labels, names, quantity="largest |r|", titles=("component", ""),
        size=CellSize(4.4, 0.16, 0.3, 7.5),
    )  # fmt: skip
    caption = (
        "For each component of each domain, the largest correlation (of either sign) of its scores "
        f"with any of {counted(len(features), 'hand-made feature')} of the images. A bright cell "
        "is a component that plain image statistics nearly give; a dark one shows in none of them."
    )
    alt = (
        "Heat map. Largest correlations of component 0: "
        + "; ".join(f"{name} {number(values[0])}" for name, values in largest.items())
        + "."
    )
    csv = matrix_csv(labels, names, matrix, "component")
    title = "How far components follow hand-made features"
    yield Figures([page.drawn("followed", title, caption, alt, figure, csv)])
    rows = []
    for name, found in components.items():
        other = found["largest_of_others"] or dict.fromkeys(("component", "feature", "correlation"))
        rows.append({"domain": name, "energy": found["energy_of_first"], **other})
    columns = [
        Column("domain", "Domain"), Column("energy", "Component 0 with energy, r", "score"),
        Column("correlation", "Others, largest r", "score"),
        Column("component", "of component", "count"), Column("feature", "with"),
    ]  # fmt: skip
    caption = (
        "The paper has |r| above 0.6 of component 0 with the energy (the mean squared pixel value) "
        "in every domain, and below 0.25 of all others with all features."
    )
    yield Table("", caption, columns, rows, "followed.csv")


def domain_blocks(
    result: dict, name: str, slug: str, images: Images, sheet: Sequence[Mapping[str, Any]]
) -> Iterator[page.Block]:
    """The section of one domain: contact sheet (else a few images), origin, correlations.

    Args:
        result: plain values.
        name: of the domain.
        slug: the name as part of file names.
        images: a few of the domain's, shown where there is no sheet.
        sheet: for each component its number, and `top` and `bottom`.

    Raises:
        ValueError: an image that is not uint8 [h, w, 3].
    """
    domain, origin = result["domains"][name], ""
    if domain["pictures"] is not None:
        sample = str(domain["source"]).startswith("sample:")
        words = ("picture",) if sample else ("class or picture", "classes or pictures")
        origin = f" from {counted(domain['pictures'], *words)}"
    if len(sheet):
        yield from _sheet(result, name, sheet)
    elif len(images):
        caption = f"{len(images)} of the {domain['n']:,} images."
        yield strip(images, caption, f"Images of {name}")
    yield Prose([
        f"{domain['description']} {counted(domain['n'], 'image')}{origin}. Source "
        f"{domain['source']}, fingerprint {domain['fingerprint'][:12]}.".strip()
    ])  # fmt: skip
    if found := (result.get("components") or {}).get(name):
        yield Figures([_reading_picture(result, name, slug, found)])


def _sheet(result: dict, name: str, sheet: Sequence[Mapping[str, Any]]) -> Iterator[page.Block]:
    rows = [
        sheet_row(
            f"Component {row['component']}", _followed_by(result, name, row["component"]),
            {"lowest scores": row["bottom"], "highest scores": row["top"][::-1]},
        )
        for row in sheet
    ]  # fmt: skip
    caption = (
        "Images at the two ends of each component, lowest scores first and highest last: what "
        "changes from one end to the other is what the component sees. Which end is high is a "
        "convention. Beside its name: its share of the variance, and the hand-made feature that "
        "it follows most."
    )
    yield Sheet(rows[:SHOWN_COMPONENTS], caption, f"Ends of the components of {name}")
    if rest := rows[SHOWN_COMPONENTS:]:
        numbers = [row["component"] for row in sheet[SHOWN_COMPONENTS:]]
        title = f"Components {numbers[0]} to {numbers[-1]} of {name}"
        yield Sheet(rest, "", title, folded=True)


def _followed_by(result: dict, name: str, component: int) -> str:
    """Share of variance of a component, and the feature with the largest significant r."""
    words = []
    shares = result["domains"][name]["explained_variance_ratio"]
    if component < len(shares) and shares[component] is not None:
        words.append(f"{shares[component]:.1%} of the variance")
    found = (result.get("components") or {}).get(name)
    if found and component < len(found["correlation"]):
        values = np.array(found["correlation"][component], float)
        q = np.array(found["q_value"][component], float)
        sizes = np.where(q < result["pcka"]["alpha"], np.abs(values), -1)
        best = int(np.argmax(sizes))
        if sizes[best] >= 0:
            r = f"{values[best]:.2f}".replace("-", "−")
            words.append(f"r = {r} with {found['features'][best]}")
        else:
            words.append("follows no hand-made feature (q ≥ α)")
    return ", ".join(words)


def _reading_picture(result: dict, name: str, slug: str, found: Mapping[str, Any]) -> Picture:
    features = found["features"]
    groups = [GROUPS.get(feature, "") for feature in features]
    correlation = np.array(found["correlation"], float)
    figure = domains_figures.reading(correlation, features, groups, quantity="correlation r")
    caption = (
        "Correlation of the scores on each component (columns, strongest first) with hand-made "
        "features of the images (rows). Orange: high scores go with high values of the feature; "
        "blue: with low ones; white: no relation; gray: the feature is constant here. The sign of "
        "a whole column is a convention."
    )
    strongest = [
        f"component {i} {number(row[j])} with {features[j]}"
        for i, row in enumerate(correlation[:SHOWN_COMPONENTS])
        if np.isfinite(row).any()
        for j in [int(np.nanargmax(np.abs(row)))]
    ]
    alt = f"Heat map. Strongest correlations of {name}: {'; '.join(strongest)}."
    parts = ("correlation", "low", "high", "q_value")
    rows = [
        (i, feature, groups[j], *(found[part][i][j] for part in parts))
        for i in range(len(correlation))
        for j, feature in enumerate(features)
    ]
    csv = csv_text(["component", "feature", "group", *parts], rows)
    title = f"What the components of {name} follow"
    return page.drawn(f"{slug}-reading", title, caption, alt, figure, csv)
