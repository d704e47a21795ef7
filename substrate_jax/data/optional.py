"""Libraries that are not installed with the package."""

import importlib
from typing import Any


def optional(module: str, what: str, extra: str) -> Any:
    """A module of an extra.

    Args:
      module: to import, such as "pyarrow.parquet".
      what: what wants it, for the message.
      extra: of ours that installs it.

    Raises:
      ValueError: it is not installed; one line that says how to get it.

    Example:
      >>> optional("absent.part", "a.absent", "files")
      Traceback (most recent call last):
      ...
      ValueError: a.absent: reading it needs absent; pip install 'substrate-jax[files]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{what}: reading it needs {module.partition('.')[0]}; "
            f"pip install 'substrate-jax[{extra}]'"
        ) from error
