"""Does a panel's substrate transport between image domains, and is it more than pixels?

    python -m experiments.domains

compares the seven embedded sample domains with the bundled mini panel. The paper's shared panel on
its eight domains (docs/domains.md says how to get each), or folders of your own:

    python -m experiments.domains --panel=paper --encoders=shared --domains=paper8 --n=1000
    python -m experiments.domains --domains=mine=dir:PICTURES,xray=npz:organamnist.npz

Features made elsewhere, a file for every domain and encoder (docs/applications.md):

    python -m experiments.domains --features=day:net=day.npz,night:net=night.npz

For every pair of domains: PCKA with bootstrap intervals, its null under permuted rows, the mean
cos^2 of principal angles and the Procrustes disparity; the number of components swept, encoders and
families left out, halves of one domain as a ceiling. Then controls (pixels, hand-crafted features,
random bases, shuffled rows, untrained encoders), what each component follows, and discriminative
against masked-reconstruction encoders.

Features are kept in OUT/features, so a run that stops goes on where it was. Written to OUT:
result.json, figures and report.html.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from .common import calibration, devices, launch
from .common import domains as several_domains
from .common import encoders as panel
from .common import features as feature_files
from .common import sweep as components_swept
from .common.stages import Stages, progress_bar

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from substrate_jax.analyses.domains.results import Extremes
    from substrate_jax.data.sources import Source
    from substrate_jax.features import Features, FeatureStore

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(several_domains)
flags.adopt_module_key_flags(components_swept)
flags.DEFINE_integer("resamples", 50, "Resamples of the images for intervals of PCKA; 0 for none.")
flags.DEFINE_integer("splits", 10, "Random halvings of each domain for the ceiling; 0 for none.")
flags.DEFINE_bool("controls", True, "Compute the controls and what components follow.")
flags.DEFINE_integer("random_bases", 50, "Draws of random bases; 0 for none.")
flags.DEFINE_integer("untrained", 1, "Seeds of untrained encoders; 0 for none.")
flags.DEFINE_bool("panel_test", True, "Test discriminative against masked-reconstruction encoders.")
flags.DEFINE_integer(
    "panel_resamples", 100, "Resamples of the images for the panel test's intervals; 0 for none."
)
flags.DEFINE_integer("extremes", 5, "Images at either end of a component in the report.")


def run() -> None:
    """Resolve the plan, extract features, compare, and write the report."""
    from substrate_jax.encoders.table import text_table
    from substrate_jax.mesh import make_mesh

    if FLAGS.list_encoders:
        print(text_table())
        return
    specs = feature_files.chosen_specs()
    calibration.check_alpha()
    ks = components_swept.sweep(FLAGS.sweep)
    least_of = {"extremes": 1, "random_bases": 0, "untrained": 0, "components": 1, "splits": 0}
    for name, least in least_of.items():
        if (value := getattr(FLAGS, name)) < least:
            raise ValueError(f"{name}={value}: give {least} or more")
    for name in ("resamples", "panel_resamples"):
        if (value := getattr(FLAGS, name)) < 0 or value == 1:
            raise ValueError(f"{name}={value}: give 0 for no intervals, or 50, say")
    files = feature_files.open_files(specs)
    if len(files.domains) < 2:
        given = f"domains={FLAGS.domains!r}" if files.uses_images else f"features={FLAGS.features}"
        raise ValueError(f"{given} names one domain; give two or more")
    take = functools.partial(
        panel.take_images,
        least=max(FLAGS.components + 1, 4),
        uses=f"{FLAGS.components} components",
        fewer=True,
    )
    mesh = make_mesh(FLAGS.mesh)
    out = Path(FLAGS.out or "runs/domains")
    if FLAGS.dry_run:
        print(several_domains.plan(specs, files, mesh, out, take))
        return
    sources = {name: take(name, files.source(name)) for name in files.domains}
    with launch.claim(out):
        compute(specs, files, sources, ks, mesh, out)


def compute(specs, files, sources, ks, mesh, out: Path) -> None:
    """Everything after the plan; `out` is held by this run."""
    from substrate_jax.analyses.cka.separation import panel_test
    from substrate_jax.analyses.domains.compare import compare_domains
    from substrate_jax.analyses.domains.page import domains_page, domains_summary
    from substrate_jax.analyses.domains.results import ComparedDomain, DomainsResult

    stages = Stages()
    images = Images(sources, files, panel.open_store(out), mesh)
    with stages("load", alone=True):
        encoders = [panel.load(spec) for spec in specs]
    with stages("extract"):
        features = images.panel_features(encoders)
    members = [*specs, *files.specs]
    families = [spec.family for spec in members]
    with stages("compare", alone=True):
        comparison, fits = compare_domains(
            features,
            families,
            k=FLAGS.components,
            ks=ks,
            draws=FLAGS.resamples,
            splits=FLAGS.splits,
            alpha=FLAGS.alpha,
            seed=FLAGS.seed,
            mesh=mesh,
        )
    scores = {name: fits.scores(i) for i, name in enumerate(fits.names)}
    controls = correlations = None
    if FLAGS.controls:
        controls, correlations = control(encoders, images, features, fits, scores, stages)
    tested = None
    if FLAGS.panel_test:
        with stages("panel test", alone=True):
            tested = panel_test(
                features,
                [spec.groups for spec in members],
                families,
                alpha=FLAGS.alpha,
                draws=FLAGS.panel_resamples,
                seed=FLAGS.seed,
                mesh=mesh,
            )
    if not launch.is_first_process():
        return
    records = [panel.encoder_record(encoder) for encoder in encoders] + files.encoder_records()
    domains = {
        name: ComparedDomain(
            images=files.image_set(name, source),
            n=len(features[name].ids),
            explained_variance_ratio=ratio,
        )
        for (name, source), ratio in zip(
            sources.items(), fits.explained_variance_ratio, strict=True
        )
    }
    result = DomainsResult(
        run=files.described(
            launch.describe_run(
                "domains", mesh, records, notes(specs, files, sources, features, comparison, ks)
            )
        ),
        k=FLAGS.components,
        domains=domains,
        comparison=comparison,
        panel_test=tested,
        controls=controls,
        components=correlations,
    )
    with stages("report"):
        sheets = {
            name: contact_sheet(source, features[name].ids, scores[name])
            for name, source in sources.items()
            if files.uses_images
        }
    launch.publish(result, lambda made: domains_page(made, sheets), domains_summary, out, stages)


@dataclasses.dataclass(frozen=True)
class Images:
    """The images of all domains, where their features are kept, and what extracts them."""

    sources: Mapping[str, "Source"]
    files: feature_files.FilePanel
    store: "FeatureStore"
    mesh: "Mesh"

    def features(self, encoders, what: str = "") -> dict[str, "Features"]:
        """Features of every domain; `what` stands behind its name on the progress bar."""
        found = {}
        for name, source in self.sources.items():
            with progress_bar(name + what, len(source), "image") as progress:
                found[name] = panel.extract_features(
                    encoders, source, self.store, self.mesh, progress
                )
        return found

    def panel_features(self, encoders) -> dict[str, "Features"]:
        """Those of the encoders that run, then those made elsewhere."""
        found = self.features(encoders) if encoders else {}
        return {
            name: self.files.features(name, source, found.get(name))
            for name, source in self.sources.items()
        }

    def handmade(self, features) -> dict[str, dict]:
        """Pixels and hand-crafted features of the images that could be read."""
        from substrate_jax.features.image_readers import image_features

        found = {}
        for name, source in self.sources.items():
            with progress_bar(f"{name}, pixels", len(source), "image") as progress:
                found[name] = image_features(
                    source,
                    features[name].ids,
                    store=self.store,
                    mesh=self.mesh,
                    workers=FLAGS.workers,
                    progress=progress,
                )
        return found


def control(encoders, images: Images, features, fits, scores, stages) -> tuple[dict, dict | None]:
    """The controls, and the components' correlations with hand-crafted features."""
    from substrate_jax.analyses.domains.components import correlate_components
    from substrate_jax.analyses.domains.controls import control_agreement
    from substrate_jax.encoders import untrained

    with stages("extract controls"):
        handmade = images.handmade(features) if images.files.uses_images else None
        panels = []
        for number in range(FLAGS.untrained if untrained_control(images.files) else 0):
            fresh = [
                untrained(encoder.spec, FLAGS.seed + number, dtype=FLAGS.dtype)
                for encoder in encoders
            ]
            panels.append(images.features(fresh, ", untrained"))
    with stages("controls"), progress_bar("controls", 1, "step") as progress:
        controls = control_agreement(
            dict(zip(fits.names, fits.x, strict=True)),
            dict(zip(fits.names, fits.bases, strict=True)),
            [block.shape[1] for block in next(iter(features.values())).values()],
            handmade,
            untrained_panels=panels,
            seeds=FLAGS.random_bases,
            seed=FLAGS.seed,
            mesh=images.mesh,
            progress=progress,
        )
        if handmade is None:
            return controls, None
        correlations = {name: correlate_components(scores[name], handmade[name]) for name in scores}
    return controls, correlations


