"""--help: what a command is, and its flags in groups; --version.

Groups go by the module that defines a flag, or by its name where a module has flags of two groups.
What neither names is a flag of the analysis.
"""

import inspect
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable

from absl import flags

from . import presets, program

GROUPS = ("Analysis", "Encoders", "Images", "Training", "Several machines", "Every command")
_GROUP_OF_MODULE = {
    "networks": "Encoders",
    "features": "Encoders",
    "encoders": "Images",
    "domains": "Images",
    "training_data": "Training",
    "training_flags": "Training",
    "training_runs": "Training",
    "devices": "Several machines",
    "mesh": "Several machines",
    "launch": "Every command",
}
_GROUP_OF_FLAG = {
    **dict.fromkeys(
        ("panel", "list_encoders", "weights_dir", "normalization", "device_memory"), "Encoders"
    ),
    **dict.fromkeys(("domain", "data", "test_data"), "Images"),
    **dict.fromkeys(("help", "version"), "Every command"),
}
_FIRST = ("encoders", "domains", "domain", "data", "n", "out")  # of their groups
_PLACEHOLDERS = {"int": "INTEGER", "float": "NUMBER", "path": "PATH", "string": "TEXT"}
_MOST_WIDTH = 100


class _Printing(flags.BooleanFlag):
    """A flag that prints a text in place of a run."""

    def __init__(self, name: str, short_name: str | None, help: str, text: Callable[[], str]):
        super().__init__(name, False, help, short_name, allow_override=True)
        self._text = text

    def parse(self, argument) -> None:
        """Print and exit, unless the flag is off."""
        if self._parse(argument):
            program.show(self._text())
            sys.exit(0)


def define() -> None:
    """Define --help and --version, in place of absl's."""
    shown = "Show this help, and stop."
    flags.DEFINE_flag(_Printing("help", "h", shown, help_text), module_name=__name__)
    flags.DEFINE_flag(_Printing("helpshort", "?", shown, help_text), module_name=__name__)
    version = _Printing("version", None, "Show the version, and stop.", version_text)
    flags.DEFINE_flag(version, module_name=__name__)


def version_text() -> str:
    """Such as "substrate-jax 0.1.0"."""
    from substrate_jax.version import __version__

    return f"{program.INSTALLED} {__version__}"


def help_text() -> str:
    """The help of the command that runs."""
    keys = flags.FLAGS.get_key_flags_for_module(sys.argv[0])
    return command_help(program.name(), sys.modules["__main__"].__doc__ or "", keys)


def command_help(command: str, doc: str, keys: Iterable[flags.Flag]) -> str:
    """What a command is, and its flags.

    Args:
        command: its name.
        doc: of its module.
        keys: the flags that it takes.
    """
    start = " ".join(program.words(command))
    doc = inspect.cleandoc(doc).replace("python -m experiments.", start.removesuffix(command))
    doc = re.sub(r" {4,}(?=--)", r" \\\n        ", doc)  # a line that the docstring went on with
    parts = [f"usage: {start} [--flag=value ...]", doc]
    given = [*keys, *(flags.FLAGS[name] for name in ("help", "version") if name in flags.FLAGS)]
    for group in GROUPS:
        own = [flag for flag in given if group_of(flag) == group]
        own.sort(key=lambda flag: _FIRST.index(flag.name) if flag.name in _FIRST else len(_FIRST))
        lines = [_described(flag) for flag in own]
        if group == GROUPS[-1]:
            lines.insert(-2, _flagfile(command))
        if lines:
            parts.append("\n".join([f"{group}:", *lines]))
    return "\n\n".join(parts)


def group_of(flag: flags.Flag) -> str:
    """Which of `GROUPS` a flag is shown in."""
    if flag.name in _GROUP_OF_FLAG:
        return _GROUP_OF_FLAG[flag.name]
    module = flags.FLAGS.find_module_defining_flag(flag.name) or ""
    *_, folder, name = ["", *str(module).split(".")]
    return _GROUP_OF_MODULE.get(name, "Analysis") if folder == "common" else "Analysis"


def choices(flag: flags.Flag) -> list[str]:
    """The values that a flag may have, where these are given; else none."""
    return list(getattr(flag.parser, "enum_values", []))


def _flagfile(command: str) -> str:
    said = "Read flags from a file, one to a line; those after it on the command line win."
    if names := ", ".join(presets.presets(command)):
        said += f" Or of a preset: {names}."
    return columns(f"--{presets.FLAG}=PATH", said)


def _described(flag: flags.Flag) -> str:
    said = re.sub(r"^<[^>]*>: ", "", flag.help or "")  # absl's list of an enum's values
    if not flag.boolean and flag.default not in (None, "", []):
        default = flag.default
        shown = ",".join(default) if isinstance(default, list) else str(default)
        said = f"{said} [{shown}]"
    elif flag.boolean and flag.default:
        said = f"{said} [on; --no{flag.name} for off]"
    return columns(f"--{flag.name}{_value(flag)}", said)


def _value(flag: flags.Flag) -> str:
    if flag.boolean:
        return ""
    kind = flag.flag_type()
    listed = "LIST" if "list" in kind else "TEXT"
    return "=" + ("|".join(choices(flag)) or _PLACEHOLDERS.get(kind, listed))


def columns(left: str, right: str, indent: int = 26) -> str:
    """A line of two columns, the right one wrapped to the terminal, below a left one too long."""
    width = min(shutil.get_terminal_size((_MOST_WIDTH, 24)).columns, _MOST_WIDTH)
    body = textwrap.wrap(right, max(width - indent, 30), break_on_hyphens=False)
    left = f"  {left}"
    lines = [f"{'':{indent}}{line}" for line in body]
    if lines and len(left) <= indent - 2:
        lines[0] = f"{left:{indent}}{body[0]}"
        return "\n".join(lines)
    return "\n".join([left, *lines])
