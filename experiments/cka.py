"""Compare a panel of encoders on image domains: CKA, its calibration, neighbors, and PCKA.

    python -m experiments.cka --encoders=all

compares the bundled mini panel on the embedded sample domains: no download, one to two and a
half minutes on two CPU cores. Published checkpoints and other images:

    python -m experiments.cka --panel=paper --encoders=all --weights_dir=WEIGHTS \
        --domains=natural=tfds:imagenette,mine=dir:PICTURES --n=1000

More measures of similarity (RSA, RBF CKA, SVCCA, ...), with intervals from resampled images:

    python -m experiments.cka --measure=all --bootstrap=200

with chance by permuted images and the ceiling that halves of the same units set:

    python -m experiments.cka --measure=rsa,procrustes --measure_permutations=200 --ceiling_splits=5

Features made elsewhere, beside encoders or alone (docs/applications.md):

    python -m experiments.cka --features=mine=layer4.npy,other=other.csv

Features are kept in OUT/features, so a run that stops goes on where it was, and a second run reads
them. Written to OUT: result.json, figures and report.html.
"""

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from .common import bootstrap, calibration, devices, launch, permutations
from .common import domains as several_domains
from .common import encoders as panel
from .common import features as feature_files
from .common.stages import Stages, progress_bar

if TYPE_CHECKING:
    from substrate_jax.report.page import Page

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(permutations)
flags.adopt_module_key_flags(bootstrap)
flags.adopt_module_key_flags(several_domains)
flags.DEFINE_list("k", ["10", "30", "100"], "Neighbors for mutual kNN recall.")
flags.DEFINE_list(
    "measure", [], "More similarity measures by name, or all; an unknown name lists them."
)
flags.DEFINE_integer(
    "measure_permutations",
    0,
    "Permutations of the images for the p-values of more measures whose null has no closed form; "
    "0 for none.",
)
flags.DEFINE_integer(
    "ceiling_splits",
    0,
    "Splits of every encoder's units into halves for the ceilings of more measures; 0 for none.",
)
flags.DEFINE_list(
    "ceiling_seeds",
    [],
    "Pairs NAME=OTHER of encoders of this run that are one network trained from two seeds, for the "
    "ceilings of more measures.",
)
flags.DEFINE_enum(
    "calibration", "closed_form", ["closed_form", "permutation"], "How the null is computed."
)


def run() -> None:
    """Resolve the plan, extract features, compare, and write the report."""
    from substrate_jax.encoders.table import text_table
    from substrate_jax.mesh import make_mesh

    if FLAGS.list_encoders:
        print(text_table())
        return
    specs = feature_files.chosen_specs()
    ks = neighbor_counts(FLAGS.k)
    for name, least in (("components", 1), ("permutations", 0)):
        if (value := getattr(FLAGS, name)) < least:
            raise ValueError(f"{name}={value}: give {least} or more")
    least = max([4, FLAGS.components + 1, *(k + 1 for k in ks)])
    uses = f"k={max(ks)} neighbors and {FLAGS.components} components"
    n = panel.image_count()
    if n < least:
        raise ValueError(
            f"n={n} images per domain are too few for {uses}; give --n={least} or more"
        )
    calibration.check_alpha()
    measures = chosen_measures(FLAGS.measure, FLAGS.bootstrap, n)
    check_chance(measures)
    take = functools.partial(panel.take_images, least=least, uses=uses)
    mesh = make_mesh(FLAGS.mesh)
    files = feature_files.open_files(specs)
    other_seeds(FLAGS.ceiling_seeds, [spec.name for spec in (*specs, *files.specs)], measures)
    out = Path(FLAGS.out or "runs/cka")
    if FLAGS.dry_run:
        print(several_domains.plan(specs, files, mesh, out, take))
        print(estimate(specs, files, ks, measures, mesh, take))
        return
    sources = {}
    for name in files.domains:
        sources[name] = take(name, files.source(name))
        chosen_measures(FLAGS.measure, FLAGS.bootstrap, len(sources[name]))
    with launch.claim(out):
        compute(specs, files, sources, ks, measures, mesh, out)


def compute(specs, files, sources, ks, measures, mesh, out: Path) -> None:
    """Everything after the plan; `out` is held by this run."""
    import jax

    from substrate_jax.analyses.cka.compare import compare_encoders, domain_agreement
    from substrate_jax.analyses.cka.measured import measure_encoders
    from substrate_jax.analyses.cka.page import cka_page
    from substrate_jax.analyses.cka.results import CkaDomain, CkaResult
    from substrate_jax.analyses.cka.separation import separation
    from substrate_jax.analyses.cka.summary import cka_summary
    from substrate_jax.substrate import pairwise_pcka

    stages = Stages()
    store = panel.open_store(out)
    with stages("load", alone=True):
        encoders = [panel.load(spec) for spec in specs]
    gather = jax.process_count() == 1
    features = feature_files.features_of(
        files, encoders, sources, store, mesh, stages, gather=gather
    )
    every = (*specs, *files.specs)
    groups = [spec.groups for spec in every]
    seeds = other_seeds(FLAGS.ceiling_seeds, [spec.name for spec in every], measures)
    domains = {}
    bar = progress_bar("analyse", len(sources), "domain")
    with stages("analyse"), bar as progress:
        for number, (name, source) in enumerate(sources.items(), 1):
            comparison = compare_encoders(
                features[name],
                ks=ks,
                method=FLAGS.calibration,
                permutations=FLAGS.permutations,
                alpha=FLAGS.alpha,
                seed=FLAGS.seed,
                mesh=mesh,
            )
            measured = None
            if measures:
                measured = measure_encoders(
                    features[name],
                    measures,
                    draws=FLAGS.bootstrap,
                    permutations=FLAGS.measure_permutations,
                    alpha=FLAGS.alpha,
                    splits=FLAGS.ceiling_splits,
                    other_seeds=seeds,
                    seed=FLAGS.seed,
                    mesh=mesh,
                )
            domains[name] = CkaDomain(
                images=files.image_set(name, source),
                comparison=comparison,
                separation=separation(comparison.calibrated.score, groups),
                measures=measured,
            )
            progress(number, len(sources))
        pcka = pairwise_pcka(list(features.values()), FLAGS.components, mesh=mesh)
        agreement = domain_agreement(list(features), pcka, FLAGS.components)
    if not launch.is_first_process():
        return
    records = [panel.encoder_record(encoder) for encoder in encoders] + files.encoder_records()
    run = launch.describe_run(
        "cka", mesh, records, feature_files.notes(specs, files, sources, features)
    )

    def page(result: CkaResult) -> "Page":
        return cka_page(result, {name: panel.thumbnails(of) for name, of in sources.items()})

    launch.publish(
        CkaResult(files.described(run), domains, agreement), page, cka_summary, out, stages
    )


