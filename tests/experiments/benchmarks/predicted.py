"""Predicted against measured seconds of stages, by hand: the table of docs/results.md.

    python -m tests.experiments.benchmarks.predicted --devices=1,2,4,8
    python -m tests.experiments.benchmarks.predicted --devices=4 --coordinator=127.0.0.1:2345 \
        --num_processes=2 --process_id=0          # and 1 beside it, JAX_NUM_CPU_DEVICES=2 for both

For each number of devices and each stage, as often as --repeats says: rates, the stage, rates, and
so on, so that what else runs on the machine hits both. A stage is held against the mean of the
rates before and after it; the median of these ratios is the row's. The clock is the processor's of
this process, for other work takes the wall's, or the wall's on a machine that does nothing else
(--clock=wall), for threads that wait for one another spend the processor's; the rates are in its
seconds too. Programs are compiled before.
"""

import os
import time
import types

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")

import jax
import numpy as np
from absl import app, flags

from experiments.benchmarks import measure
from experiments.benchmarks.costs import machine, stages
from experiments.common import devices
from substrate_jax.analyses.cka.compare import compare_encoders
from substrate_jax.data.domains import open_source
from substrate_jax.data.sources import take
from substrate_jax.encoders import load_encoder
from substrate_jax.features import extract
from substrate_jax.mesh import make_mesh
from substrate_jax.processes import exchange

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(devices)
flags.DEFINE_list("devices", ["1", "2", "4", "8"], "Of all processes together.")
flags.DEFINE_list("stages", ["extract", "analyse"], "That are timed.")
flags.DEFINE_list("encoders_of_stage", ["mini_vit_base", "mini_resnet50"], "That are extracted.")
flags.DEFINE_list("widths", ["768", "1024", "1280"], "Of the features that are analyzed.")
flags.DEFINE_integer("rows", 2048, "Of the features that are analyzed.")
flags.DEFINE_integer("repeats", 3, "Of a stage between two measurements of the rates.")
flags.DEFINE_integer("images", 256, "That are extracted.")
flags.DEFINE_enum("clock", "processor", ["processor", "wall"], "Whose seconds are compared.")


def main(_) -> None:
    devices.join_processes()
    clock = time.perf_counter if FLAGS.clock == "wall" else time.process_time
    for module in (measure, stages):
        module.time = types.SimpleNamespace(perf_counter=clock)
    for count in FLAGS.devices:
        mesh = make_mesh(f"data={count}")
        for stage in FLAGS.stages:
            how = {"extract": extraction, "analyse": analysis}[stage]
            run, specs, sources, call = how(mesh)
            jax.block_until_ready(call())
            rates, measured = [machine.measured(mesh)], []
            for _ in range(FLAGS.repeats):
                start = clock()
                jax.block_until_ready(call())
                measured.append(clock() - start)
                rates.append(machine.measured(mesh))
            predicted = []
            for rate in rates:
                terms = stages.extraction(rate, mesh, run, specs)
                if specs:
                    terms += stages.decoding(run, specs, sources)
                else:
                    terms += stages.analysis(rate, mesh, run)
                terms = [term for term in terms if term.what != "substrate"]
                predicted.append(sum(term.total for term in terms))
            said = np.asarray(exchange([*measured, *predicted])).mean(axis=0)
            measured, predicted = said[: FLAGS.repeats], said[FLAGS.repeats :]
            ratios = (predicted[:-1] + predicted[1:]) / 2 / measured
            if jax.process_index() == 0:
                print(
                    f"| {stage} | {jax.process_count()} | {count} | {np.median(predicted):.2f} "
                    f"({predicted.min():.2f} to {predicted.max():.2f}) | "
                    f"{np.median(measured):.2f} ({measured.min():.2f} to {measured.max():.2f}) | "
                    f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f}) |",
                    flush=True,
                )
                for term in terms:
                    print(f"    {term.what}: {dict(term.seconds)}", flush=True)
                print(f"    {rates[-1]}", flush=True)


def sized(rows: dict[str, int], widths) -> stages.Run:
    return stages.Run(
        rows=rows,
        widths=widths,
        batch=64,
        chunk=FLAGS.images // jax.process_count(),  # one for each process
    )


def extraction(mesh):
    encoders = [load_encoder(name) for name in FLAGS.encoders_of_stage]
    source = take(open_source("texture"), FLAGS.images, 0)
    specs = [encoder.spec for encoder in encoders]
    run = sized({"texture": FLAGS.images}, [spec.width for spec in specs])
    return (
        run,
        specs,
        {"texture": source},
        lambda: extract(encoders, source, mesh=mesh),
    )


def analysis(mesh):
    rng = np.random.default_rng(0)
    widths = [int(width) for width in FLAGS.widths]
    features = {
        str(width): rng.standard_normal((FLAGS.rows, width), np.float32) for width in widths
    }
    run = sized({"rows": FLAGS.rows}, widths)
    return run, [], {}, lambda: compare_encoders(features, mesh=mesh).cka


if __name__ == "__main__":
    app.run(main)
