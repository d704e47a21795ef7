"""Images to features: one decode pass for all encoders, rows matched by id.

n images and E encoders f_e give E blocks

    X_e[i] = f_e(preprocess_e(image_i)) in R^{d_e},    i = 1..n,    float32

with row i of every block belonging to ids[i]. A call is planned (`features.plan`); what the store
has is read, and the rest decoded (`features.pixels`), computed (`features.forward`) and collected
(`features.collect`), all at one time. Each image file is decoded once; each distinct resize and
crop is done once from it, while the devices work on the batches before. Batches have one constant
shape, padded with blank rows that are cut off afterwards, so every image counts exactly once and
every encoder compiles once. Batches are split over the mesh's data axis and weights copied to every
device.

Rows are computed in chunks of the store: a batch never crosses a chunk's edge, so a chunk is a
function of its rows and of the batch size per device alone, and a killed run that is started again
with the same batch size and devices ends with the same bits as one that was never killed.

In a run of several processes each takes a share of the chunks, computes them on its own devices,
and writes them to the store that all processes see. First they compare what they were given: row
ids, labels, each encoder's fingerprint, options. Fingerprints of sources may differ, for that of a
folder holds its path and times, which hosts need not share; the first, the middle and the last
image must then agree, and process 0's fingerprint stands in the store's keys. At the end they tell
each other which images could not be read. What fails in one process fails in all. With
`gather=False` no process ever holds more than the few chunks it works on: the blocks returned read
rows from the store when asked.

Weights stay on the host until their turn. With `device_memory` encoders take turns in groups that
fit: parameters, working memory as XLA reports it, and two batches of pixels and features. The
pixels of as many chunks as `plan.HOST_PIXELS` holds are kept on the host while the groups pass over
them, so images are still decoded once.

Cost: n decodes, n E forward passes, 4 n sum(d_e) bytes of host memory where gathered.

Not guaranteed: equal bits on another backend or batch size per device; they differ by rounding.
That processes whose sources have different fingerprints see the same images, beyond ids and those
three.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int64

from substrate_jax.data.sources import Source
from substrate_jax.features import processes
from substrate_jax.features.collect import Collected
from substrate_jax.features.features import Features
from substrate_jax.features.forward import device_groups, loaded, run_batches
from substrate_jax.features.pixels import Pixels, decode_ahead
from substrate_jax.features.plan import Plan, make_plan
from substrate_jax.features.protocol import Extractor
from substrate_jax.features.store import FeatureStore, written_behind


def extract(
    encoders: Sequence[Extractor],
    source: Source,
    *,
    mesh: Mesh | None = None,
    store: FeatureStore | str | os.PathLike | None = None,
    batch_size: int = 64,
    skip_bad: bool = False,
    workers: int = 0,
    device_memory: int | None = None,
    gather: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Features of every image of a source under every encoder, in one pass over the images.

    Args:
      encoders: see `Extractor`; names must differ.
      source: the images, or sounds.
      mesh: from `make_mesh`; None means all devices on the data axis.
      store: where to keep and look up features; a path makes a `FeatureStore`. In a run of
        several processes, a folder that all of them see.
      batch_size: images at once over all devices, rounded up to a multiple of the data axis;
        at most the source's length and the store's `chunk_rows`.
      skip_bad: leave out images that cannot be read, for every encoder alike.
      workers: processes that decode; 0 decodes in threads of this one.
      device_memory: bytes of each device that encoders and their batches may take; None loads all
        encoders at once.
      gather: hold all features in the memory of every process; otherwise the blocks returned are
        `StoredRows`, which needs a store.
      progress: called with (rows done, rows in all) of this process, on the way and at the end.

    Returns:
      Features with float32 [n, d] per encoder, in the source's order; n is smaller than the
      source only by images skipped.

    Raises:
      ValueError: images that cannot be read (all are counted, the first named) without
        `skip_bad`; features that are NaN or infinite; two encoders of one name; an encoder whose
        output is not [n, width] or that alone exceeds `device_memory`; `gather=False` without a
        store; processes that were given different images, encoders or options.

    Example:
      >>> from substrate_jax.data import open_source
      >>> from substrate_jax.encoders import load_encoder
      >>> vit = load_encoder("mini_vit_base")
      >>> features = extract([vit], open_source("sample:texture:16"))
      >>> features["mini_vit_base"].shape == (16, vit.spec.width)
      True
    """
    plan, failure = processes.attempt(
        make_plan,
        encoders,
        source,
        mesh=mesh,
        store=store,
        batch_size=batch_size,
        gather=gather,
        skip_bad=skip_bad,
    )
    given = processes.exchange(plan and plan.given, failure)
    plan = plan.with_fingerprint(processes.agree(given, source))
    computed, failure = processes.attempt(_compute, plan, workers, device_memory, progress)
    said = processes.exchange(computed and computed.unreadable(), failure)
    return computed.features(_readable_rows(plan, dict(pair for pairs in said for pair in pairs)))


def _compute(
    plan: Plan,
    workers: int,
    device_memory: int | None,
    progress: Callable[[int, int], None] | None,
) -> Collected:
    """This process's share: what the store has of it is read, the rest is computed."""
    collected = Collected(plan)
    missing = collected.restore()
    needed = [name for name in plan.encoders if any(name in lack for lack in missing.values())]
    groups = device_groups(plan, needed, device_memory)
    rows = [plan.rows(chunk) for chunk in plan.chunks]
    done, total = 0, sum(chunk.stop - chunk.start for chunk in rows)
    for span in plan.spans([chunk for chunk in plan.chunks if missing[chunk]], len(groups)):
        batches = list(plan.batches(span, missing))
        pixels: Iterable[Pixels] = decode_ahead(batches, plan.source, plan.batch_rows, workers)
        if len(groups) > 1:
            pixels = list(pixels)
        for group in groups:
            with contextlib.ExitStack() as held:
                write = held.enter_context(written_behind(plan.store))
                functions = {name: held.enter_context(loaded(plan, name)) for name in group}
                readable = collected.readable(pixels)
                for batch, results in run_batches(plan, missing, functions, readable):
                    collected.add(batch, results, write)
                    del results  # or a third batch would be on the devices
                    done += batch.stop - batch.start
                    if progress:
                        progress(min(done // len(groups), total), total)
    if progress:
        progress(total, total)
    return collected


def _readable_rows(plan: Plan, unreadable: Mapping[int, str | None]) -> Int64[np.ndarray, " m"]:
    """The rows that every process could read; an error if that are none, or fewer than asked for.

    Args:
      plan: of the call.
      unreadable: row -> why, where a process knows it.
    """
    source, bad = plan.source, sorted(unreadable)
    if len(bad) == len(source) or (bad and not plan.skip_bad):
        first = ", ".join(unreadable[row] or source.ids[row] for row in bad[:3])
        advice = (
            f"no {source.modality} is left"
            if plan.skip_bad
            else "repair or remove them, or give skip_bad=True"
        )
        what = f"{source.modality}s of {source.name}"
        raise ValueError(
            f"{len(bad)} of {len(source)} {what} cannot be read, first {first}; {advice}"
        )
    return np.delete(np.arange(len(source)), np.array(bad, int))
