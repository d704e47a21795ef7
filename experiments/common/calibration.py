"""The flag of launchers that calibrate against chance."""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_float(
    "alpha", 0.05, "Level of tau, of the q-values counted in the summary, and of abstaining."
)


def check_alpha() -> None:
    """Raise ValueError unless --alpha is a level."""
    if not 0 < FLAGS.alpha < 1:
        raise ValueError(f"alpha={FLAGS.alpha}: give a level between 0 and 1")
