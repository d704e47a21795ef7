"""The flag of launchers that resample for intervals."""

from absl import flags

flags.DEFINE_integer(
    "bootstrap",
    0,
    "Resamples for 95% intervals, of the images or of what a launcher ranks; 0 for none.",
)
