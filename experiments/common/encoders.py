"""What launchers that run encoders on images share: flags, loading, and records for result.json.

Flags are defined here once; a launcher takes them up, and those of `launch` with them, with
`flags.adopt_module_key_flags(encoders)`: --help then shows them, and result.json holds them.
"""

import contextlib
import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags, logging

from . import calibration, devices, launch, networks, numbers, redaction

if TYPE_CHECKING:
    from substrate_jax.features import FeatureStore
    from substrate_jax.report.run import EncoderRecord, ImageSet

FLAGS = flags.FLAGS
MOST_IMAGES = 512  # of a domain, without --n
flags.adopt_module_key_flags(launch)
flags.adopt_module_key_flags(devices)
flags.adopt_module_key_flags(networks)
flags.adopt_module_key_flags(calibration)
flags.DEFINE_enum("panel", "mini", ["mini", "paper"], "Where `all` and groups look for encoders.")
flags.DEFINE_list(
    "random_weights", [], "Encoders to add with random weights, whatever --weights_dir has."
)
flags.DEFINE_bool("list_encoders", False, "Print the registered encoders and stop.")
flags.DEFINE(
    launch.PathParser(),
    "weights_dir",
    None,
    "Folder with NAME.safetensors, ORG/NAME/ as downloaded, or a hub cache.",
)
flags.DEFINE_integer(
    "n",
    None,
    "Images per domain, chosen by a hash of their ids and the seed; without it, 512 or as many as "
    "there are.",
    lower_bound=1,
)
flags.DEFINE_enum(
    "normalization",
    "imagenet",
    ["imagenet", "own"],
    "Mean and deviation of the input: ImageNet's for every encoder, as the paper has it, or each "
    "checkpoint's own.",
)
flags.DEFINE_integer(
    "workers", 0, "Processes that decode images; 0 decodes in threads.", lower_bound=0
)
flags.DEFINE_float(
    "device_memory", None, "GiB of each device for encoders, which then take turns; all at once."
)
numbers.hold_to_positive("device_memory", "GiB")
flags.DEFINE_integer(
    "chunk_rows",
    512,
    "Images per file of the store: what a kill can lose, and processes share out.",
    lower_bound=1,
)
flags.DEFINE_enum(
    "orientation",
    "ignore",
    ["ignore", "apply"],
    "Whether images are turned as their EXIF data say, or left as stored, as most loaders do.",
)
flags.DEFINE_bool("skip_bad", False, "Leave out unreadable images, for every encoder alike.")
flags.DEFINE(
    launch.PathParser(),
    "store",
    None,
    "Folder or gs:// URL of the feature store; OUT/features by default.",
)


def chosen_specs() -> list:
    """The records of --encoders, and of --random_weights.

    Raises:
        ValueError: a word is neither a group nor an encoder, or nothing is left.
    """
    from substrate_jax.encoders import find_spec, select_encoders

    names = select_encoders(FLAGS.encoders, FLAGS.panel)
    return [find_spec(name, FLAGS.weights_dir) for name in names] + random_specs()


def random_specs() -> list:
    """The records of --random_weights, as they are without training."""
    from substrate_jax.encoders import find_spec
    from substrate_jax.encoders.untrained import untrained_spec

    specs = []
    for name in dict.fromkeys(FLAGS.random_weights):
        try:
            specs.append(untrained_spec(find_spec(name, None)))
        except ValueError as error:
            raise ValueError(f"random_weights={name!r}: {error}") from error
    return specs


def load(spec):
    """The encoder of a record, as the flags want it."""
    from substrate_jax.encoders import find_spec, load_encoder
    from substrate_jax.encoders.untrained import UNTRAINED, untrained

    if spec.paradigm == UNTRAINED:
        plain = find_spec(spec.name.removesuffix(f"-{UNTRAINED}-0"), None)
        plain = dataclasses.replace(plain, preprocess=input_preprocess(plain))
        return untrained(plain, dtype=FLAGS.dtype)
    return load_encoder(
        spec.name,
        FLAGS.weights_dir if FLAGS.weights_dir and not spec.bundled else None,
        dtype=FLAGS.dtype,
        preprocess=input_preprocess(spec),
    )


