"""The readings of the controls, and what a high value of each means.

`analyses.domains.controls` has their definitions and computes them.
"""

import dataclasses

from substrate_jax.analyses import paper


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """One way to read a control.

    Attributes:
        control: name of the control.
        name: of the reading.
        title: for tables and figures.
        says: what a high value means.
        primary: whether it is the one to compare with the substrate first.
        paper: median that arXiv:2606.07882 reports for the control, where it does.
        paper_high: its 95% tail, likewise.
    """

    control: str
    name: str
    title: str
    says: str
    primary: bool = False
    paper: float | None = None
    paper_high: float | None = None


# In the order of tables and figures.
READINGS = (
    Reading(
        control="pixels",
        name="own",
        title="pixels, own components",
        says="components of plain 32 x 32 pixels transport between domains as well",
        primary=True,
        paper=paper.PIXELS,
    ),
    Reading(
        control="pixels",
        name="carried",
        title="pixels, in the panel's space",
        says="directions of the panel's features that follow pixel components transport as well",
        paper=paper.PIXELS,
    ),
    Reading(
        control="pixels",
        name="overlap",
        title="pixels, overlap with the substrate",
        says="within a domain, pixel components arrange the images as the substrate does",
    ),
    Reading(
        control="handcrafted",
        name="own",
        title="hand-crafted, own components",
        says="components of 59 hand-crafted features transport between domains as well",
        primary=True,
        paper=paper.HANDCRAFTED,
    ),
    Reading(
        control="handcrafted",
        name="carried",
        title="hand-crafted, in the panel's space",
        says="directions of the panel's features that follow hand-crafted components transport as "
        "well",
        paper=paper.HANDCRAFTED,
    ),
    Reading(
        control="handcrafted",
        name="overlap",
        title="hand-crafted, overlap with the substrate",
        says="within a domain, hand-crafted components arrange the images as the substrate does",
    ),
    Reading(
        control="random",
        name="both",
        title="random bases",
        says="any two subspaces agree as well, because few directions hold most of the variance",
        primary=True,
        paper=paper.RANDOM,
        paper_high=paper.RANDOM_HIGH,
    ),
    Reading(
        control="random",
        name="one",
        title="random basis against the substrate",
        says="a random subspace stands in for the other domain's basis as well",
        paper=paper.RANDOM,
        paper_high=paper.RANDOM_HIGH,
    ),
    Reading(
        control="random",
        name="carried",
        title="random scores, in the panel's space",
        says="pixels and hand-crafted features in the panel's space agree as well for being "
        "carried there, whatever they are",
    ),
    Reading(
        control="random",
        name="overlap",
        title="random scores, overlap with the substrate",
        says="an overlap of this size is chance",
    ),
    Reading(
        control="shuffled",
        name="panel",
        title="encoders' rows shuffled",
        says="each encoder's own covariance is enough; nothing shared between encoders is needed",
        primary=True,
    ),
    Reading(
        control="untrained",
        name="panel",
        title="untrained encoders",
        says="the architectures alone, without training, give bases that transport as well",
        primary=True,
    ),
)
