"""Do two modalities agree, such as pictures and sounds or texts, and what could have been seen?

    python -m experiments.crossmodal
    python -m experiments.crossmodal --pair=class --domains=picture=dir:PICTURES,sound=wav:SOUNDS
    python -m experiments.crossmodal --domains=picture=csv:a.csv,text=csv:a.csv?text=caption
    python -m experiments.crossmodal --features=picture:clip=a.npz,sound:clap=b.npz

The first pairs handwritten digits with tones that say digits. The second pairs rows of one class,
the others rows of one id; the third wants encoders of images and of texts in --encoders. Brains and
behavior come as features. The two sides' substrates at K components and all pairs of encoders are
compared by CKA and mutual kNN, against all rows permuted, rows permuted within classes and whole
classes exchanged; beside positive controls, and the least effect that so many rows show 80% of the
time, by the null and by planted signals. Written to OUT: result.json, figures and report.html.
"""

import dataclasses
from pathlib import Path

from absl import flags

from .common import bootstrap, calibration, components, devices, launch, permutations, sides
from .common import domains as several_domains
from .common import encoders as panel
from .common import sweep as components_swept
from .common.file_panel import FilePanel
from .common.stages import Stages, progress_bar

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(several_domains)
flags.adopt_module_key_flags(sides)
flags.adopt_module_key_flags(components)
flags.adopt_module_key_flags(components_swept)
flags.adopt_module_key_flags(permutations)
flags.adopt_module_key_flags(bootstrap)
EMBEDDED = "picture=digits,sound=tones:digits"  # the sides without a flag
flags.DEFINE_enum(
    "pair",
    None,
    ["id", "class"],
    "Rows with the same id, or rows of the same class at will; class where no side is given.",
)
flags.DEFINE_integer(
    "per_class", None, "Pairs of each class; as many as both sides have.", lower_bound=1
)
flags.DEFINE_integer("neighbors", 10, "Of mutual kNN.", lower_bound=1)
flags.DEFINE_float("power", 0.8, "How often the least effect is to be seen.")
flags.DEFINE_integer(
    "planted", 100, "Draws of a planted signal at each strength; 0 for none.", lower_bound=0
)


def run() -> None:
    """Resolve the plan, extract features, compare, and write the report."""
    from substrate_jax.encoders.table import text_table
    from substrate_jax.mesh import make_mesh

    if FLAGS.list_encoders:
        print(text_table())
        return
    check_flags()
    mesh, out = make_mesh(FLAGS.mesh), Path(FLAGS.out or "runs/crossmodal")
    opened = paired(sides.open_sides(chosen_specs()))
    if FLAGS.dry_run:
        print(plan(opened, mesh, out))
        return
    with launch.claim(out):
        compute(opened, mesh, out)


def check_flags() -> None:
    """Refuse levels and counts that no comparison has."""
    calibration.check_alpha()
    components_swept.sweep(FLAGS.sweep)
    if not FLAGS.alpha < FLAGS.power < 1:
        raise ValueError(f"power={FLAGS.power}: give a share between alpha={FLAGS.alpha} and 1")
    if (FLAGS.permutations + 1) * FLAGS.alpha < 1:
        raise ValueError(
            f"permutations={FLAGS.permutations}: alpha={FLAGS.alpha} needs "
            f"{int(1 / FLAGS.alpha)} or more"
        )
    if FLAGS.bootstrap < 0 or FLAGS.bootstrap == 1:
        raise ValueError(f"bootstrap={FLAGS.bootstrap}: give 0 for no intervals, or 200, say")


def chosen_specs() -> list:
    """Records of --encoders, unless --features is given alone, and of --random_weights."""
    given = [FLAGS[name].using_default_value for name in ("domains", "encoders")]
    return panel.random_specs() if FLAGS.features and all(given) else panel.chosen_specs()


def by_class() -> bool:
    """Whether rows are paired by class."""
    return (FLAGS.pair or ("class" if FLAGS.domains == EMBEDDED else "id")) == "class"


def paired(opened) -> list[sides.OpenedSide]:
    """The sides with the rows that the run takes: by id those that have a partner, up to --n.

    Raises:
        ValueError: as `pair_by_id`, `pair_by_class` and `check_sizes`.
    """
    from substrate_jax.analyses.crossmodal.compare import check_sizes
    from substrate_jax.analyses.crossmodal.pairs import pair_by_class, pair_by_id
    from substrate_jax.data.sources import take

    left, right = opened
    widths = [side.width for side in opened]
    if by_class():
        taken = [
            dataclasses.replace(
                side, source=panel.take_images(side.name, side.source, 4, "pairs", fewer=True)
            )
            for side in opened
        ]
        chosen, other = (side.rows() for side in taken)
        pairs = pair_by_class(chosen, other, FLAGS.per_class, FLAGS.seed)
        try:
            check_sizes(len(pairs), widths, FLAGS.components, FLAGS.neighbors)
        except ValueError as error:
            if FLAGS.per_class is None:
                raise
            raise ValueError(f"per_class={FLAGS.per_class}: {error}") from error
        return taken
    pairs = pair_by_id(left.rows(), right.rows())
    first = left.source.select(pairs.left.tolist())
    first = take(first, panel.image_count(first), FLAGS.seed)
    check_sizes(len(first), widths, FLAGS.components, FLAGS.neighbors)
    place = {left.source.ids[i]: j for i, j in zip(pairs.left, pairs.right, strict=True)}
    second = right.source.select([int(place[one]) for one in first.ids])
    return [
        dataclasses.replace(left, source=first),
        dataclasses.replace(right, source=second),
    ]


