"""Make domains ready to be opened: fetch their files, and write TFDS sets as array_record.

    python -m substrate_jax.data.prepare paper4          # groups and names, as in --domains
    python -m substrate_jax.data.prepare nyu_depth kaist decals
    python -m substrate_jax.data.prepare tfds:beans      # any TFDS set; needs TensorFlow

Files are fetched into $SUBSTRATE_JAX_DATA (the user's cache folder without it), TFDS sets are
written to TFDS_DATA_DIR (~/tensorflow_datasets). What is there already is left as it is.

Our own builders need h5py and no TensorFlow, TFDS's builders need TensorFlow; the extra `prepare`
installs both.
"""

import argparse
import importlib.util
import sys

from substrate_jax.data.download import data_folder, fetch
from substrate_jax.data.paths import one_line
from substrate_jax.data.tfds_records import (
    KAIST,
    TFDS_FILES,
    TfdsSpec,
    prepared_folder,
    tfds_folder,
)

_EXTRA = "pip install 'substrate-jax[prepare]'"


def prepare_tfds(name: str, data_dir: str | None = None, *, quiet: bool = False) -> None:
    """Write a TFDS data set as array_record files, unless it is there.

    Args:
      name: data set, with its config where there is one.
      data_dir: where to; None means TFDS_DATA_DIR or ~/tensorflow_datasets.
      quiet: no progress bars.

    Raises:
      ValueError: an extra is not installed, data are not at hand, or TFDS fails.
    """
    if prepared_folder(name, data_dir) is not None:
        return
    ours = name == KAIST or name in TFDS_FILES
    needed = "h5py" if name in TFDS_FILES else None if ours else "tensorflow"
    if needed and importlib.util.find_spec(needed) is None:
        raise ValueError(f"preparing tfds:{name} needs {needed}, which is not installed: {_EXTRA}")
    if name in TFDS_FILES:
        fetch(TFDS_FILES[name], quiet=quiet)
    import tensorflow_datasets as tfds

    if ours:
        importlib.import_module("substrate_jax.data.builders")
    if quiet:
        tfds.disable_progress_bar()
    try:
        builder = tfds.builder(name, data_dir=tfds_folder(data_dir), file_format="array_record")
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=data_folder())
        )
    except Exception as error:  # builders, downloads and checksums raise anything
        raise ValueError(f"preparing tfds:{name} failed: {one_line(error)}") from error


def prepare(spec: str, *, quiet: bool = False) -> int:
    """Fetch or write what a spec needs, and open it.

    Args:
      spec: as for `domains.open_source`.
      quiet: no progress bars.

    Returns:
      The number of its images.

    Raises:
      ValueError: as the source says.
    """
    from substrate_jax.data.domains import open_source

    kind, _, rest = spec.partition(":")
    if kind == "tfds":
        tfds = TfdsSpec.parse(rest)
        prepare_tfds(tfds.name, tfds.data_dir, quiet=quiet)
    return len(open_source(spec, quiet=quiet))


def main() -> None:
    """Prepare what the command line names."""
    from substrate_jax.data.domains import resolve_domains

    parser = argparse.ArgumentParser(prog="python -m substrate_jax.data.prepare")
    parser.add_argument("domains", nargs="+", help="groups, names, or specs such as tfds:beans")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    chosen = parser.parse_args()
    try:
        for word in chosen.domains:
            found = {word: word} if ":" in word else resolve_domains(word)
            for name, spec in found.items():
                print(f"{name}: {prepare(spec, quiet=chosen.quiet):,} images")
    except ValueError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
