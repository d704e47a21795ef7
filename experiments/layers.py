"""Compare the layers of two encoders, or of one with itself: a heat map of linear CKA.

    python -m experiments.layers

compares two encoders of the bundled mini panel on photographs, without any download. Others:

    python -m experiments.layers --encoders=mini_mae_base
    python -m experiments.layers --encoders=resnet50,hf:facebook/dinov2-base --weights_dir=WEIGHTS \
        --domain=mine=dir:PICTURES --n=2000 --layers='layer.*,blocks\\..*'

Layers of networks of your own, from files of features (docs/applications.md):

    python -m experiments.layers --features=net@conv1=conv1.npy,net@conv2=conv2.npy --pool=mean

CKA is exact, of all images at once, whatever the batch size and the mesh. With --pool=mean the
vectors of a layer are kept in OUT/features, so a run that stops goes on where it was; flattened
activations are too large to keep, and such a run starts afresh. Written to OUT: result.json,
figures and report.html.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from .common import calibration, devices, launch, numbers, permutations
from .common import encoders as panel
from .common import features as feature_files
from .common.stages import Stages, progress_bar

if TYPE_CHECKING:
    from substrate_jax.analyses.layers.results import LayerComparison

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(permutations)
flags.adopt_module_key_flags(panel)
flags.adopt_module_key_flags(feature_files)
flags.DEFINE_string("domain", "photographs", "A domain, or NAME=SOURCE as for --domains.")
flags.DEFINE_list(
    "layers",
    ["all"],
    "Regular expressions for whole names, such as stem,'blocks\\..*'; or all. Several names of one "
    "array count once. --dry_run lists the names.",
)
flags.DEFINE_bool("debiased", False, "Show debiased CKA first; both are computed.")
flags.DEFINE_float("memory", 4.0, "GiB for the features and Gram matrices of layers.")
numbers.hold_to_positive("memory", "GiB")


def run() -> None:
    """Resolve the plan, compare the layers, and write the report."""
    from substrate_jax.analyses.layers.rows import choose_layers, plan_layers
    from substrate_jax.encoders.table import text_table
    from substrate_jax.mesh import make_mesh

    if FLAGS.list_encoders:
        print(text_table())
        return
    specs = feature_files.chosen_specs()
    calibration.check_alpha()
    if FLAGS.permutations < 0:
        raise ValueError(f"permutations={FLAGS.permutations}: give 0 or more")
    files = feature_files.open_files(specs, flag="domain", layers=True)
    if len(files.domains) > 1:
        raise ValueError(f"domain={FLAGS.domain!r} names {len(files.domains)} domains; give one")
    given = files.layers()
    if not specs and not FLAGS["layers"].using_default_value:
        raise ValueError(
            f"layers={','.join(FLAGS.layers)!r} chooses layers of networks; of files name those "
            "that you want in --features"
        )
    if not specs:
        layers = {}
    elif len(specs) <= 2:  # else the plan refuses; tracing a whole panel takes a while
        layers = choose_layers({spec.name: spec.config for spec in specs}, FLAGS.layers)
    else:
        layers = {spec.name: {} for spec in specs}
    mesh = make_mesh(FLAGS.mesh)
    (name,) = files.domains
    source = panel.take_images(name, files.source(name), 4, "layers")
    memory = int(FLAGS.memory * 2**30)
    layers |= {encoder: of.layers for encoder, of in given.items()}
    plan = plan_layers(layers, len(source), pool=pool_of_networks(specs), memory=memory)
    out = Path(FLAGS.out or "runs/layers")
    if FLAGS.dry_run:
        print(describe_plan(specs, files, plan, name, mesh, out))
        if source.left_out:
            print(source.left_out_note)
        return
    with launch.claim(out):
        compute(specs, files, source, mesh, out)


def compute(specs, files, source, mesh, out: Path) -> None:
    """Everything after the plan; `out` is held by this run."""
    from substrate_jax.analyses.layers.compare import compare_layers
    from substrate_jax.analyses.layers.matches import match_table
    from substrate_jax.analyses.layers.page import layers_page
    from substrate_jax.analyses.layers.results import LayersDomain, LayersResult

    (name,) = files.domains
    stages = Stages()
    with stages("load", alone=True):
        encoders = [panel.load(spec) for spec in specs]
    with progress_bar(name, len(source), "image") as progress:
        comparison = compare_layers(
            encoders,
            source,
            given=files.layers(),
            layers=FLAGS.layers,
            pool=pool_of_networks(specs),
            measure="cka_debiased" if FLAGS.debiased else "cka",
            alpha=FLAGS.alpha,
            permutations=FLAGS.permutations,
            seed=FLAGS.seed,
            mesh=mesh,
            memory=int(FLAGS.memory * 2**30),
            progress=progress,
            stage=stages,
            store=panel.open_store(out) if pool_of_networks(specs) == "mean" else None,
            batch_size=FLAGS.batch_size,
            skip_bad=FLAGS.skip_bad,
            workers=FLAGS.workers,
            device_memory=panel.device_memory_bytes(),
        )
    if not launch.is_first_process():
        return
    said = panel.paradigm_notes(specs) + files.notes({name: source})
    said += notes(specs, name, source, comparison)
    records = [panel.encoder_record(encoder) for encoder in encoders] + files.encoder_records()
    result = LayersResult(
        run=files.described(launch.describe_run("layers", mesh, records, said)),
        domain=LayersDomain(name, files.image_set(name, source)),
        comparison=comparison,
    )
    rate = ""
    if encoders:
        seconds = max(stages.seconds["extract"], 1e-3)
        rate = f"\n{comparison.passes * comparison.n / seconds:.0f} images/s in {seconds:.1f} s"
        rate += " of extraction, compilation included"

    def page(result: LayersResult):
        return layers_page(result, {name: panel.thumbnails(source)})

    def summary(result: LayersResult) -> str:
        return f"{match_table(result)}{rate}"

    launch.publish(result, page, summary, out, stages)


def pool_of_networks(specs) -> str:
    """--pool as it concerns layers of networks; rows of files are pooled as they are read."""
    return (FLAGS.pool or "mean") if specs else "mean"


def notes(specs, name: str, source, comparison: "LayerComparison") -> list[str]:
    """Choices of this run that change how its numbers read."""
    found = panel.arithmetic_notes() if specs else []
    found += panel.unreadable_note(name, source, comparison.n)
    found += panel.left_out_note(source) + panel.few_images_note(name, source)
    found += [
        f"{layer} of {axis.encoder} gives every image the same values: its CKA of 0 is not "
        "disagreement. Look at the weights."
        for axis, cka in ((comparison.rows, comparison.cka), (comparison.columns, comparison.cka.T))
        for layer, row in zip(axis.layers, cka, strict=True)
        if not row.any()
    ]
    if comparison.space == "feature" and FLAGS.permutations:
        found.append("In feature space the null of the maximum over pairs is not sampled.")
    return found


def describe_plan(specs, files, plan, domain: str, mesh, out: Path) -> str:
    """What a run would do: encoders, layers and their shapes, memory, downloads."""
    from substrate_jax.analyses.layers.rows import width_of

    encoders, missing = panel.encoder_lines(specs)
    lines = [
        f"mesh: {dict(mesh.shape)}   out: {out}   dtype: {FLAGS.dtype}   pool: {plan.pool}",
        *("encoders:", *encoders, *files.lines()),
    ]
    for encoder, layers in plan.layers.items():
        lines.append(f"layers of {encoder}:")
        lines += [
            f"  {name:28s} {'x'.join(map(str, shape)):>14s} -> [{plan.n}, "
            f"{width_of(shape, plan.pool)}]"
            for name, shape in layers.items()
        ]
    lines.append(
        f"domain: {domain}, {plan.n} images, {len(plan.groups)} passes, {plan.space} space, "
        f"{plan.bytes / 2**20:.1f} MiB of rows and Gram matrices"
    )
    lines.append(f"to download: {missing / 2**20:.0f} MiB")
    return "\n".join(lines)


if __name__ == "__main__":
    FLAGS.set_default("encoders", "mini_resnet50,mini_vit_base")
    launch.start(run, devices.join_processes)
