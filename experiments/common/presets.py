"""Flags of whole runs, in files beside the commands: experiments/presets/COMMAND/NAME.flags.

A preset is a flagfile, one flag to a line, with a comment at its head that says what it is. Give it
by its name, --flagfile=NAME, and flags of your own after it: of a flag given twice the later wins.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "presets"
FLAG = "flagfile"


def presets(command: str) -> dict[str, Path]:
    """The presets of a command: name -> file."""
    return {path.stem: path for path in sorted((FOLDER / command).glob("*.flags"))}


def summary(path: Path) -> str:
    """What a preset is: the comment at its head."""
    said = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        said.append(line.removeprefix("#").strip())
    return " ".join(said)


def with_presets(command: str, arguments: Sequence[str]) -> list[str]:
    """Arguments of a command line in which --flagfile=NAME of a preset names its file.

    A file that is there comes first, as does anything that has a folder or an ending.

    Raises:
        ValueError: neither a file nor a preset.
    """
    found: list[str] = []
    values = iter(arguments)
    for argument in values:
        flag, equals, value = argument.partition("=")
        if argument == "--":
            return [*found, argument, *values]
        if flag in (f"--{FLAG}", f"-{FLAG}"):
            value = value if equals else next(values, "")
            argument = f"--{FLAG}={_path(command, value)}"
        found.append(argument)
    return found


def _path(command: str, value: str) -> str:
    known = presets(command)
    path = Path(value).expanduser()
    if value in known and not path.is_file():
        return str(known[value])
    if not value or path.is_file() or path.name != value or path.suffix:
        return value
    near = difflib.get_close_matches(value, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"presets: {', '.join(known) or 'none'}"
    raise ValueError(f"{FLAG}={value!r} is no file here and no preset of {command}; {hint}")
