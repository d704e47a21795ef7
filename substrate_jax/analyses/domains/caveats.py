"""What a run of experiments.domains shows, in words, and its figures beside the paper's.

Sentences depend on the run: a control above the substrate is said, sample domains are called crops
of few pictures, what was left out is named.

Not guaranteed: that figures beside each other are comparable. The paper's domains, panel and number
of images differ from those of most runs.

References: Y. Radwan, "The Cross-Architecture Substrate", arXiv:2606.07882, 2026.
"""

from collections.abc import Iterator

import numpy as np

from substrate_jax.analyses.domains.values import (
    POOLED,
    ceiling_means,
    control_readings,
    matrix_of,
    pairs_at_least,
    panel_tests,
)
from substrate_jax.report.text import counted, number, sentence
from substrate_jax.report.values import upper

VERBS = {
    "pixels": "Pixels transport",
    "handcrafted": "Hand-crafted features transport",
    "random": "Random directions agree",
    "shuffled": "Encoders whose rows are shuffled agree",
    "untrained": "Untrained encoders transport",
}


def limits_of_reading(result: dict) -> Iterator[str]:
    """What the numbers of this run can and cannot show, one point each.

    Args:
        result: plain values.
    """
    yield (
        "A PCKA of 1 says that the leading directions of one domain arrange the images of the "
        "other as its own do. It does not say what the directions respond to, nor that they serve "
        "a task."
    )
    yield from _against_controls(result)
    yield from _against_noise(result)
    yield from _of_images(result)
    yield from _of_panel(result)
    if result.get("components"):
        yield (
            "The sign of a component is a convention, and component 3 of one domain is not "
            "component 3 of another. A small correlation says that none of these features is in "
            "the component, not that nothing visible is; a few extreme images can carry a large "
            "one."
        )


def _against_controls(result: dict) -> Iterator[str]:
    pcka, found = result["pcka"], control_readings(result)
    if not found:
        yield (
            "This run has no controls: nothing here says whether pixels, hand-made features or "
            "random directions would agree as well."
        )
    below = []
    for reading, values in found:
        median, ours = values["median"], pcka["median"]
        reached, pairs = pairs_at_least(result, values)
        where = (
            f"median {number(median)} against {number(ours)}, and as high in {reached} of "
            f"{counted(pairs, 'pair')} ({reading.title})"
        )
        verb = VERBS[reading.control]
        low, high = pcka["median_low"], pcka["median_high"]
        if low is not None and low <= median <= high:
            yield (
                f"{verb} as well as the substrate as far as this run can tell: {where}; the "
                "substrate's interval includes it."
            )
        elif median > ours:
            yield f"{verb} better than the substrate here: {where}. So {reading.says}."
        elif reached:
            below_median = "below the substrate in the median but not throughout"
            yield sentence(f"{reading.title}: {below_median}, {where}")
        else:
            below.append(f"{reading.title} ({number(median)})")
    if below:
        yield (
            f"Below the substrate in every pair: {', '.join(below)}. What lies between them and "
            f"the substrate's {number(pcka['median'])} they do not give."
        )
    random = [values["median"] for reading, values in found if reading.control == "random"]
    if random and random[0] < pcka["median"]:
        yield (
            f"Random bases of the same features agree by {number(random[0])} already, because few "
            "directions hold much of the variance: count from there, not from 0."
        )


def _against_noise(result: dict) -> Iterator[str]:
    pcka, domains = result["pcka"], list(result["domains"])
    if ceilings := ceiling_means(result):
        low, high = min(ceilings.values()), max(ceilings.values())
        yield (
            "Read a PCKA against the ceiling, not against 1: with bases of the two halves of one "
            f"domain it is {number(low)} to {number(high)} here. Halves have fewer images than "
            "whole domains, so the ceiling of whole domains is higher."
        )
    q = upper(matrix_of(result, "pcka", "q_value"))
    q = q[np.isfinite(q)]
    if len(q):
        yield (
            "p and q test only that the rows are paired, the same image on both sides. Two "
            f"projections of the same images nearly always are: {int(np.sum(q < pcka['alpha']))} "
            f"of {counted(len(q), 'pair')} pass. They say nothing of how much transports; the "
            "controls do."
        )
    if pcka.get("draws"):
        yield (
            "Intervals resample the images of each domain, with domains and encoders as they are. "
            "They do not say what other domains or another panel would give."
        )
    else:
        yield "This run has no intervals; a difference in the second digit may be noise."
    pairs = len(domains) * (len(domains) - 1) // 2
    yield (
        f"{counted(len(domains), 'domain')} give {counted(pairs, 'pair')}"
        + (", which share domains and are not independent." if pairs > 1 else ".")
    )


def _of_images(result: dict) -> Iterator[str]:
    domains = result["domains"]
    samples = [n for n, d in domains.items() if str(d["source"]).startswith("sample:")]
    if samples:
        known = [name for name in samples if domains[name]["pictures"] is not None]
        counts = [f"{name}: {domains[name]['n']} of {domains[name]['pictures']}" for name in known]
        cut = f" (number of crops, and of pictures: {'; '.join(counts)})" if counts else ""
        yield (
            f"Sample domains are crops of few pictures{cut}. Crops of one picture are not "
            "independent: intervals are too narrow, ceilings too high, and the values describe "
            "these pictures rather than the domain."
        )
    if len(samples) < len(domains):
        yield (
            "Intervals and ceilings take images to be independent. Near-duplicates, frames of one "
            "video or slices of one patient make intervals too narrow and ceilings too high."
        )


def _of_panel(result: dict) -> Iterator[str]:
    left_out = result["leave_one_out"]
    every = [
        (abs(row["median"] - left_out["none"]), row)
        for row in (*left_out["encoders"], *left_out["families"])
        if row["median"] is not None
    ]
    if every:
        change, row = max(every, key=lambda item: item[0])
        yield (
            f"The panel moves the median too: without {row['left_out']}, which moves it most, it "
            f"is {number(row['median'])} instead of {number(left_out['none'])}, a change of "
            f"{number(change)}."
        )
    if any(encoder["name"].startswith("mini_") for encoder in result["encoders"]):
        yield (
            "The mini panel's networks are small and were trained on 32 × 32 images. They stand in "
            "for the large ones to show the method, and say nothing about them."
        )
    tests = panel_tests(result)
    if {test["cka"]["mim"]["pairs"] for test in tests.values()} & {1}:
        yield (
            "Two masked-reconstruction encoders give one pair: the ratio's interval covers the "
            "choice of images, not that of encoders. Another pair may give another ratio."
        )
    if POOLED in tests:
        yield (
            "Over the images of all domains as one set, any encoder tells the domains apart, so "
            "all pairs agree: a pooled ratio near 1 is to be expected, and says little."
        )
