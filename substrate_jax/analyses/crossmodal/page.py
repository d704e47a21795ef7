"""The report on two modalities: the finding, chance of three kinds, controls, power.

Cost: about 0.1 s per figure.

Not guaranteed: that rows are independent; p and intervals take them as such.
"""

from collections.abc import Iterator

from substrate_jax.analyses.crossmodal.blocks import (
    agreement_blocks,
    controls_blocks,
    pair_table,
    power_blocks,
)
from substrate_jax.analyses.crossmodal.orders import CLASSES, ROWS
from substrate_jax.analyses.crossmodal.results import (
    CKA,
    COMPONENTS,
    ENCODERS,
    Comparison,
    CrossmodalResult,
    SideRows,
)
from substrate_jax.analyses.crossmodal.words import finding, found
from substrate_jax.report import page
from substrate_jax.report.page import Block, Page, Prose, Section
from substrate_jax.report.shared_blocks import (
    Thumbnails,
    encoder_tables,
    images_in_words,
    mini_panel_caveat,
)
from substrate_jax.report.text import counted, number
from substrate_jax.report.thumbnails import strip

METHOD = (
    "Each side's panel is standardized, stacked and reduced to its K leading components on the "
    "paired rows. The two live in different spaces, so that bases cannot be compared; scores of "
    "the same rows can: linear CKA, raw, debiased and calibrated, and mutual kNN recall.",
    "Against all orders of the rows CKA and recall have a null in closed form. The other two are "
    "sampled, the same orders for all pairs and measures; their p is no less than "
    "1 / (permutations + 1).",
    "The least effect is τ plus the distance of the null's mean from its lower quantile: what is "
    "seen so often if an effect moves the null and leaves its shape. It is known before anything "
    "is measured, and too hopeful by a third or so. Planted signals show it: one side's rows are "
    "shuffled, and a share of their variance is arranged as the other side's.",
)
ARBITRARY = (
    "Rows of one class were paired at will, so that nothing is to be found within classes. Pairs "
    "of other takes and pictures of the same class give about the same; what a class has of its "
    "own is all that can agree."
)
CAVEATS = (
    "Beating permuted rows takes no more than telling the classes apart on both sides, however "
    "they are named. Only the exchange of whole classes asks whether their arrangement is shared, "
    "and a few classes can show little.",
    "Rows are taken as independent. Takes of one speaker, or pictures by one hand, are not: p is "
    "too small and intervals are too narrow. Intervals are over rows, for the classes at hand.",
    "Agreement is not meaning. Loudness and ink, or the order of recording, are shared too.",
)
PAPER = (
    "arXiv:2606.07882 reports that images by CLIP and sounds by CLAP fail this null at K = 16. It "
    "gives no value, no number of rows and no least effect."
)


def crossmodal_page(result: CrossmodalResult, thumbnails: Thumbnails) -> Page:
    """The page of one run.

    Args:
        result: of experiments.crossmodal.
        thumbnails: side -> a few of its pictures; may be empty.

    Returns:
        The page, its figures drawn.
    """
    compared = result.comparison
    caveats = [*([ARBITRARY] if compared.arbitrary else []), *CAVEATS]
    caveats += [*mini_panel_caveat(result.run.encoders), PAPER, *result.run.notes]
    sections = [
        Section("Agreement beside chance", list(agreement_blocks(compared))),
        Section("Controls", list(controls_blocks(compared))),
        Section("What could have been seen", list(power_blocks(compared))),
        Section("Pairs of encoders", list(_encoders(result))),
        Section("Method", [Prose(METHOD)]),
        Section("Caveats", [Prose(caveats, points=True)]),
        Section("Rows", list(_rows(result, thumbnails))),
        Section("Encoders", encoder_tables(result.run)),
        Section("How this was made", page.provenance(result.run)),
    ]
    title = f"Do {result.left.name} and {result.right.name} agree?"
    return Page(title, finding(result), list(_tiles(compared)), sections)


def _tiles(compared: Comparison) -> Iterator[tuple[str, str, str]]:
    cka = compared.main.measures[CKA]
    chance = cka.nulls[ROWS]
    yield number(cka.value), f"CKA at K = {compared.k}", f"chance {number(chance.tau)}"
    yield number(chance.least), "least effect by the null", f"seen {compared.power:.0%} of the time"
    yield number(chance.p_value, "p"), "p, all rows permuted", counted(compared.rows, "pair")
    if (classes := cka.nulls.get(CLASSES)) is not None:
        detail = f"{len(compared.classes)} classes"
        yield number(classes.p_value, "p"), "p, whole classes exchanged", detail
    positive = [one.agreement for one in compared.controls if one.positive]
    if positive:
        seen = sum(found(one, compared.alpha) for one in positive)
        yield f"{seen} of {len(positive)}", "positive controls agree", "same K, same test"


def _encoders(result: CrossmodalResult) -> Iterator[Block]:
    compared = result.comparison
    nulls = compared.main.measures[CKA].nulls
    names = {"left": result.left.name, "right": result.right.name}
    for kind, title, file in (
        (COMPONENTS, f"On {compared.k} components of each", "components.csv"),
        (ENCODERS, "At full width", "encoders-full.csv"),
    ):
        if rows := compared.of_kind(kind):
            caption = "Raw CKA grows with the width of features; τ and the debiased one do not."
            yield pair_table(title, caption if kind == ENCODERS else "", rows, nulls, file, **names)


def _rows(result: CrossmodalResult, thumbnails: Thumbnails) -> Iterator[Block]:
    compared = result.comparison
    if compared.classes:
        few, most = min(compared.per_class), max(compared.per_class)
        each = str(few) if few == most else f"{few} to {most}"
        how = (
            f"{counted(compared.rows, 'pair')} of {len(compared.classes)} classes, {each} of each."
        )
    else:
        how = f"{counted(compared.rows, 'pair')}, without classes."
    yield Prose([how])
    for side in (result.left, result.right):
        shown = thumbnails.get(side.name, ())
        if len(shown):
            yield strip(shown, f"{side.name}: {len(shown)} rows.", f"Pictures of {side.name}")
        yield Prose([_side(side)])


def _side(side: SideRows) -> str:
    groups = "" if side.groups is None else f" {counted(side.groups, 'group')}."
    return f"{side.name}: {images_in_words(side.images, side.rows)}{groups}"
