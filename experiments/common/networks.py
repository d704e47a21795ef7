"""Flags that say which networks run, in which arithmetic."""

from absl import flags

flags.DEFINE_list(
    "encoders",
    ["all"],
    "Names; groups: all, discriminative, mim, supervised, self_supervised, image_text, shared; "
    "hf:ORG/NAME[@REVISION] or hf:FOLDER for checkpoints in transformers' format.",
)
flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of the encoders' arithmetic.")
flags.DEFINE_integer("batch_size", 64, "Images at once, over all devices.", lower_bound=1)
