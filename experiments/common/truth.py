"""What accuracy an encoder has on a target: of a probe, of fine-tuning, or from a file."""

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from . import encoders as panel
from . import launch
from .stages import progress_bar

if TYPE_CHECKING:
    import numpy as np

    from substrate_jax.analyses.transferability.truth import Halves
    from substrate_jax.data.sources import Source
    from substrate_jax.features import Features

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(panel)
PROBE, FINETUNE = "probe", "finetune"
flags.DEFINE_string(
    "truth",
    PROBE,
    "Accuracy that scores are judged by: of a tuned linear probe (probe), of fine-tuning all "
    "weights (finetune; hours for large encoders), or a CSV of columns model, target, accuracy.",
)
flags.DEFINE_integer(
    "finetune_epochs",
    20,
    "Passes over the images in fine-tuning.",
    lower_bound=1,
    upper_bound=100_000,
)
flags.DEFINE_float("finetune_learning_rate", 3e-4, "At its peak; published encoders want less.")


def check_rate() -> None:
    """Refuse a learning rate that is no positive number."""
    if not 0 < FLAGS.finetune_learning_rate < float("inf"):
        raise ValueError(
            f"finetune_learning_rate={FLAGS.finetune_learning_rate}: give a positive number"
        )


def check_truth(specs: Sequence[Any], file_specs: Sequence[Any]) -> None:
    """Refuse what cannot be before anything runs.

    Raises:
        ValueError: a file that is none, fine-tuning of what has no network here, or a precision
            that is not trained in.
    """
    if FLAGS.truth not in (PROBE, FINETUNE):
        if not Path(FLAGS.truth).is_file():
            raise ValueError(
                f"truth={FLAGS.truth!r}: give probe, finetune, or a CSV of columns model, target, "
                "accuracy"
            )
        return
    if FLAGS.truth == PROBE:
        return
    if file_specs:
        raise ValueError(
            f"truth=finetune: of {file_specs[0].name!r} there are only features; give the "
            "accuracies as a CSV, or leave it out"
        )
    if FLAGS.dtype != "float32":
        raise ValueError(f"truth=finetune with dtype={FLAGS.dtype}: weights train in float32")


def plan_of_truth(encoders: int, targets: int) -> str:
    """What a run would do for the accuracies, as a line."""
    said = {PROBE: "a tuned linear probe on the held-out half"}
    said[FINETUNE] = (
        f"fine-tuning of {encoders} encoders on {targets} targets, {FLAGS.finetune_epochs} epochs "
        f"at {FLAGS.finetune_learning_rate:g}"
    )
    return f"accuracy: {said.get(FLAGS.truth, FLAGS.truth)}"


def accuracies(
    encoders: Sequence[Any],
    names: Sequence[str],
    sources: "Mapping[str, Source]",
    features: "Mapping[str, Features]",
    halves: "Mapping[str, Halves]",
    mesh,
    out: Path,
) -> "dict[str, np.ndarray] | None":
    """Target -> accuracy of every encoder, or None where probes are to be fitted.

    Args:
        encoders: loaded.
        names: of all encoders, those of files too.
        sources: target -> images.
        features: target -> features, whose ids say which images were read.
        halves: target -> what is fitted to.
        mesh: where encoders are fine-tuned.
        out: folder of the run, where accuracies of fine-tuning are kept as they come.

    Raises:
        ValueError: a file without one of the encoders or targets.
    """
    if FLAGS.truth == PROBE:
        return None
    if FLAGS.truth == FINETUNE:
        return _fine_tuned(encoders, sources, features, halves, mesh, out)
    from substrate_jax.analyses.transferability.published import accuracies_of, read_table

    return accuracies_of(read_table(FLAGS.truth), names, list(halves))


def _fine_tuned(encoders, sources, features, halves, mesh, out: Path) -> "dict[str, np.ndarray]":
    """All accuracies; `out`/finetuned.csv holds those that are known, so that a run goes on."""
    import numpy as np

    from substrate_jax.data.modality import image_preprocess
    from substrate_jax.report.text import csv_text
    from substrate_jax.report.writing import write_file
    from substrate_jax.training.finetune import RECIPE, fine_tuned_accuracy

    for encoder in encoders:
        image_preprocess(encoder.spec)  # which refuses one of sounds
    recipe = dataclasses.replace(
        RECIPE, epochs=FLAGS.finetune_epochs, learning_rate=FLAGS.finetune_learning_rate
    )
    arguments = {
        "epochs": recipe.epochs,
        "learning_rate": recipe.learning_rate,
        "seed": FLAGS.seed,
        "normalization": FLAGS.normalization,
        "weights": {encoder.name: encoder.sha256 for encoder in encoders},
        "images": {
            target: [sources[target].fingerprint, len(features[target].ids)] for target in halves
        },
    }
    path = out / "finetuned.csv"

    def begun() -> list[tuple[str, str, float]]:
        launch.keep_arguments(out / "finetuned.arguments.json", arguments)
        return _known(path)

    # `out` is a folder of the first process, and all must train the same.
    known = {(name, target): value for name, target, value in launch.from_first_process(begun)}
    bar = progress_bar("fine-tuning", len(halves) * len(encoders), "encoder")
    with bar as progress:
        for target, parts in halves.items():
            kept = set(features[target].ids)
            rows = [row for row, name in enumerate(sources[target].ids) if name in kept]
            pixels: dict[Any, np.ndarray] = {}
            for encoder in encoders:
                if (encoder.name, target) not in known:
                    spec = panel.input_preprocess(encoder.spec)
                    known[encoder.name, target] = fine_tuned_accuracy(
                        encoder,
                        _resized(sources[target], rows, spec, pixels),
                        parts.labels,
                        parts.fit,
                        preprocess=spec,
                        recipe=recipe,
                        seed=FLAGS.seed,
                        mesh=mesh,
                    )
                    if launch.is_first_process():
                        lines = [[*pair, accuracy] for pair, accuracy in known.items()]
                        write_file(path, csv_text(["model", "target", "accuracy"], lines))
                progress(len(known), len(halves) * len(encoders))
    return {
        target: np.array([known[encoder.name, target] for encoder in encoders]) for target in halves
    }


def _known(path: Path) -> list[tuple[str, str, float]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            (row["model"], row["target"], float(row["accuracy"])) for row in csv.DictReader(file)
        ]


def _resized(source: "Source", rows: Sequence[int], spec, pixels: dict[Any, Any]) -> "np.ndarray":
    """Images at an encoder's size; encoders that resize alike share them."""
    import numpy as np

    from substrate_jax.data.preprocess import resize_crop

    if spec.pixels not in pixels:
        pixels.clear()  # one size at a time: encoders of one size mostly follow each other
        pixels[spec.pixels] = np.stack([resize_crop(source.read(row), spec) for row in rows])
    return pixels[spec.pixels]
