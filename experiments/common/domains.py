"""What launchers that run a panel on several domains share: flags, opening, and the plan."""

from collections.abc import Callable

from absl import flags

from . import components, redaction
from . import encoders as panel
from . import features as feature_files

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(panel)
flags.adopt_module_key_flags(feature_files)
flags.adopt_module_key_flags(components)
flags.DEFINE_string(
    "domains",
    "sample",
    "Groups (sample, paper4, paper8), names or NAME=SOURCE, with SOURCE dir:..., parquet:..., "
    "hfds:..., wds:..., tfds:... or another of docs/domains.md.",
)


def plan(specs, files: feature_files.FilePanel, mesh, out, take: Callable) -> str:
    """What a run would do: encoders, domains, shapes, memory, downloads; nothing is fetched.

    Args:
        specs: records of the encoders.
        files: domains, and features made elsewhere.
        mesh: of the devices.
        out: folder.
        take: (name, source) -> the images of it that the run takes.

    Raises:
        ValueError: what `take` raises, or encoders of sounds for images, say.
    """
    from substrate_jax.data.domains import bytes_to_download
    from substrate_jax.data.modality import check_modality, resampled_note

    width = sum(spec.width for spec in (*specs, *files.specs))
    encoders, missing = panel.encoder_lines(specs)
    lines = [
        f"mesh: {dict(mesh.shape)}   out: {out}   dtype: {FLAGS.dtype}",
        *("encoders:", *encoders, *files.lines(), "domains:"),
    ]
    for name, spec in files.domains.items():
        size = bytes_to_download(spec) if files.uses_images else 0
        missing += size
        source = None if size else files.source(name)
        n = panel.image_count() if source is None else len(take(name, source))
        of = "" if source is None else f" of {len(source)}"
        what = "image" if source is None else source.modality
        where = f"{size / 2**20:.0f} MiB to download" if size else "at hand"
        lines.append(
            f"  {name:20s} {spec}, {where}: {n}{of} {what}s -> features [{n}, {width}] float32, "
            f"{4 * n * width / 2**20:.1f} MiB"
        )
        if source is not None:
            for chosen in specs:
                check_modality(chosen, source)
            notes = (source.left_out_note, resampled_note(specs, source))
            lines += [f"    {note}" for note in notes if note]
    return redaction.redact("\n".join([*lines, f"to download: {missing / 2**20:.0f} MiB"]))
