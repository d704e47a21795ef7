"""Which domain is this image from, and is it from none?

    python -m experiments.detector
    python -m experiments.detector --domains=photo=dir:PHOTOS,xray=dir:XRAYS,scan=dir:CT --n=1000
    python -m experiments.detector --domains=ct=dir:CT,photo=dir:PHOTOS,lung=dir:LUNG --near=lung
    python -m experiments.detector --detector=runs/detector --predict=dir:NEW --out=runs/new

Logistic regression on the panel's substrate, fitted to half of every domain's images, calibrated by
a quarter and measured on the last: accuracy beside what the size, the colors or a thumbnail of the
images give, reliability, and abstention, with every domain left out in turn as the unknown. The
detector is saved in OUT. --predict writes OUT/predictions.csv.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from .common import calibration, devices, groups, launch
from .common import domains as several_domains
from .common import encoders as panel
from .common import features as feature_files
from .common.file_panel import FilePanel
from .common.stages import Stages, progress_bar

if TYPE_CHECKING:
    from substrate_jax.analyses.detector.detector import Answers, DomainDetector

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(several_domains)
flags.adopt_module_key_flags(feature_files)
flags.adopt_module_key_flags(groups)
flags.DEFINE_list(
    "near",
    [],
    "Names of --domains that are not to be known but told from the others: further sets of a kind "
    "that is known.",
)
flags.DEFINE_list("far", [], "The same for sets of another kind.")
flags.DEFINE_enum(
    "score",
    "neighbors",
    ["softmax", "energy", "mahalanobis", "relative", "neighbors", "residual"],
    "How usual an image is: what p-values and abstention go by.",
)
flags.DEFINE_string(
    "predict",
    None,
    "Images to answer, dir:FOLDER or another source, or the name of one of --domains.",
)
flags.DEFINE(
    launch.PathParser(),
    "detector",
    None,
    "A saved detector, the folder of its run; nothing is fitted then.",
)
MOST_IMAGES = 10**6  # of a domain, for its p-values


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run is to do.

    Attributes:
        files: the domains of the run, those to answer among them, and features made elsewhere.
        known: names of those to fit.
        near: of those told from them, as of a kind that is known.
        far: as of another kind.
        predicted: of the one to answer; None without.
    """

    files: FilePanel
    known: list[str]
    near: list[str]
    far: list[str]
    predicted: str | None

    def take(self, name: str, source):
        """The images of a domain that the run takes."""
        from substrate_jax.analyses.detector.conformal import rows_needed

        if name == self.predicted:
            return source
        if name not in self.known:
            return panel.take_images(name, source, 1, "being told", fewer=True)
        needed = max(4 * rows_needed(FLAGS.alpha), 10, FLAGS.components + 1)
        uses = f"{FLAGS.components} components, 5 folds and abstaining at alpha={FLAGS.alpha:g}"
        return panel.take_images(name, source, needed, uses, fewer=True)


def run() -> None:
    """Resolve the plan; fit or read a detector, measure, answer, and write the report."""
    from substrate_jax.encoders.table import text_table
    from substrate_jax.mesh import make_mesh

    if FLAGS.list_encoders:
        print(text_table())
        return
    calibration.check_alpha()
    if 1 / FLAGS.alpha > MOST_IMAGES:
        raise ValueError(f"alpha={FLAGS.alpha}: no domain has so many images; give 0.01, say")
    if FLAGS.components < 1:
        raise ValueError(f"components={FLAGS.components}: give 1 or more")
    groups.check_group_by()
    mesh = make_mesh(FLAGS.mesh)
    out = Path(FLAGS.out or "runs/detector")
    read = read_detector() if FLAGS.detector is not None else None
    specs = chosen_specs(read)
    plan = plan_answers(specs) if read else plan_fit(specs)
    if FLAGS.dry_run:
        print(several_domains.plan(specs, plan.files, mesh, out, plan.take))
        return
    sources = {name: plan.take(name, plan.files.source(name)) for name in plan.files.domains}
    with launch.claim(out):
        compute(specs, plan, sources, read, mesh, out)


def read_detector() -> "DomainDetector":
    """The detector of --detector; flags that only a fit needs are refused beside it."""
    from substrate_jax.analyses.detector.detector import DomainDetector

    for name in ("domains", "near", "far", "score", "components", "alpha", "group_by"):
        if not FLAGS[name].using_default_value:
            raise ValueError(
                f"{name}={FLAGS[name].value!r} beside detector={FLAGS.detector!r}: nothing is "
                "fitted then; leave one of them out"
            )
    return DomainDetector.load(FLAGS.detector)


