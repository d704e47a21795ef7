"""The flag of launchers that fit a substrate."""

from collections.abc import Sequence
from typing import Any

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("components", 16, "Principal components of a substrate.")


def check_components(specs: Sequence[Any], images: int) -> None:
    """Refuse a number of components that no substrate of these encoders and images has.

    Raises:
        ValueError: it is below 1, or as large as the images or larger than the features are many.
    """
    most = min(images - 1, sum(spec.width for spec in specs))
    if not 1 <= FLAGS.components <= most:
        raise ValueError(
            f"components={FLAGS.components}: give 1 to {most}, which {images} images and "
            f"{len(specs)} encoders allow"
        )
