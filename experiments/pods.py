"""Compile every sharded program for TPU pods, on any host: memory, collectives, least time.

    python -m experiments.pods                                  # a pod of 16 chips
    python -m experiments.pods --topologies=v5e:16x16,v5p:4x4x8 --programs=measures,substrates
    python -m experiments.pods --topologies=v6e:8x8 --programs=extraction --batch_size=16384

XLA's compiler for TPUs is in libtpu (pip install 'substrate-jax[tpu]') and needs no TPU. Each
program is compiled as it runs on the pod: extraction of every encoder, all measures, their nulls,
streams, the substrate, and a step of distillation. A row says the seconds of lowering and of
compiling, what a device holds in HBM, its flops, and the bytes that it receives in collectives; and
the least seconds that the chip's published rates allow. Nothing is run, so no time is measured.

Written to OUT: result.json, report.html. A run that stops goes on after the programs that it has
compiled.
"""

import itertools
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from .common import launch, mesh, networks, signals
from .common.stages import Stages, progress_bar

if TYPE_CHECKING:
    from .benchmarks.pods.chips import Pod
    from .benchmarks.pods.programs import Program, Setting

FLAGS = flags.FLAGS
flags.DEFINE_list("topologies", ["v5e:4x4"], "Pods, such as v5e:16x16; --dry_run lists them.")
flags.DEFINE_list("programs", ["all"], "Names or groups, or all; --dry_run lists them.")
flags.DEFINE_integer("images", 16_384, "Images of a comparison.", lower_bound=128)
flags.adopt_module_key_flags(launch)
flags.adopt_module_key_flags(networks)
flags.adopt_module_key_flags(mesh)
DEVICE_BATCH = 64  # images on each device at once, without --batch_size


def run() -> None:
    """Compile what is asked for, print the table, and write result.json and the report."""
    from .benchmarks.pods import chips

    chips.check_libtpu()
    import jax

    jax.config.update("jax_platforms", "cpu")  # a host with TPUs keeps them free
    from substrate_jax.encoders import select_encoders

    from .benchmarks.pods.compiling import mesh_of
    from .benchmarks.pods.programs import chosen

    encoders = select_encoders(FLAGS.encoders, "paper")
    programs = chosen(FLAGS.programs, encoders)
    if not FLAGS.topologies:
        raise ValueError(f"topologies is empty: give some of {chips.known()}")
    pods = {name: chips.describe(name) for name in dict.fromkeys(FLAGS.topologies)}
    meshes = {name: mesh_of(pod, FLAGS.mesh) for name, pod in pods.items()}
    settings = {name: setting(mesh, encoders) for name, mesh in meshes.items()}
    if FLAGS.dry_run:
        print(describe_plan(pods, settings, programs))
        return
    out = Path(FLAGS.out or "runs/pods")
    try:
        with launch.claim(out):
            compute(pods, settings, programs, encoders, out)
    except KeyboardInterrupt as interrupt:
        sys.exit(signals.exit_code(interrupt))


def setting(mesh, encoders: list[str]) -> "Setting":
    """Sizes of this run on a mesh."""
    from substrate_jax.encoders import encoder_spec
    from substrate_jax.mesh import DATA_AXIS

    from .benchmarks.pods.programs import Setting

    widths = tuple(encoder_spec(name).config.width for name in encoders)
    batch = DEVICE_BATCH
    if FLAGS["batch_size"].present:
        batch = math.ceil(FLAGS.batch_size / mesh.shape[DATA_AXIS])
    return Setting(mesh, FLAGS.images, widths, batch, FLAGS.dtype)


def compute(
    pods: "dict[str, Pod]",
    settings: "dict[str, Setting]",
    programs: "list[Program]",
    encoders: list[str],
    out: Path,
) -> None:
    """Everything after the plan; `out` is held by this run."""
    import jax

    from substrate_jax.encoders import encoder_spec
    from substrate_jax.mesh import make_mesh

    from .benchmarks.pods import chips, page, tables
    from .benchmarks.pods.compiling import compile_for, facts
    from .benchmarks.pods.results import PodsResult
    from .benchmarks.pods.unfinished import Unfinished

    stages = Stages()
    widths = {name: encoder_spec(name).config.width for name in encoders}
    batch = {name: one.batch for name, one in settings.items()}
    begun = {"images": FLAGS.images, "widths": widths, "dtype": FLAGS.dtype, "mesh": FLAGS.mesh}
    note = out / "pods.arguments.json"
    launch.keep_arguments(note, begun | {"batch_size": FLAGS.batch_size})
    unfinished = Unfinished(out / "unfinished.jsonl")
    found = []
    with progress_bar("pods", len(pods) * len(programs), "program") as progress:
        for (name, pod), program in itertools.product(pods.items(), programs):
            row = unfinished.known.get((name, program.name))
            if row is None:
                with stages("compile"):
                    row = compile_for(pod, program, settings[name])
                unfinished.keep(row)
                print(tables.line(row), flush=True)
                jax.clear_caches()
            found.append(row)
            progress(len(found), len(pods) * len(programs))
    result = PodsResult(
        run=launch.describe_run("pods", make_mesh("data=1")),
        libtpu=chips.check_libtpu(),
        rows=FLAGS.images,
        widths=widths,
        batch=batch,
        dtype=FLAGS.dtype,
        pods={name: facts(pod, settings[name].mesh) for name, pod in pods.items()},
        programs=found,
    )
    launch.publish(result, page.pods_page, tables.text, out, stages)
    if unfinished.finish(found):
        note.unlink()


def describe_plan(
    pods: "dict[str, Pod]", settings: "dict[str, Setting]", programs: "list[Program]"
) -> str:
    """What a run would do, and what there is to choose from."""
    from .benchmarks.pods import chips

    lines = [
        f"{name}: {pod.chips} chips of {pod.chip.title}, mesh {dict(settings[name].mesh.shape)}, "
        f"{settings[name].batch} images on each device at once"
        for name, pod in pods.items()
    ]
    one = next(iter(settings.values()))
    lines.append(
        f"n={one.rows:,}, {len(one.widths)} encoders, {sum(one.widths):,} features, {one.dtype}"
    )
    groups: dict[str, list[str]] = {}
    for program in programs:
        groups.setdefault(program.group, []).append(program.name)
    lines += [f"{group}: {', '.join(names)}" for group, names in groups.items()]
    lines.append(f"topologies that there are: {chips.known()}")
    return "\n".join(lines)


if __name__ == "__main__":
    FLAGS.set_default("compilation_cache", False)  # or compiling would not be timed
    FLAGS.set_default("dtype", "bfloat16")
    launch.start(run)
