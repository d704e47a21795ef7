"""The flag of launchers that sample a null by permutations."""

from absl import flags

flags.DEFINE_integer("permutations", 200, "Draws of the null, where it is sampled.")
