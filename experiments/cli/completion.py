"""Completion in shells: scripts that ask `substrate-jax complete WORD ...` at each tab.

What is offered comes from the flags themselves, so that it is never older than they are. Where
nothing is known, as of paths, the shell offers files.
"""

import importlib
import json
from collections.abc import Iterable
from importlib import resources

from absl import flags

from ..common import flag_help, presets
from . import listing

_BASH = """\
# Completion of substrate-jax for bash. In ~/.bashrc:  eval "$(substrate-jax completion bash)"
_substrate_jax() {
    local line="${COMP_LINE:0:COMP_POINT}" candidate
    local -a words
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local word="${words[${#words[@]} - 1]}"
    # Readline replaces what comes after the last = or : alone.
    local kept="${word%"${word##*[=:]}"}"
    COMPREPLY=()
    while IFS= read -r candidate; do
        [[ $candidate ]] && COMPREPLY+=("${candidate#"$kept"}")
    done < <("${words[0]}" complete "${words[@]:1}" 2>/dev/null)
    [[ ${COMPREPLY[0]-} == *[=,] ]] && compopt -o nospace
    return 0
}
complete -o default -F _substrate_jax substrate-jax
"""
_ZSH = """\
#compdef substrate-jax
# Completion of substrate-jax for zsh. In ~/.zshrc, after compinit:
#   eval "$(substrate-jax completion zsh)"
_substrate_jax() {
    local -a found
    found=("${(@f)$(${(Q)words[1]} complete "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    found=(${found:#})
    if (( ! $#found )); then
        compset -P '*='
        _files
        return
    fi
    compadd -Q -S '' -- ${(M)found:#*[=,]}
    compadd -Q -- ${found:#*[=,]}
}
compdef _substrate_jax substrate-jax
"""
_FISH = """\
# Completion of substrate-jax for fish. Once:
#   substrate-jax completion fish > ~/.config/fish/completions/substrate-jax.fish
function __substrate_jax
    set -g __substrate_jax_found \\
        (substrate-jax complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)
    test -n "$__substrate_jax_found"
end
complete -c substrate-jax -n __substrate_jax -f -a '$__substrate_jax_found'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def script(shell: str) -> str:
    """What a shell is to read, without the last line's end."""
    return SCRIPTS[shell].rstrip("\n")


def candidates(words: list[str], commands: Iterable[str], package: str) -> list[str]:
    """What the last word may become.

    Args:
        words: those after substrate-jax, up to the cursor; the last is "" after a space.
        commands: names of the launchers.
        package: that they are in.

    Returns:
        Whole words; one that ends in "=" or "," is not finished.
    """
    *before, word = words or [""]
    if not before:
        offered = [*commands, "list", "diff", "completion", "--help", "--version"]
    elif before == ["list"]:
        offered = list(listing.LISTS)
    elif before == ["completion"]:
        offered = list(SCRIPTS)
    elif before[0] in commands:
        offered = _of_flags(before[0], word, package)
    else:
        offered = []
    return [each for each in offered if each.startswith(word)]


def _of_flags(command: str, word: str, package: str) -> list[str]:
    module = importlib.import_module(f"{package}.{command}")
    keys = {flag.name: flag for flag in flags.FLAGS.get_key_flags_for_module(module)}
    name, equals, value = word.removeprefix("--").partition("=")
    if not word.startswith("--"):
        return [] if word.strip("-") else _flag_words(keys.values())
    if not equals:
        return _flag_words(keys.values())
    if name == presets.FLAG:
        return [f"--{name}={preset}" for preset in presets.presets(command)]
    if name not in keys:
        return []
    known = flag_help.choices(keys[name]) or _NAMES.get(name, list)()
    begun = value[: value.rfind(",") + 1] if name in _NAMES else ""
    return [f"--{name}={begun}{each}" for each in known]


def _flag_words(keys: Iterable[flags.Flag]) -> list[str]:
    found = [f"--{presets.FLAG}=", "--help", "--version"]
    for flag in keys:
        found.append(f"--{flag.name}" if flag.boolean else f"--{flag.name}=")
        if flag.boolean and flag.default:
            found.append(f"--no{flag.name}")
    return sorted(found)


def _encoders() -> list[str]:
    # The registry takes more than a second to load; this file lists all that is in it.
    names = resources.files("substrate_jax") / "encoders" / "parameters.json"
    return ["all", *json.loads(names.read_text(encoding="utf-8"))]


def _domains() -> list[str]:
    from substrate_jax.data.domains import list_domains

    groups = dict.fromkeys(group for domain in list_domains() for group in domain.groups)
    return [*groups, *(domain.name for domain in list_domains())]


# Flags that take several names, separated by commas.
_NAMES = {"encoders": _encoders, "domains": _domains}