def plan(opened, mesh, out: Path) -> str:
    """What a run would do: sides, encoders, pairs, memory, downloads."""
    from .common import redaction

    specs = {spec.name: spec for side in opened for spec in side.specs}
    lines, missing = panel.encoder_lines(specs.values())
    head = f"mesh: {dict(mesh.shape)}   out: {out}   dtype: {FLAGS.dtype}"
    lines = [head, "encoders:", *lines]
    for side in opened:
        n, what = len(side.source), "rows"
        if side.files.uses_images:
            what = f"{side.source.modality}s"
        lines += side.files.lines()
        lines.append(
            f"side {side.name}: {n} {what} -> features [{n}, {side.width}] float32, "
            f"{4 * n * side.width / 2**20:.1f} MiB"
        )
    lines.append(f"pairs by {'class' if by_class() else 'id'}")
    lines.append(f"to download: {missing / 2**20:.0f} MiB")
    return redaction.redact("\n".join(lines))


def compute(opened, mesh, out: Path) -> None:
    """Everything after the plan; `out` is held by this run."""
    from substrate_jax.analyses.crossmodal.compare import compare_sides
    from substrate_jax.analyses.crossmodal.measure import Options
    from substrate_jax.analyses.crossmodal.page import crossmodal_page
    from substrate_jax.analyses.crossmodal.pairs import pair_by_class, pair_by_id
    from substrate_jax.analyses.crossmodal.results import CrossmodalResult
    from substrate_jax.analyses.crossmodal.words import crossmodal_summary

    stages, store = Stages(), panel.open_store(out)
    with stages("load", alone=True):
        specs = {spec.name: spec for side in opened for spec in side.specs}
        loaded = {name: panel.load(spec) for name, spec in specs.items()}
    features = {}
    for side in opened:
        bar = progress_bar(side.name, len(side.source), "row")
        with stages("extract"), bar as progress:
            features[side.name] = sides.extract_side(side, loaded, store, mesh, progress)
    left, right = (side.rows(features[side.name]) for side in opened)
    if by_class():
        pairs = pair_by_class(left, right, FLAGS.per_class, FLAGS.seed)
    else:
        pairs = pair_by_id(left, right)
    options = Options(
        neighbors=FLAGS.neighbors,
        alpha=FLAGS.alpha,
        power=FLAGS.power,
        permutations=FLAGS.permutations,
        resamples=FLAGS.bootstrap,
        seed=FLAGS.seed,
    )
    with stages("compare"), progress_bar("compare", 1, "step") as progress:
        comparison = compare_sides(
            left,
            right,
            pairs,
            k=FLAGS.components,
            sweep=components_swept.sweep(FLAGS.sweep),
            options=options,
            planted=FLAGS.planted,
            mesh=mesh,
            progress=progress,
        )
    if not launch.is_first_process():
        return
    records = {one.name: one for side in opened for one in side.records(loaded)}
    run_ = launch.describe_run("crossmodal", mesh, records.values(), notes(opened, features, pairs))
    of_files = {name: of for side in opened for name, of in side.files.opened.items()}
    run_ = FilePanel(False, {}, of_files, FLAGS.pool).described(run_)
    first, second = (side_rows(*each) for each in zip(opened, (left, right), strict=True))
    result = CrossmodalResult(run_, first, second, comparison)
    shown = {
        side.name: panel.thumbnails(side.pictures()) for side in opened if side.files.uses_images
    }
    launch.publish(
        result, lambda made: crossmodal_page(made, shown), crossmodal_summary, out, stages
    )


def side_rows(opened, side):
    """What a side is, for the result."""
    from substrate_jax.analyses.crossmodal.results import SideRows

    return SideRows(
        name=opened.name,
        images=opened.files.image_set(opened.name, opened.source),
        rows=len(side.ids),
        encoders=list(side.blocks),
        widths=[block.shape[1] for block in side.blocks.values()],
        groups=None if side.groups is None else len(set(side.groups)),
    )


def notes(opened, features, pairs) -> list[str]:
    """Choices of a run, and what befell its rows, that change how its numbers read."""
    specs = {spec.name: spec for side in opened for spec in side.specs}
    found = panel.arithmetic_notes() if specs else []
    found += panel.paradigm_notes(specs.values())
    for side in opened:
        of = features[side.name]
        found += side.files.notes({side.name: side.source})
        found += panel.unreadable_note(side.name, side.source, len(of.ids))
        found += panel.left_out_note(side.source) + panel.constant_notes(side.name, of)
        found += panel.input_notes(side.others, side.source)
    if any(side.has_sounds and side.images for side in opened):
        found.append(
            "Encoders of images see sounds as pictures of their spectrograms, a second up to "
            "3.8 kHz; log_mel is the mean and deviation of its bands."
        )
    return [*pairs.notes, *dict.fromkeys(found)]


if __name__ == "__main__":
    FLAGS.set_default("domains", EMBEDDED)
    FLAGS.set_default("encoders", "mini_clip_base,mini_vit_base")
    FLAGS.set_default("permutations", 999)
    FLAGS.set_default("bootstrap", 200)
    launch.start(run, devices.join_processes)