def chosen_specs(read: "DomainDetector | None") -> list:
    """The encoders that run: those of --encoders, or of the detector that is read."""
    if read is None or FLAGS.features or not FLAGS["encoders"].using_default_value:
        return feature_files.chosen_specs()
    from substrate_jax.encoders import find_spec

    try:
        return [find_spec(name, FLAGS.weights_dir) for name in read.substrate.encoders]
    except ValueError as error:
        raise ValueError(
            f"detector={FLAGS.detector!r} is of {', '.join(read.substrate.encoders)}, which do not "
            f"all run here ({error}); give their --features"
        ) from error


def plan_fit(specs) -> Plan:
    """The domains of the run by what they are for.

    Raises:
        ValueError: a name in --near or --far that is no domain, or is in both, or fewer than two
            domains to know.
    """
    files = feature_files.open_files(specs)
    domains = dict(files.domains)
    if FLAGS.predict is not None and FLAGS.predict not in domains:
        if files.opened:
            raise ValueError(
                f"predict={FLAGS.predict!r}: with --features name one of {', '.join(domains)}"
            )
        files = dataclasses.replace(files, domains=domains | {FLAGS.predict: FLAGS.predict})
    for flag in ("near", "far"):
        if unknown := [name for name in getattr(FLAGS, flag) if name not in domains]:
            raise ValueError(
                f"{flag}={unknown[0]!r} is none of this run's {', '.join(domains)}; name it in "
                "--domains"
            )
    named = [*FLAGS.near, *FLAGS.far, *([FLAGS.predict] if FLAGS.predict in domains else [])]
    if twice := [name for name in named if named.count(name) > 1]:
        raise ValueError(f"{twice[0]!r} is given twice in near, far and predict; name it once")
    known = [name for name in domains if name not in named]
    if len(known) < 2:
        flag = "domains" if files.uses_images else "features"
        given = ",".join(FLAGS.features) if flag == "features" else FLAGS.domains
        raise ValueError(
            f"{flag}={given!r} leaves {len(known)} domain{'s' * (len(known) != 1)} to know; give "
            "two or more"
        )
    return Plan(files, known, list(FLAGS.near), list(FLAGS.far), FLAGS.predict)


def plan_answers(specs) -> Plan:
    """The images or rows that a detector is to answer.

    Raises:
        ValueError: none, or those of several domains.
    """
    if FLAGS.features and not specs and FLAGS.predict is None:
        files = feature_files.open_files(specs)
        if len(files.domains) > 1:
            raise ValueError(
                f"features={','.join(FLAGS.features)!r} are of {len(files.domains)} domains; give "
                "rows of one to answer"
            )
        return Plan(files, [], [], [], next(iter(files.domains)))
    if FLAGS.predict is None or FLAGS.features:
        raise ValueError(
            f"detector={FLAGS.detector!r}: give --predict=dir:FOLDER, or the --features of all its "
            "encoders alone"
        )
    files = FilePanel(True, {FLAGS.predict: FLAGS.predict}, {}, None)
    return Plan(files, [], [], [], FLAGS.predict)


