"""Which encoder for which data? Scores of transferability, judged beside simply knowing the best.

    python -m experiments.transferability
    python -m experiments.transferability --domains=a=tfds:cifar100,b=dir:PICTURES --n=2000
    python -m experiments.transferability --truth=finetune
    python -m experiments.transferability --table=all
    python -m experiments.transferability --table=mine.csv --direction=fu=-1

Every encoder is scored for every labeled domain on half of its images, and a tuned linear probe, or
the encoder fine-tuned, is judged on the other half. With --table nothing is measured: published
accuracies and scores are judged. What a score is worth is how it ranks the models, beside the order
that they have on the other targets.
"""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from .common import bootstrap, calibration, devices, groups, lapack, launch, truth
from .common import domains as several_domains
from .common import encoders as panel
from .common import features as feature_files
from .common.stages import Stages, progress_bar

if TYPE_CHECKING:
    from substrate_jax.analyses.transferability.published import AccuracyTable
    from substrate_jax.analyses.transferability.results import JudgedTable

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(bootstrap)
flags.adopt_module_key_flags(several_domains)
flags.adopt_module_key_flags(feature_files)
flags.adopt_module_key_flags(groups)
flags.adopt_module_key_flags(truth)
flags.DEFINE_list(
    "table",
    [],
    "Judge tables instead: CSV files of columns model, target, accuracy and scores, or published "
    "ones: supervised_cnn, self_supervised, model_spider, medmnist, or all of these.",
)
flags.DEFINE_list(
    "direction", [], "SCORE=-1 where lower is better in a file of --table, SCORE=1 elsewhere."
)
flags.DEFINE_list("scores", ["all"], "Scores to compute: all, or names of them.")


def run() -> None:
    """Score the encoders for every target or read the tables, judge, and write the report."""
    from substrate_jax.encoders.table import text_table
    from substrate_jax.mesh import make_mesh

    if FLAGS.list_encoders:
        print(text_table())
        return
    if FLAGS.bootstrap < 0 or FLAGS.bootstrap == 1:
        raise ValueError(f"bootstrap={FLAGS.bootstrap}; give 0 for no intervals, or 1000, say")
    calibration.check_alpha()
    truth.check_rate()
    out = Path(FLAGS.out or "runs/transferability")
    if FLAGS.table or FLAGS.direction:
        tables = open_tables()
        if FLAGS.dry_run:
            print(plan_of_tables(tables, out))
            return
        with launch.claim(out):
            judge_tables(tables, make_mesh(FLAGS.mesh), out)
        return
    specs = feature_files.chosen_specs()
    scores = chosen_scores(FLAGS.scores, specs)
    if FLAGS.components < 1:
        raise ValueError(f"components={FLAGS.components}: give 1 or more")
    groups.check_group_by()
    least = 2 * (FLAGS.components + 2)
    uses = f"{FLAGS.components} components on half of them"
    take = functools.partial(panel.take_images, least=least, uses=uses, fewer=True)
    mesh = make_mesh(FLAGS.mesh)
    files = feature_files.open_files(specs)
    truth.check_truth(specs, files.specs)
    if FLAGS.dry_run:
        print(several_domains.plan(specs, files, mesh, out, take))
        print(truth.plan_of_truth(len(specs), len(files.domains)))
        return
    sources = {name: take(name, files.source(name)) for name in files.domains}
    with launch.claim(out):
        compute(specs, files, sources, scores, mesh, out)


def chosen_scores(words: list[str], specs) -> list[str] | None:
    """The scores of --scores; None for all that the encoders allow.

    Raises:
        ValueError: none, an unknown one, or one that asks for classes that no encoder has.
    """
    if words == ["all"]:
        return None
    from substrate_jax.analyses.transferability.scores.table import SCORES, SOURCE

    if not words or any(word not in SCORES for word in words):
        raise ValueError(f"scores={','.join(words)!r}: give all, or some of {', '.join(SCORES)}")
    of_classes = [word for word in words if SOURCE in SCORES[word].needs]
    if of_classes and not any(spec.paradigm == "supervised" for spec in specs):
        raise ValueError(
            f"scores={','.join(of_classes)!r}: no encoder of this run was trained on classes; "
            "leave them out, or give one that was"
        )
    return list(dict.fromkeys(words))


