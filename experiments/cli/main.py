"""`substrate-jax COMMAND --flag=value`: the launchers, and what one can give them.

    substrate-jax cka --encoders=all                 as python -m experiments.cka in a checkout
    substrate-jax list encoders|domains|measures|presets
    substrate-jax diff RUN RUN [PAGE.html]           what differs between two results
    substrate-jax completion bash|zsh|fish           a script that completes all this

A launcher runs as the main module, as `python -m` would run it.
"""

import ast
import difflib
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ..common import flag_help, program
from . import completion, difference, listing

FOLDER = Path(__file__).parents[1]
PACKAGE = __name__.removesuffix(".cli.main")


def commands() -> dict[str, Path]:
    """The launchers: name -> file."""
    paths = sorted(FOLDER.glob("*.py"))
    return {path.stem: path for path in paths if not path.stem.startswith("_")}


def main() -> None:
    """Do what the command line says; what is wrong with it is one line and exit code 2."""
    match sys.argv[1:]:
        case [name, *rest] if name in commands():
            sys.argv = [name, *rest]
            runpy.run_module(f"{PACKAGE}.{name}", run_name="__main__", alter_sys=True)
        case [] | ["--help" | "-h" | "help"]:
            program.show(overview())
        case ["--version"]:
            program.show(flag_help.version_text())
        case ["list", what] if what in listing.LISTS:
            program.show(listing.LISTS[what](commands()))
        case ["diff", before, after, *page] if len(page) < 2:
            _try(difference.show, before, after, *page)
        case ["diff", *rest]:
            _fail(f"diff {' '.join(rest)!r}: give the --out folders of two runs")
        case ["completion", shell] if shell in completion.SCRIPTS:
            program.show(completion.script(shell))
        case ["complete", *words]:
            program.show("\n".join(completion.candidates(words, commands(), PACKAGE)))
        case ["list", *rest]:
            _refuse("list", rest, list(listing.LISTS))
        case ["completion", *rest]:
            _refuse("completion", rest, list(completion.SCRIPTS))
        case [name, *rest]:
            known = [*commands(), "list", "diff", "completion"]
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"give one of {', '.join(known)}"
            _fail(f"{name!r} is no command of {program.INSTALLED}; {hint}")


def overview() -> str:
    """All commands, a line for each."""
    named = {name: summary(path) for name, path in commands().items()}
    named[f"list {'|'.join(listing.LISTS)}"] = "Names that flags take."
    named["diff RUN RUN [PAGE]"] = "What differs between two runs, by their --out folders."
    named[f"completion {'|'.join(completion.SCRIPTS)}"] = (
        "A script for your shell, which says in its head how to use it."
    )
    return "\n".join(
        [
            f"usage: {program.INSTALLED} COMMAND [--flag=value ...]",
            "",
            *(flag_help.columns(name, said, indent=20) for name, said in named.items()),
            "",
            f"{program.INSTALLED} COMMAND --help says more of one; --version which this is.",
        ]
    )


def summary(path: Path) -> str:
    """The first line of a module's docstring."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return doc.partition("\n")[0]


def _refuse(name: str, given: list[str], known: list[str]) -> NoReturn:
    _fail(f"{name} {' '.join(given)!r}: give one of {', '.join(known)}")


def _try(call: Callable[..., None], *arguments: str) -> None:
    try:
        call(*arguments)
    except ValueError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    from substrate_jax.data.paths import shown

    print("error: " + shown(message, 2_000), file=sys.stderr)
    sys.exit(2)
