"""What launchers that train networks share: flags of the images and of the student, and opening."""

from typing import TYPE_CHECKING

from absl import flags

from experiments.common import encoders as panel

if TYPE_CHECKING:
    from substrate_jax.data.preprocess import Preprocess
    from substrate_jax.data.sources import Source
    from substrate_jax.training.labeled_images import TrainingData

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(panel)
flags.DEFINE_string(
    "data",
    "digits",
    "Training images, any source with labels: all of them, or as many as --n says.",
)
flags.DEFINE_string(
    "test_data", None, "Test images; by default a quarter of --data, class by class."
)
flags.DEFINE_string(
    "student",
    "mini_resnet18",
    "What is trained: resnet18, convnext_atto, vit_tiny, or mini_ before one of them.",
)


def open_training_data() -> "tuple[Source, Source]":
    """The rows to train on and those to judge by; no image is read yet.

    --n limits those to train on; without it all are taken.

    Raises:
        ValueError: see `training.labeled_images.split_sources`.
    """
    from substrate_jax.training.labeled_images import split_sources

    train = panel.open_images(FLAGS.data)
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
            f"{data.repeated} of {len(data.test)} test images have the very pixels of a training "
            "image: the accuracy on them is memory."
        )
    for images in (data.train, data.test):
        found += panel.left_out_note(images.source)
    return found
