"""The flag that says how devices are laid out."""

from absl import flags

flags.DEFINE_string("mesh", None, "Device mesh such as data=8; all devices by default.")
