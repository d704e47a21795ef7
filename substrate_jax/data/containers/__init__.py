"""Files that hold many images: tables, HDF5, tar shards, zip files, and lists of paths."""
