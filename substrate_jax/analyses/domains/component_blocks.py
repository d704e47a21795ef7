"""The components of each domain in a domains report: their extreme images, and what they follow.

`followed_blocks` compares domains, `domain_blocks` is the section of one. People look at the images
first, so these stand first.

Cost: about 0.1 s per figure, and .7 kB per image of the contact sheets.

Not guaranteed: that the images at the ends of a component stand for what lies between.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from substrate_jax.analyses import paper
from substrate_jax.analyses.domains.results import (
    ComponentCorrelations,
    DomainsResult,
    Extremes,
)
from substrate_jax.features.handcrafted import FEATURE_GROUPS, FEATURE_NAMES
from substrate_jax.report import heatmaps, page
from substrate_jax.report.heatmaps import CellSize
from substrate_jax.report.page import Column, Figures, Picture, Prose, Sheet, Table
from substrate_jax.report.shared_blocks import images_in_words
from substrate_jax.report.text import counted, csv_text, matrix_csv, number
from substrate_jax.report.thumbnails import sheet_row

SHOWN_COMPONENTS = 4
GROUPS = dict(zip(FEATURE_NAMES, FEATURE_GROUPS, strict=True))


def followed_blocks(components: Mapping[str, ComponentCorrelations]) -> Iterator[page.Block]:
    """How far the components of all domains follow hand-made features of the images."""
    yield Figures([_followed_picture(components)])
    rows = []
    for name, found in components.items():
        other = found.largest_of_others
        rows.append(
            {
                "domain": name,
                "energy": found.energy_of_first,
                "correlation": other.correlation if other else None,
                "component": other.component if other else None,
                "feature": other.feature if other else None,
            }
        )
    columns = [
        Column("domain", "Domain"),
        Column("energy", "Component 0 with energy, r", "score"),
        Column("correlation", "Others, largest r", "score"),
        Column("component", "of component", "count"),
        Column("feature", "with"),
    ]
    caption = (
        f"The paper has |r| above {paper.ENERGY_OF_FIRST} of component 0 with the energy (the mean "
        f"squared pixel value) in every domain, and below {paper.OTHER_COMPONENTS} of all others "
        "with all features."
    )
    yield Table("", caption, columns, rows, "followed.csv")


def _followed_picture(components: Mapping[str, ComponentCorrelations]) -> Picture:
    names, features = list(components), next(iter(components.values())).features
    largest = {name: _largest(found.correlation) for name, found in components.items()}
    k = max(map(len, largest.values()))
    matrix = np.full((k, len(names)), np.nan)
    for j, values in enumerate(largest.values()):
        matrix[: len(values), j] = values
    labels = [str(i) for i in range(k)]
    figure = heatmaps.grid(
        matrix,
        labels,
        names,
        quantity="largest |r|",
        titles=("component", ""),
        size=CellSize(4.4, 0.16, 0.3, 7.5),
    )
    caption = (
        "For each component of each domain, the largest correlation (of either sign) of its scores "
        f"with any of {counted(len(features), 'hand-made feature')} of the images. A bright cell "
        "is a component that plain image statistics nearly give; a dark one shows in none of them."
    )
    said = "; ".join(f"{name} {number(values[0])}" for name, values in largest.items())
    alt = f"Heat map. Largest correlations of component 0: {said}."
    csv = matrix_csv(labels, names, matrix, "component")
    title = "How far components follow hand-made features"
    return page.drawn("followed", title, caption, alt, figure, csv)


def _largest(correlation: Float[np.ndarray, "k p"]) -> Float[np.ndarray, " k"]:
    """The largest magnitude of each row; NaN where the row has no number."""
    known = np.isfinite(correlation)
    largest = np.max(np.abs(correlation), axis=1, initial=0, where=known)
    return np.where(known.any(axis=1), largest, np.nan)


def domain_blocks(
    result: DomainsResult, name: str, slug: str, sheet: Sequence[Extremes]
) -> Iterator[page.Block]:
    """The section of one domain: contact sheet, origin, correlations.

    Args:
        result: of experiments.domains.
        name: of the domain.
        slug: the name as part of file names.
        sheet: images at the ends of its components; may be empty.

    Raises:
        ValueError: an image that is not uint8 [h, w, 3].
    """
    domain = result.domains[name]
    if sheet:
        yield from _sheet(result, name, sheet)
    yield Prose([images_in_words(domain.images, domain.n)])
    if found := (result.components or {}).get(name):
        yield Figures([_correlations_picture(name, slug, found)])


def _sheet(result: DomainsResult, name: str, sheet: Sequence[Extremes]) -> Iterator[page.Block]:
    rows = [
        sheet_row(
            f"Component {extremes.component}",
            _followed_by(result, name, extremes.component),
            {"lowest scores": extremes.bottom, "highest scores": extremes.top[::-1]},
        )
        for extremes in sheet
    ]
    caption = (
        "Images at the two ends of each component, lowest scores first and highest last: what "
        "changes from one end to the other is what the component sees. Which end is high is a "
        "convention. Beside its name: its share of the variance, and the hand-made feature that "
        "it follows most."
    )
    yield Sheet(rows[:SHOWN_COMPONENTS], caption, f"Ends of the components of {name}")
    if rest := rows[SHOWN_COMPONENTS:]:
        first, last = sheet[SHOWN_COMPONENTS].component, sheet[-1].component
        yield Sheet(rest, "", f"Components {first} to {last} of {name}", folded=True)


def _followed_by(result: DomainsResult, name: str, component: int) -> str:
    """Share of variance of a component, and the feature with the largest significant r."""
    words = []
    shares = result.domains[name].explained_variance_ratio
    if component < len(shares) and np.isfinite(shares[component]):
        words.append(f"{shares[component]:.1%} of the variance")
    found = (result.components or {}).get(name)
    if found and component < len(found.correlation):
        values, q = found.correlation[component], found.q_value[component]
        sizes = np.where(q < result.comparison.pcka.alpha, np.abs(values), -1)
        best = int(np.argmax(sizes))
        if sizes[best] >= 0:
            r = f"{values[best]:.2f}".replace("-", "−")
            words.append(f"r = {r} with {found.features[best]}")
        else:
            words.append("follows no hand-made feature (q ≥ α)")
    return ", ".join(words)


def _correlations_picture(name: str, slug: str, found: ComponentCorrelations) -> Picture:
    features, correlation = found.features, found.correlation
    groups = [GROUPS.get(feature, "") for feature in features]
    figure = heatmaps.correlations(correlation, features, groups, quantity="correlation r")
    caption = (
        "Correlation of the scores on each component (columns, strongest first) with hand-made "
        "features of the images (rows). Orange: high scores go with high values of the feature; "
        "blue: with low ones; white: no relation; gray: the feature is constant here. The sign of "
        "a whole column is a convention. The CSV has six digits, result.json all."
    )
    strongest = [
        f"component {i} {number(row[j])} with {features[j]}"
        for i, row in enumerate(correlation[:SHOWN_COMPONENTS])
        if np.isfinite(row).any()
        for j in [int(np.nanargmax(np.abs(row)))]
    ]
    alt = f"Heat map. Strongest correlations of {name}: {'; '.join(strongest)}."
    parts = {
        "correlation": correlation,
        "low": found.low,
        "high": found.high,
        "q_value": found.q_value,
    }
    rows = [
        (i, feature, groups[j], *(float(f"{matrix[i, j]:.6g}") for matrix in parts.values()))
        for i in range(len(correlation))
        for j, feature in enumerate(features)
    ]
    csv = csv_text(["component", "feature", "group", *parts], rows)
    title = f"What the components of {name} follow"
    return page.drawn(f"{slug}-correlations", title, caption, alt, figure, csv)
