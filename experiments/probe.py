"""Few labels per class: do 16 substrate scores beat one encoder at full width?

    python -m experiments.probe
    python -m experiments.probe --domains=pets=dir:PETS,xray=npz:xray.npz --n=2000 --heads=all
    python -m experiments.probe --features=pets:mine=a.npz,pets:theirs=b.npz --labels=1,5,50

Every labeled domain is a target, and with several domains so is the domain that an image is from.
Half of a target's images, class by class, are what labels are drawn from; every head on every input
is fitted to the same draws and judged on the other half.
"""

import dataclasses
import functools
from pathlib import Path

from absl import flags

from .common import calibration, devices, groups, lapack, launch
from .common import domains as several_domains
from .common import encoders as panel
from .common import features as feature_files
from .common.stages import Stages, progress_bar

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(several_domains)
flags.adopt_module_key_flags(feature_files)
flags.adopt_module_key_flags(groups)
flags.DEFINE_list(
    "labels",
    ["2", "5", "10"],
    "Labels per class; all for 1,2,5,10,25,50,100,200,500. Those that a target cannot supply are "
    "left out.",
)
flags.DEFINE_list(
    "heads",
    ["paper", "ridge_tuned"],
    "Heads: all, or some of paper, ridge_2_10, ridge_tuned, ridge_averaged, logistic_tuned, "
    "logistic_averaged, nearest_mean, discriminant, neighbors.",
)
flags.DEFINE_integer("episodes", 5, "Draws of labels, the same for all methods.", lower_bound=2)


def run() -> None:
    """Extract features, fit every head on every input, and write the report."""
    from substrate_jax.analyses.probe.methods import HEADS, heads_named
    from substrate_jax.encoders.table import text_table
    from substrate_jax.mesh import make_mesh

    if FLAGS.list_encoders:
        print(text_table())
        return
    calibration.check_alpha()
    heads, shots = heads_named(FLAGS.heads), labels_of(FLAGS.labels)
    if FLAGS.components < 1:
        raise ValueError(f"components={FLAGS.components}: give 1 or more")
    if max(shots) < 2 and all(HEADS[name].chooses for name in heads):
        raise ValueError(
            f"labels={','.join(FLAGS.labels)}: a tuned head needs 2 labels per class or more; give "
            "them, or another head"
        )
    groups.check_group_by()
    specs = feature_files.chosen_specs()
    least = 2 * (FLAGS.components + 1)
    uses = f"{FLAGS.components} components on half of them"
    take = functools.partial(panel.take_images, least=least, uses=uses, fewer=True)
    mesh = make_mesh(FLAGS.mesh)
    files = feature_files.open_files(specs)
    if "pixels" in (spec.name for spec in files.specs):
        raise ValueError("features: 'pixels' is an input of its own here; give another name")
    width = sum(spec.width for spec in (*specs, *files.specs))
    if width < FLAGS.components:
        raise ValueError(
            f"components={FLAGS.components}: the encoders have {width} features together; ask for "
            "fewer components"
        )
    out = Path(FLAGS.out or "runs/probe")
    if FLAGS.dry_run:
        print(several_domains.plan(specs, files, mesh, out, take))
        said = "; ".join(heads)
        print(f"labels per class: {', '.join(map(str, shots))}   episodes: {FLAGS.episodes}")
        print(f"heads: {said}")
        return
    sources = {name: take(name, files.source(name)) for name in files.domains}
    with launch.claim(out):
        compute(specs, files, sources, heads, shots, mesh, out)


def labels_of(words: list[str]) -> list[int]:
    """The numbers of --labels, ascending.

    Raises:
        ValueError: none, one twice, or one that is no number from 1 up.
    """
    from substrate_jax.analyses.probe.episodes import SHOTS

    if words == ["all"]:
        return list(SHOTS)
    said = f"labels={','.join(words)!r}: give all, or different numbers from 1 up such as 1,5,50"
    if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
        raise ValueError(said)
    found = sorted(int(word) for word in words)
    if not found or found[0] < 1 or len(set(found)) < len(found):
        raise ValueError(said)
    return found


def compute(specs, files, sources, heads, shots, mesh, out: Path) -> None:
    """Everything after the plan; `out` is held by this run."""
    import numpy as np

    from substrate_jax.analyses.probe.answers import answers, over_targets
    from substrate_jax.analyses.probe.compare import compare
    from substrate_jax.analyses.probe.page import probe_page
    from substrate_jax.analyses.probe.results import ProbeResult, Target
    from substrate_jax.analyses.probe.targets import labeled_sets
    from substrate_jax.analyses.probe.words import probe_summary
    from substrate_jax.features.image_readers import image_readers

    stages = Stages()
    store = panel.open_store(out)
    with stages("load", alone=True):
        encoders = [panel.load(spec) for spec in specs]
    reader = image_readers()[0]
    extractors = [*encoders, *([reader] if files.uses_images else [])]
    features = feature_files.features_of(files, extractors, sources, store, mesh, stages)
    if not launch.is_first_process():
        return
    pixels = None
    if files.uses_images:
        pixels = {name: np.asarray(of[reader.spec.name]) for name, of in features.items()}
        features = {name: without(of, reader.spec.name) for name, of in features.items()}
    together, grouped = groups.groups_of(features)
    sets, said = labeled_sets(features, pixels, together)
    drawn = {name: draw(name, images, shots) for name, images in sets.items()}
    comparisons = {}
    for name, images in sets.items():
        with stages("inputs", alone=True):
            inputs = images.inputs(drawn[name][0], k=FLAGS.components, seed=FLAGS.seed)
        fits = len(inputs) * len(drawn[name][0].shots)
        with stages("probe"), progress_bar(name, fits, "fit") as progress:
            comparisons[name] = compare(
                inputs,
                drawn[name][0],
                heads=heads,
                average=list(images.features) if len(images.features) > 1 else [],
                progress=progress,
            )
    level = 1 - FLAGS.alpha
    found = answers(comparisons, level=level)
    targets = {
        name: Target(
            domains=images.domains,
            by_domain=images.by_domain,
            classes=[str(one) for one in drawn[name][0].names],
            pool=len(drawn[name][0].pool),
            held_out=len(drawn[name][0].test),
            left_out=drawn[name][1],
            repeated=images.repeated(drawn[name][0]),
            comparison=comparisons[name],
            answers=found[name],
        )
        for name, images in sets.items()
    }
    records = [panel.encoder_record(encoder) for encoder in encoders] + files.encoder_records()
    said = said + grouped + feature_files.notes(specs, files, sources, features)
    result = ProbeResult(
        run=files.described(launch.describe_run("probe", mesh, records, said)),
        components=FLAGS.components,
        level=level,
        images={name: files.image_set(name, source) for name, source in sources.items()},
        targets=targets,
        overall=over_targets(targets, level=level),
    )
    launch.publish(result, probe_page, probe_summary, out, stages)


def without(features, name: str):
    """Features without one of their blocks."""
    arrays = {one: block for one, block in features.arrays.items() if one != name}
    return dataclasses.replace(features, arrays=arrays)


def draw(name: str, images, shots: list[int]):
    """Episodes of a target, and the numbers of labels that it cannot supply; errors name it."""
    try:
        return images.episodes(shots, episodes=FLAGS.episodes, seed=FLAGS.seed)
    except ValueError as error:
        raise ValueError(f"target {name!r}: {error}") from error


if __name__ == "__main__":
    lapack.one_thread()
    launch.start(run, devices.join_processes)
