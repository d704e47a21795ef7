"""What a comparison of hundreds of encoders would cost on a pod: the table of docs/scaling.md.

    python -m tests.experiments.benchmarks.extrapolated --images=1000000

Encoders are those of the paper's panel, over and over. Programs are traced for the pod's devices
and their work is counted; neither TPU nor libtpu is needed, nothing is compiled. Rates are
published ones of the chip; decoding is timed here, on one processor. Takes minutes of one.
"""

import argparse
import io
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType
from PIL import Image

from experiments.benchmarks.costs import machine, stages
from experiments.benchmarks.pods.chips import CHIPS
from experiments.benchmarks.pods.tables import size
from substrate_jax.data.domains import open_source
from substrate_jax.encoders import encoder_spec, select_encoders
from substrate_jax.mesh import DATA_AXIS

SAMPLES, SIDES = 16, (375, 500)  # of photographs as ImageNet has them


def decode_seconds(specs) -> float:
    """Processor seconds to decode an image and to resize it for all encoders."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(SAMPLES):
            # Noise at an eighth of the resolution, enlarged: JPEG at the size of a photograph.
            small = rng.integers(0, 256, (SIDES[0] // 8, SIDES[1] // 8, 3), np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(small).resize(SIDES[::-1], Image.Resampling.BICUBIC).save(
                buffer, "JPEG"
            )
            (Path(folder) / f"{number}.jpg").write_bytes(buffer.getvalue())
        source = open_source(f"dir:{folder}")
        resizes = {spec.preprocess.pixels: spec.preprocess for spec in specs}.values()
        start = time.process_time()
        for row in range(SAMPLES):
            image = source.read(row)
            for preprocess in resizes:
                preprocess.prepare(image)
        return (time.process_time() - start) / SAMPLES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chip", default="v5e", choices=CHIPS)
    parser.add_argument("--devices", type=int, default=256)
    parser.add_argument("--encoders", type=int, default=500)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--processors", type=int, default=64 * 112, help="of all hosts")
    given = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    n, chip = given.images, CHIPS[given.chip]
    mesh = AbstractMesh((given.devices,), (DATA_AXIS,), axis_types=(AxisType.Auto,))
    rates = machine.published(chip, given.devices)
    specs = [encoder_spec(name) for name in select_encoders(["all"], "paper")]
    widths = [specs[number % len(specs)].config.width for number in range(given.encoders)]
    at_once = 64 * given.devices
    run = stages.Run(
        rows={"images": n},
        widths=widths,
        batch=at_once,
        chunk=at_once,
        dtype="bfloat16",
    )
    seconds = decode_seconds(specs)
    row("decoding", {"processors": seconds * n / given.processors})
    print(f"  {1e3 * seconds:.1f} ms an image on a processor here")
    forward: dict[str, float] = {}
    for term in stages.extraction(rates, mesh, run, specs):
        for name, value in term.seconds.items():
            forward[name] = forward.get(name, 0.0) + value * given.encoders / len(specs)
    row("forward passes", forward)
    share = 4 * n * sum(widths) / given.devices
    print(f"  features {size(4 * n * sum(widths))}, {size(share)} a device of {size(chip.memory)}")
    for name in ("cka", "mutual_knn", "substrate"):
        term = stages.of_table(name, rates, run.setting(mesh, n))
        row(name, term.seconds)


def row(what: str, seconds) -> None:
    parts = ", ".join(f"{name} {value:.3g} s" for name, value in seconds.items())
    print(f"{what:16s} {sum(seconds.values()):10.3g} s   {parts}", flush=True)


if __name__ == "__main__":
    main()