def compute(specs, files, sources, scores, mesh, out: Path) -> None:
    """Everything after the plan; `out` is held by this run."""
    from substrate_jax.analyses.transferability.page import transferability_page
    from substrate_jax.analyses.transferability.results import TransferabilityResult
    from substrate_jax.analyses.transferability.targets import labeled_halves, measure_targets
    from substrate_jax.analyses.transferability.words import transferability_summary

    stages = Stages()
    store = panel.open_store(out)
    with stages("load", alone=True):
        encoders = [panel.load(spec) for spec in specs]
    features = feature_files.features_of(files, encoders, sources, store, mesh, stages)
    records = [panel.encoder_record(encoder) for encoder in encoders] + files.encoder_records()
    together, notes = groups.groups_of(features)
    halves, left_out = labeled_halves(features, seed=FLAGS.seed, groups=together)
    names = [record.name for record in records]
    with stages("accuracy", alone=FLAGS.truth == "probe"):
        accuracy = truth.accuracies(encoders, names, sources, features, halves, mesh, out)
    source_accuracy, unlike = source_accuracies([*specs, *files.specs])
    heads, without_classes = source_heads(encoders, files, features, halves, scores)
    bar = progress_bar("scores", len(halves), "target")
    with stages("score"), bar as progress:
        tables, reasons = measure_targets(
            features,
            halves,
            {name: files.image_set(name, source) for name, source in sources.items()},
            families=[spec.family for spec in (*specs, *files.specs)],
            parameters=[record.parameters for record in records],
            source_accuracy=source_accuracy,
            accuracy=accuracy,
            truth=Path(FLAGS.truth).name,
            scores=scores,
            source_probabilities=heads,
            without_classes=without_classes,
            k=FLAGS.components,
            draws=FLAGS.bootstrap,
            alpha=FLAGS.alpha,
            seed=FLAGS.seed,
            mesh=mesh,
            progress=progress,
        )
    if not launch.is_first_process():
        return
    said = (
        left_out + notes + reasons + unlike + feature_files.notes(specs, files, sources, features)
    )
    described = files.described(launch.describe_run("transferability", mesh, records, said))
    result = TransferabilityResult(described, tables)
    launch.publish(result, transferability_page, transferability_summary, out, stages)


def source_heads(encoders, files, features, targets, scores: list[str] | None):
    """What encoders see of the classes they were trained on, and why others have none.

    Returns:
        Target -> encoder -> probabilities, and encoder -> reason.

    Raises:
        ValueError: scores that need classes, and no encoder that has any.
    """
    from substrate_jax.analyses.transferability.scores.table import SCORES, SOURCE
    from substrate_jax.encoders.source_head import class_probabilities, reason_without_classes

    asked = [name for name in scores or () if SOURCE in SCORES[name].needs]
    if scores is not None and not asked:
        return {}, {}
    reasons = {one.name: reason_without_classes(one) for one in encoders}
    without = {name: reason for name, reason in reasons.items() if reason is not None}
    without |= {spec.name: "of it there are only features" for spec in files.specs}
    having = [one for one in encoders if one.name not in without]
    if asked and not having:
        raise ValueError(
            f"scores={','.join(asked)!r}: no encoder of this run has the classifier that it was "
            "trained with; leave them out, or give one that has"
        )
    found = {
        target: {one.name: class_probabilities(one, features[target][one.name]) for one in having}
        for target in targets
    }
    return found, without


def source_accuracies(specs) -> tuple[list[float | None], list[str]]:
    """Recorded accuracies of encoders if all are of one kind, and a note where there is no column.

    Args:
        specs: of encoders and of files.
    """
    from substrate_jax.encoders import encoder_spec, list_encoders
    from substrate_jax.encoders.accuracy import source_accuracy

    known = set(list_encoders())
    found = [
        source_accuracy(encoder_spec(spec.name)) if spec.name in known else None for spec in specs
    ]
    kinds = {kind for kind, _ in filter(None, found)}
    if None not in found and len(kinds) == 1:
        return [value[1] for value in found if value], [
            f"Accuracy where it was trained: {kinds.pop()}, as recorded with the encoders."
        ]
    without = found.count(None)
    return [], [
        "The accuracy where an encoder was trained is no column: "
        + (
            f"for {without} of {len(found)} encoders none is recorded."
            if without
            else f"it is of different kinds, {' and '.join(sorted(kinds))}."
        )
    ]