def extract_features(encoders, source, store, mesh, progress, *, gather: bool = True):
    """Features of one source, as the flags want them extracted; see `features.extract`."""
    from substrate_jax.features import extract

    return extract(
        encoders,
        source,
        mesh=mesh,
        store=store,
        batch_size=FLAGS.batch_size,
        skip_bad=FLAGS.skip_bad,
        workers=FLAGS.workers,
        device_memory=device_memory_bytes(),
        gather=gather,
        progress=progress,
    )


def open_images(spec: str):
    """The source of a spec, fetched if need be with a progress bar unless --quiet."""
    from substrate_jax.data.domains import open_source

    source = open_source(spec, quiet=FLAGS.quiet, orientation=FLAGS.orientation)
    if source.left_out:
        _warn_once(source.left_out_note)
    return source


def image_count(source=None) -> int:
    """Images that a run takes: --n; without it, 512 or as many as the source has."""
    if FLAGS.n is not None:
        return FLAGS.n
    return MOST_IMAGES if source is None else min(MOST_IMAGES, len(source))


def take_images(name: str, source, least: int, uses: str, *, fewer: bool = False):
    """The subsample of a domain's images that a run uses.

    Args:
        name: of the domain.
        source: all its images.
        least: images that the run needs.
        uses: what it needs them for, as in "k=10 neighbors".
        fewer: take all where --n asks for more than there are, instead of refusing.

    Raises:
        ValueError: fewer images than the run needs, or than --n asks for.
    """
    from substrate_jax.data.sources import take

    n = min(image_count(source), len(source)) if fewer else image_count(source)
    if n < least:
        raise ValueError(
            f"domain {name!r}: {n} {source.modality}s are too few for {uses}; "
            f"give {least} or more, or ask for less"
        )
    return take(source, n, FLAGS.seed)


def open_store(out: Path) -> "FeatureStore":
    """The store of --store, or of the output folder."""
    from substrate_jax.features import FeatureStore

    return FeatureStore(FLAGS.store or out / "features", FLAGS.chunk_rows)