def estimate(specs, files, ks, measures, mesh, take) -> str:
    """Seconds of the stages of a run, as far as they are computed; takes a few itself."""
    from substrate_jax.data.domains import bytes_to_download

    from .benchmarks.costs import machine, stages

    sources = {
        name: take(name, files.source(name))
        for name, spec in files.domains.items()
        if not (files.uses_images and bytes_to_download(spec))
    }
    size = stages.Run(
        rows={name: len(sources.get(name, range(panel.image_count()))) for name in files.domains},
        widths=[spec.width for spec in (*specs, *files.specs)],
        ks=ks,
        components=FLAGS.components,
        permutations=FLAGS.permutations if FLAGS.calibration == "permutation" else None,
        alpha=FLAGS.alpha,
        measures=measures,
        draws=FLAGS.bootstrap,
        shuffles=FLAGS.measure_permutations,
        splits=FLAGS.ceiling_splits,
        batch=FLAGS.batch_size,
        chunk=FLAGS.chunk_rows,
        dtype=FLAGS.dtype,
    )
    rates = machine.measured(mesh, dtype=FLAGS.dtype)
    return stages.text(stages.estimate(rates, mesh, size, specs, sources), rates)


def neighbor_counts(words: list[str]) -> tuple[int, ...]:
    """The values of --k."""
    try:
        ks = tuple(dict.fromkeys(int(word) for word in words))
    except ValueError:
        raise ValueError(f"k={','.join(words)!r}: give whole numbers, such as 10,30,100") from None
    if not ks or min(ks) < 1:
        raise ValueError(f"k={','.join(words)!r}: give numbers of neighbors of at least 1")
    return ks


def chosen_measures(words: list[str], draws: int, n: int) -> tuple[str, ...]:
    """The measures of --measure, once each, after a check that `n` images are enough for them."""
    from substrate_jax.kernels import MEASURES, rows_needed

    names = tuple(MEASURES) if "all" in words else tuple(dict.fromkeys(words))
    if unknown := [name for name in names if name not in MEASURES]:
        raise ValueError(
            f"unknown measure {unknown[0]!r}; give all or some of {', '.join(MEASURES)}"
        )
    if draws < 0 or draws == 1:
        raise ValueError(f"bootstrap={draws}; give 0 for no intervals, or 200 resamples, say")
    if draws and not names:
        raise ValueError(f"bootstrap={draws} has nothing to resample; give --measure=all, say")
    needed = {name: rows_needed(name, resampled=draws > 0) for name in names}
    worst = max(names, key=lambda name: needed[name], default=None)
    if worst is not None and needed[worst] > n:
        with_draws = f" with --bootstrap={draws}" if draws else ""
        raise ValueError(
            f"n={n} images per domain are too few for {worst}{with_draws}; "
            f"give --n={needed[worst]} or more"
        )
    return names


def check_chance(measures: tuple[str, ...]) -> None:
    """Raises ValueError unless --measure_permutations and --ceiling_splits can be used."""
    for name, example in (("measure_permutations", 200), ("ceiling_splits", 5)):
        value = getattr(FLAGS, name)
        if value < 0:
            raise ValueError(f"{name}={value}; give 0 for none, or {example}, say")
        if value and not measures:
            raise ValueError(f"{name}={value} has no measure; give --measure=all, say")
    draws, least = FLAGS.measure_permutations, math.ceil(1 / FLAGS.alpha) - 1
    if 0 < draws < least:
        raise ValueError(
            f"measure_permutations={draws} are too few for alpha={FLAGS.alpha}; "
            f"give {least} or more"
        )


def other_seeds(words: list[str], encoders: list[str], measures: tuple[str, ...]) -> dict[str, str]:
    """The pairs of --ceiling_seeds, after a check that they are of encoders of the run."""
    from substrate_jax.analyses.cka.measured import seed_pairs

    pairs = {}
    for word in words:
        name, _, other = word.partition("=")
        if not (name and other) or name in pairs:
            raise ValueError(f"ceiling_seeds={word!r}: write NAME=OTHER once for each pair")
        pairs[name] = other
    if pairs and not measures:
        raise ValueError(
            f"ceiling_seeds={','.join(words)!r} has no measure; give --measure=all, say"
        )
    try:
        seed_pairs(pairs, encoders)
    except ValueError as error:
        raise ValueError(f"ceiling_seeds={','.join(words)!r}: {error}") from None
    return pairs


if __name__ == "__main__":
    launch.start(run, devices.join_processes)