def untrained_control(files: feature_files.FilePanel) -> bool:
    """Whether the panel can be had untrained: there is no network behind features in files."""
    return not files.opened


def contact_sheet(source, ids, scores) -> list["Extremes"]:
    """For each component the images with the highest and the lowest scores."""
    from substrate_jax.analyses.domains.components import extreme_rows
    from substrate_jax.analyses.domains.results import Extremes

    place = {row_id: row for row, row_id in enumerate(source.ids)}

    def images(rows) -> list:
        return [source[place[ids[row]]].image for row in rows]

    top, bottom = extreme_rows(scores, FLAGS.extremes)
    return [
        Extremes(component, images(high), images(low))
        for component, (high, low) in enumerate(zip(top, bottom, strict=True))
    ]


def notes(specs, files, sources, features, comparison, ks) -> list[str]:
    """Choices of this run that change how its numbers read."""
    found = feature_files.notes(specs, files, sources, features)
    if FLAGS.controls and FLAGS.untrained and not untrained_control(files):
        found.append("There is no control of untrained encoders, as some have features alone.")
    if FLAGS.controls and not files.uses_images:
        found.append("There are no controls of pixels and hand-crafted features without images.")
    if left := [k for k in ks if k not in comparison.sweep.ks]:
        found.append(
            f"The sweep leaves out {', '.join(map(str, left))} components: not below half of the "
            "images of the smallest domain."
        )
    if FLAGS.splits and comparison.split_half is None:
        found.append("Halves of the smallest domain are too small for a ceiling.")
    return found


if __name__ == "__main__":
    launch.start(run, devices.join_processes)