def input_preprocess(spec):
    """The checkpoint's resize and crop, with the normalization that --normalization asks for.

    Of sounds the spectrogram, and of texts the tokens, are the checkpoint's own.
    """
    from substrate_jax.data.preprocess import IMAGENET_MEAN, IMAGENET_STD

    if FLAGS.normalization == "own" or spec.modality != "image":
        return spec.preprocess
    return dataclasses.replace(spec.preprocess, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def device_memory_bytes() -> int | None:
    """--device_memory in bytes."""
    return FLAGS.device_memory and int(FLAGS.device_memory * 2**30)


def encoder_record(encoder) -> "EncoderRecord":
    """What an encoder is and where its weights are from."""
    from substrate_jax.encoders.weights import parameter_count
    from substrate_jax.report.run import EncoderRecord

    return EncoderRecord(
        name=encoder.name,
        family=encoder.spec.family,
        paradigm=encoder.spec.paradigm,
        width=encoder.spec.width,
        parameters=parameter_count(encoder.spec.config),
        source=encoder.source,
        revision=encoder.revision,
        sha256=encoder.sha256,
    )


def image_set(name: str, spec: str, source) -> "ImageSet":
    """What a domain's images are."""
    import numpy as np

    from substrate_jax.data.domains import list_domains
    from substrate_jax.report.run import ImageSet

    registered = {domain.name: domain for domain in list_domains()}
    return ImageSet(
        source=redaction.redact(spec),
        fingerprint=source.fingerprint,
        description=registered[name].description if name in registered else "",
        pictures=None if source.labels is None else len(np.unique(source.labels)),
        modality=source.modality,
    )


def thumbnails(source, count: int = 8) -> list:
    """A few images from all over a source, for the report; unreadable ones are left out.

    Of sounds and texts none.
    """
    import numpy as np

    from substrate_jax.data.decode import UnreadableImage

    images = []
    if source.modality != "image":
        return images
    for row in np.linspace(0, len(source) - 1, count):
        with contextlib.suppress(UnreadableImage):
            images.append(source[int(row)].image)
    return images


def arithmetic_notes() -> list[str]:
    """Choices of the flags that change how numbers read."""
    of = "ImageNet" if FLAGS.normalization == "imagenet" else "its own checkpoint"
    turned = ["Images are turned as their EXIF data say."] * (FLAGS.orientation == "apply")
    return [
        f"Features and products are computed in {FLAGS.dtype}.",
        f"Every encoder's input has the mean and deviation of {of}.",
        *turned,
    ]


def paradigm_notes(specs) -> list[str]:
    """A note on each encoder whose paradigm no record says."""
    from substrate_jax.encoders.registry import TRANSFORMERS_PREFIX

    return [
        f"{spec.name} is counted as {spec.paradigm.replace('_', ' ')}, as most weights of its "
        "model type are: files in transformers' format do not say what it was trained on."
        for spec in specs
        if spec.name.startswith(TRANSFORMERS_PREFIX)
    ]


def unreadable_note(name: str, source, read: int) -> list[str]:
    """A note on what was asked for of a source and could not be read, if there is any."""
    asked, what = len(source), f"{source.modality}s"
    return [f"{name}: {asked - read} of {asked} {what} could not be read."] if read < asked else []


def few_images_note(name: str, source) -> list[str]:
    """A note on a domain with fewer images or sounds than usual or asked for, if it is one."""
    if len(source) >= (asked := image_count()):
        return []
    usual = "" if FLAGS.n is not None else " that are taken by default"
    what = f"{len(source)} {source.modality}s"
    return [f"{name} has {what}, fewer than the {asked}{usual}: all are used."]


def constant_notes(name: str, features) -> list[str]:
    """A note on each encoder that gives every image of a domain the same features."""
    from substrate_jax.features.constant import constant_blocks

    return [
        f"{encoder} gives every image of {name} the same features: what the comparison says of it "
        "there, such as a CKA of 0, is not disagreement. Look at its weights."
        for encoder in constant_blocks(features)
    ]


def input_notes(specs, source) -> list[str]:
    """Notes on sounds at another rate than an encoder's, and on texts that are too long for it."""
    from substrate_jax.data.modality import cut_note, resampled_note

    return [note for note in (resampled_note(specs, source), cut_note(specs, source)) if note]


@functools.cache
def _warn_once(note: str) -> None:
    """The plan, its estimate and the run take the same images."""
    logging.warning(note)


def left_out_note(source) -> list[str]:
    """A note on files that were not taken for images, if there are any."""
    return [f"{source.left_out_note}."] if source.left_out else []


def encoder_lines(specs) -> tuple[list[str], int]:
    """The encoders of a plan, one a line, and the bytes to download for them."""
    from substrate_jax.encoders import is_at_hand
    from substrate_jax.encoders.untrained import UNTRAINED
    from substrate_jax.encoders.weights import parameter_count

    lines, missing = [], 0
    for spec in specs:
        parameters = parameter_count(spec.config)
        drawn = spec.paradigm == UNTRAINED
        here = drawn or is_at_hand(spec, FLAGS.weights_dir)
        missing += 0 if here else 4 * parameters
        absent = f"not in {FLAGS.weights_dir}: put" if FLAGS.weights_dir else "to download from"
        where = "random weights" if drawn else "at hand" if here else f"{absent} {spec.checkpoint}"
        lines.append(
            f"  {spec.name:20s} {spec.family:9s} {spec.paradigm:22s} width {spec.width:5d} "
            f"parameters {parameters:12,d}  {where}"
        )
    return lines, missing
