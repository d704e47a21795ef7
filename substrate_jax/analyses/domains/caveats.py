"""What a run of experiments.domains shows, in words.

Sentences depend on the run: a control above the substrate is said, sample domains are called crops
of few pictures, what was left out is named.

References: Y. Radwan, "The Cross-Architecture Substrate", arXiv:2606.07882, 2026.
"""

from collections.abc import Iterator

import numpy as np

from substrate_jax.analyses.cka.separation import POOLED
from substrate_jax.analyses.domains.results import DomainsResult
from substrate_jax.analyses.domains.values import (
    PairControl,
    ceiling_means,
    pair_controls,
    panel_tests,
)
from substrate_jax.report.shared_blocks import image_caveats, mini_panel_caveat
from substrate_jax.report.text import counted, number, sentence
from substrate_jax.report.values import upper

VERBS = {
    "pixels": "Pixels transport",
    "handcrafted": "Hand-crafted features transport",
    "random": "Random directions agree",
    "shuffled": "Encoders whose rows are shuffled agree",
    "untrained": "Untrained encoders transport",
}
ALIKE = (
    "A PCKA of 1 says that the leading directions of one domain arrange the images of the other as "
    "its own do. It does not say what the directions respond to, nor that they serve a task."
)
NO_CONTROLS = (
    "This run has no controls: nothing here says whether pixels, hand-made features or random "
    "directions would agree as well."
)
RESAMPLED = (
    "Intervals resample the images of each domain, with domains and encoders as they are. They do "
    "not say what other domains or another panel would give."
)
NOT_RESAMPLED = "This run has no intervals; a difference in the second digit may be noise."
OF_SAMPLES = (
    "Crops of one picture are not independent: intervals are too narrow, ceilings too high, and "
    "the values describe these pictures rather than the domain."
)
OF_OTHERS = (
    "Intervals and ceilings take images to be independent. Near-duplicates, frames of one video or "
    "slices of one patient make intervals too narrow and ceilings too high."
)
ONE_MIM_PAIR = (
    "Two masked-reconstruction encoders give one pair: the ratio's interval covers the choice of "
    "images, not that of encoders. Another pair may give another ratio."
)
POOLED_IMAGES = (
    "Over the images of all domains as one set, any encoder tells the domains apart, so all pairs "
    "agree: a pooled ratio near 1 is to be expected, and says little."
)
COMPONENTS = (
    "The sign of a component is a convention, and component 3 of one domain is not component 3 of "
    "another. A small correlation says that none of these features is in the component, not that "
    "nothing visible is; a few extreme images can carry a large one."
)


def caveats(result: DomainsResult) -> Iterator[str]:
    """What the numbers of this run can and cannot show, one point each."""
    yield ALIKE
    yield from _against_controls(result)
    yield from _against_noise(result)
    images = {name: (domain.images, domain.n) for name, domain in result.domains.items()}
    yield from image_caveats(images, OF_SAMPLES, OF_OTHERS)
    yield from _of_panel(result)
    if result.components:
        yield COMPONENTS


def _against_controls(result: DomainsResult) -> Iterator[str]:
    controls, ours = pair_controls(result), result.comparison.pcka.median
    if not controls:
        yield NO_CONTROLS
    below = []
    for control in controls:
        if control.median <= ours and not control.reached and not _in_interval(result, control):
            below.append(f"{control.reading.title} ({number(control.median)})")
        else:
            yield _beside_substrate(result, control)
    if below:
        yield (
            f"Below the substrate in every pair: {', '.join(below)}. What lies between them and "
            f"the substrate's {number(ours)} they do not give."
        )
    random = [control.median for control in controls if control.reading.control == "random"]
    if random and random[0] < ours:
        yield (
            f"Random bases of the same features agree by {number(random[0])} already, because few "
            "directions hold much of the variance: count from there, not from 0."
        )


def _beside_substrate(result: DomainsResult, control: PairControl) -> str:
    """A control that is as high as the substrate, in the median or in some pairs."""
    reading, ours = control.reading, result.comparison.pcka.median
    where = (
        f"median {number(control.median)} against {number(ours)}, and as high in "
        f"{control.reached} of {counted(control.pairs, 'pair')} ({reading.title})"
    )
    verb = VERBS[reading.control]
    if _in_interval(result, control):
        return (
            f"{verb} as well as the substrate as far as this run can tell: {where}; the "
            "substrate's interval includes it."
        )
    if control.median > ours:
        return f"{verb} better than the substrate here: {where}. So {reading.says}."
    below_median = "below the substrate in the median but not throughout"
    return sentence(f"{reading.title}: {below_median}, {where}")


def _in_interval(result: DomainsResult, control: PairControl) -> bool:
    """Whether a control lies in the interval of the substrate's median."""
    low, high = result.comparison.pcka.median_low, result.comparison.pcka.median_high
    return low is not None and high is not None and low <= control.median <= high


def _against_noise(result: DomainsResult) -> Iterator[str]:
    pcka, domains = result.comparison.pcka, len(result.domains)
    if ceilings := ceiling_means(result):
        low, high = min(ceilings.values()), max(ceilings.values())
        yield (
            "Read a PCKA against the ceiling, not against 1: with bases of the two halves of one "
            f"domain it is {number(low)} to {number(high)} here. Halves have fewer images than "
            "whole domains, so the ceiling of whole domains is higher."
        )
    q = upper(pcka.q_value)
    q = q[np.isfinite(q)]
    if len(q):
        yield (
            "p and q test only that the rows are paired, the same image on both sides. Two "
            f"projections of the same images nearly always are: {int(np.sum(q < pcka.alpha))} "
            f"of {counted(len(q), 'pair')} pass. They say nothing of how much transports; the "
            "controls do."
        )
    yield RESAMPLED if pcka.draws else NOT_RESAMPLED
    pairs = domains * (domains - 1) // 2
    yield (
        f"{counted(domains, 'domain')} give {counted(pairs, 'pair')}"
        + (", which share domains and are not independent." if pairs > 1 else ".")
    )


def _of_panel(result: DomainsResult) -> Iterator[str]:
    left_out = result.comparison.leave_one_out
    rows = [*left_out.encoders, *left_out.families]
    if rows:
        row = max(rows, key=lambda row: abs(row.median - left_out.none))
        yield (
            f"The panel moves the median too: without {row.left_out}, which moves it most, it "
            f"is {number(row.median)} instead of {number(left_out.none)}, a change of "
            f"{number(abs(row.median - left_out.none))}."
        )
    yield from mini_panel_caveat(result.run.encoders)
    tests = panel_tests(result)
    if any(test.cka.mim.pairs == 1 for test in tests.values()):
        yield ONE_MIM_PAIR
    if POOLED in tests:
        yield POOLED_IMAGES
