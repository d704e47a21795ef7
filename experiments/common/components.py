"""The flag of launchers that fit a substrate."""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("components", 16, "Principal components of a substrate.")
