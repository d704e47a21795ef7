"""Flags of launchers that train: what on, and for how long. Their defaults are each launcher's."""

from absl import flags

flags.DEFINE_string("data", None, "Training images, any source with labels.")
flags.DEFINE_string("test_data", None, "Test images.")
flags.DEFINE_integer("epochs", None, "Passes over the training images; the recipe's by default.")
