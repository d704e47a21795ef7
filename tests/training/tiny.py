"""A student that compiles in seconds, for tests of what is done with students."""

from substrate_jax.encoders.networks.vit import ViTConfig
from substrate_jax.training import students

TINY = "tiny"


def tiny_student(patch) -> None:
    """Make it one of the students, until the patch is undone."""

    def config(classes):
        return ViTConfig(24, 1, 2, patch_size=16, pool="avg", num_classes=classes, image_size=32)

    patch.setitem(students._STUDENTS, TINY, config)
