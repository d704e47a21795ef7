"""What launchers that train networks share: flags of the images and of the student, and opening."""

from typing import TYPE_CHECKING

from absl import flags

from . import encoders as panel
from . import training_flags

if TYPE_CHECKING:
    from substrate_jax.data.preprocess import Preprocess
    from substrate_jax.data.sources import Source
    from substrate_jax.report.run import ImageSet
    from substrate_jax.training.labeled_images import TrainingData

FLAGS = flags.FLAGS
DATA = "digits"  # by default, and of it a quarter to test on
flags.adopt_module_key_flags(panel)
flags.adopt_module_key_flags(training_flags)
flags.DEFINE_string(
    "student",
    "mini_resnet18",
    "What is trained: resnet18, convnext_atto, vit_tiny, or mini_ before one of them.",
)
flags.DEFINE_integer(
    "seeds", 2, "Trainings of each kind, from --seed on.", lower_bound=1, upper_bound=1_000
)
flags.DEFINE_integer("train_batch", 64, "Images of a training step, 4 or more.", lower_bound=4)


def open_training_data() -> "tuple[Source, Source]":
    """The rows to train on and those to judge by; no image is read yet.

    Without --data these are the digits inside scikit-learn, without --test_data a quarter of
    --data, class by class. --n limits those to train on; without it all are taken.

    Raises:
        ValueError: see `training.labeled_images.split_sources`.
    """
    from substrate_jax.training.labeled_images import split_sources

    train = panel.open_images(FLAGS.data or DATA)
    test = panel.open_images(FLAGS.test_data) if FLAGS.test_data else None
    return split_sources(train, test, n=FLAGS.n, seed=FLAGS.seed)


def read_training_data(train: "Source", test: "Source") -> "TrainingData":
    """All images of both, at the size of the students."""
    from substrate_jax.training import labeled_images

    return labeled_images.read_training_data(
        train, test, student_preprocess(), skip_bad=FLAGS.skip_bad
    )


def student_preprocess() -> "Preprocess":
    """How images become a student's input: ImageNet's mean and deviation, as the panel's."""
    from substrate_jax.data.preprocess import Preprocess
    from substrate_jax.training.students import IMAGE_SIZE

    return Preprocess(IMAGE_SIZE)


def training_notes(data: "TrainingData") -> list[str]:
    """What befell the images, where it changes how numbers read."""
    found = []
    if data.unreadable:
        found.append(f"{data.unreadable} images could not be read and are left out.")
    if data.repeated:
        found.append(
            f"Test images with the very pixels of a training image: {data.repeated} of "
            f"{len(data.test)}; the accuracy on them is memory."
        )
    for images in (data.train, data.test):
        found += panel.left_out_note(images.source)
    return found


def image_sets(data: "TrainingData") -> "tuple[ImageSet, ImageSet]":
    """What the images of both are, for reports."""
    train = FLAGS.data or DATA
    test = FLAGS.test_data or train
    return (
        panel.image_set(train, train, data.train.source),
        panel.image_set(test, test, data.test.source),
    )
