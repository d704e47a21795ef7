"""What a command is called, and how it is typed: in a checkout, or as installed."""

import os
import shlex
import sys
from pathlib import Path

INSTALLED = "substrate-jax"  # the console script of setup.cfg


def name() -> str:
    """Of the command that runs, such as cka."""
    return Path(sys.argv[0]).stem


def words(command: str) -> list[str]:
    """How a command is started here, such as ["substrate-jax", "cka"].

    It is the package that these modules were loaded in that tells.
    """
    if __name__.startswith("substrate_jax."):
        return [INSTALLED, command]
    return ["python", "-m", f"experiments.{command}"]


def command_line() -> str:
    """The command line as the user typed it, or would."""
    return shlex.join([*words(name()), *sys.argv[1:]])


def show(text: str) -> None:
    """Print, also to a reader that leaves early, such as head."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