def judge_tables(tables: "dict[str, AccuracyTable]", mesh, out: Path) -> None:
    """Judge tables and write the report; `out` is held by this run."""
    from substrate_jax.analyses.transferability.page import transferability_page
    from substrate_jax.analyses.transferability.results import TransferabilityResult
    from substrate_jax.analyses.transferability.words import transferability_summary

    stages = Stages()
    with stages("judge", alone=True):
        judged = {name: judged_table(table) for name, table in tables.items()}
    if launch.is_first_process():
        result = TransferabilityResult(launch.describe_run("transferability", mesh), judged)
        launch.publish(result, transferability_page, transferability_summary, out, stages)


def open_tables() -> "dict[str, AccuracyTable]":
    """The tables of --table.

    Raises:
        ValueError: a table that cannot be read, none or one twice, or a direction of no score.
    """
    from substrate_jax.analyses.transferability.published import list_tables, read_table

    words = [name for word in FLAGS.table for name in (list_tables() if word == "all" else [word])]
    if not words:
        raise ValueError(
            f"direction={','.join(FLAGS.direction)!r} without --table; give the file, or all or "
            f"some of {', '.join(list_tables())}"
        )
    given = dict(_direction(word) for word in FLAGS.direction)
    files = [word for word in words if word not in list_tables()]
    if given and not files:
        raise ValueError(
            f"direction={','.join(FLAGS.direction)!r}: the directions of published tables are "
            "known; give a file in --table"
        )
    tables = {}
    for word in words:
        table = read_table(word, given if word in files else None)
        if table.name in tables:
            raise ValueError(f"table {table.name!r} is given twice; give every table a name")
        tables[table.name] = table
    return tables


def _direction(word: str) -> tuple[str, int]:
    score, _, sign = word.partition("=")
    if not score or sign not in ("1", "+1", "-1"):
        raise ValueError(
            f"direction={word!r}: write SCORE=-1 where lower is better, SCORE=1 elsewhere"
        )
    return score, int(sign)


def judged_table(table: "AccuracyTable") -> "JudgedTable":
    """A table whose scores are judged as the flags want it."""
    from substrate_jax.analyses.transferability.filters import judge_filter
    from substrate_jax.analyses.transferability.judgment import judge
    from substrate_jax.analyses.transferability.results import JudgedTable

    judgment = judge(
        table.accuracy,
        table.scores,
        models=table.models,
        targets=table.targets,
        families=table.families,
        draws=FLAGS.bootstrap,
        alpha=FLAGS.alpha,
        seed=FLAGS.seed,
    )
    choice = None
    if {"subs_rank", "logme"} <= table.scores.keys():
        choice = judge_filter(
            table.accuracy,
            table.scores["subs_rank"],
            table.scores["logme"],
            draws=FLAGS.bootstrap,
            seed=FLAGS.seed,
        )
    return JudgedTable(table.accuracy, table.scores, table.directions, judgment, choice)


def plan_of_tables(tables: "dict[str, AccuracyTable]", out: Path) -> str:
    """What a run would do."""
    lines = [f"out: {out}   bootstrap: {FLAGS.bootstrap}", "tables:"]
    for name, table in tables.items():
        lines.append(
            f"  {name:20s} {len(table.models)} models x {len(table.targets)} targets, scores: "
            f"{', '.join(table.scores) or 'none'}"
        )
        turned = [score for score, sign in table.directions.items() if sign < 0]
        lines += [f"    lower is better: {', '.join(turned)}"] * bool(turned)
    return "\n".join(lines)


if __name__ == "__main__":
    FLAGS.set_default("bootstrap", 1000)
    lapack.one_thread()
    launch.start(run, devices.join_processes)
