"""Features made elsewhere: which files are read, how rows get their ids, and what is refused.

    .npy                [n, ...] numbers; ids beside it
    .npz, .safetensors  arrays by name, with `ids` and `labels` among them (safetensors: as JSON
                        lists in its metadata)
    .h5, .hdf5          datasets by name, in groups too, with `ids` and `labels` among them
    .csv                a row each: a column of ids, perhaps one of labels, numbers in the others
    .parquet            the same, or columns of lists, each a block of its own
    a folder            what thingsvision writes, see `folders`

Ids come from the file (`ids`, `id`, `file_names` or `file_name`), or else from a text file with an
id a line: PATH.ids.txt with or without the suffix of PATH, then ids.txt and file_names.txt in its
folder. Labels likewise: `labels` or `label`, PATH.labels.txt, labels.txt. Every row needs an id of
its own. Labels that are words are numbered in their sorted order, and the words are kept.

Booleans, whole numbers and floating-point numbers of any width and byte order become float32, to
the nearest; a row that is not finite then is refused by its id, as are complex numbers, texts and
objects. Nothing is ever unpickled: torch's .pt and .pth are refused.

Cost: a pass over the numbers for the check. A .npy file beyond 256 MiB is not loaded: its rows are
read from the disk when they are asked for. Others are held in memory once, a CSV as float32.

Not guaranteed: that a file stays as it was while its rows are read on demand.
"""

from substrate_jax.features.files.matching import match_rows, relative_to
from substrate_jax.features.files.opened import FeatureFile, open_features
from substrate_jax.features.files.rows import POOLS, FileRows
from substrate_jax.features.files.writing import write_features

__all__ = [
    "POOLS",
    "FeatureFile",
    "FileRows",
    "match_rows",
    "open_features",
    "relative_to",
    "write_features",
]