def compute(specs, plan: Plan, sources, read: "DomainDetector | None", mesh, out: Path) -> None:
    """Everything after the plan; `out` is held by this run."""
    from substrate_jax.analyses.detector.measure import UnknownSet, measure, predictions
    from substrate_jax.analyses.detector.page import detector_page
    from substrate_jax.analyses.detector.results import FAR, NEAR, DetectorResult
    from substrate_jax.analyses.detector.sheets import answer_sheets, measured_sheets
    from substrate_jax.analyses.detector.words import detector_summary

    stages, files = Stages(), plan.files
    store = panel.open_store(out)
    with stages("load", alone=True):
        encoders = [panel.load(spec) for spec in specs]
    records = [panel.encoder_record(encoder) for encoder in encoders] + files.encoder_records()
    hashes = {record.name: record.sha256 if specs else None for record in records}
    settings = input_settings() if specs else {}
    if read:
        check_panel(read, hashes, settings)
    features = feature_files.features_of(files, encoders, sources, store, mesh, stages)
    images = {name: files.image_set(name, source) for name, source in sources.items()}
    said = feature_files.notes(specs, files, sources, features)
    if plan.predicted is not None:  # all of its images are taken, however few
        few = panel.few_images_note(plan.predicted, sources[plan.predicted])
        said = [note for note in said if note not in few]
    evaluation, sheets, detector = None, [], read
    if detector is None:
        generated, numbers = generated_sources(files), None
        drawn = feature_files.features_of(files, encoders, generated, store, mesh, stages)
        if files.uses_images:
            with stages("read images"):
                numbers = image_numbers(plan.known, sources, features, store, mesh)
        else:
            said.append("There are no controls of pixels, sizes and colors without images.")
        unknowns = {
            name: UnknownSet(kind, features[name], images[name])
            for kind, names in ((NEAR, plan.near), (FAR, plan.far))
            for name in names
        } | {name: UnknownSet(FAR, of) for name, of in drawn.items()}
        bar = progress_bar("detector", len(plan.known) + 2, "step")
        known = {name: features[name] for name in plan.known}
        together, grouped = groups.groups_of(known)
        said += grouped
        with stages("measure"), bar as progress:
            measured = measure(
                known,
                images,
                numbers,
                unknowns,
                k=FLAGS.components,
                score=FLAGS.score,
                alpha=FLAGS.alpha,
                seed=FLAGS.seed,
                groups=together,
                encoders=hashes,
                settings=settings,
                progress=progress,
            )
        detector, evaluation = measured.detector, measured.evaluation
        if len(plan.known) == 2:
            said.append("No domain is left out in turn: the other would be alone.")
        if files.uses_images:
            sheets += measured_sheets(measured, plan.known, sources | generated, features | drawn)
    answers = None
    if plan.predicted is not None:
        answers = detector(features[plan.predicted])
        if files.uses_images:
            ids = features[plan.predicted].ids
            sheets += answer_sheets(answers, sources[plan.predicted], ids)
    if not launch.is_first_process():
        return
    found = None
    if answers is not None and plan.predicted is not None:
        path = None if read is None else FLAGS.detector
        found = predictions(answers, detector, images[plan.predicted], path)
        write_answers(answers, features[plan.predicted].ids, out)
    if read is None:
        detector.save(out / "detector")
    run_ = files.described(launch.describe_run("detector", mesh, records, said))
    result = DetectorResult(run_, evaluation, found)
    launch.publish(result, lambda made: detector_page(made, sheets), detector_summary, out, stages)


def input_settings() -> dict[str, str]:
    """What features depend on beside weights and images."""
    names = ("normalization", "orientation", "dtype")
    return {name: str(FLAGS[name].value) for name in names}


def check_panel(read: "DomainDetector", hashes: dict, settings: dict[str, str]) -> None:
    """Refuse another panel, other weights or another treatment of images than the detector's."""
    own = read.encoders
    if set(hashes) != set(own):
        raise ValueError(
            f"encoders={', '.join(hashes)}: detector={FLAGS.detector!r} was fitted on "
            f"{', '.join(own)}; give these"
        )
    for name, sha256 in hashes.items():
        fitted = own[name]
        if sha256 and fitted and sha256 != fitted:
            raise ValueError(
                f"{name} has weights {sha256[:12]}, and detector={FLAGS.detector!r} was fitted "
                f"with {fitted[:12]}; give those, or fit again"
            )
    for name, value in settings.items():
        if read.settings.get(name, value) != value:
            raise ValueError(
                f"{name}={value!r}: detector={FLAGS.detector!r} was fitted with "
                f"{read.settings[name]!r}; give that"
            )


def generated_sources(files: FilePanel) -> dict:
    """Noise and single colors, where all encoders can see them."""
    from substrate_jax.analyses.detector import unknowns

    if files.opened:
        return {}
    made = {unknowns.NOISE: unknowns.noise(), unknowns.CONSTANT: unknowns.constant()}
    return {name: source for name, source in made.items() if name not in files.domains}


def image_numbers(known: list[str], sources, features, store, mesh):
    """Pixels, sizes and colors of the images of the known domains."""
    from substrate_jax.analyses.detector.controls import ImageNumbers, read_numbers

    found, options = [], {"store": store, "mesh": mesh, "workers": FLAGS.workers}
    for name in known:
        ids = features[name].ids
        with progress_bar(f"{name}, pixels", 2 * len(ids), "image") as progress:
            found.append(read_numbers(sources[name], ids, progress, **options))
    return ImageNumbers.join(found)


def write_answers(answers: "Answers", ids, out: Path) -> None:
    """Write predictions.csv, a line for each image."""
    from substrate_jax.report.text import csv_text
    from substrate_jax.report.writing import write_file

    columns = ("id", "domain", "probability", "p_value", "abstained")
    rows = zip(
        ids, answers.names, answers.confidence, answers.p_values, answers.abstained, strict=True
    )
    write_file(out / "predictions.csv", csv_text(columns, rows))


if __name__ == "__main__":
    launch.start(run, devices.join_processes)
