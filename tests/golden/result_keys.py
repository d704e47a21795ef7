"""Which keys a result.json has: what readers of results rely on, whatever the numbers are.

    python -m tests.golden.result_keys cka runs/cka/result.json runs/measures/result.json

writes result_keys/cka.json from the results given, which together hold every key.
"""

import argparse
import json
from collections.abc import Iterable
from functools import reduce
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "result_keys"
# Dicts by name of a domain, layer, measure and the like: one entry, "*", stands for all.
NAMED = ("domains", "layers", "mutual_knn", "measures", "components", "ceiling")
ANY = None  # of what is null or empty in a result: it agrees with every kind


def key_tree(value: Any, named: Iterable[str] = NAMED, key: str = "") -> Any:
    """The keys of a value of result.json, and the kind of value at the end of each.

    Args:
        value: as json reads it.
        named: keys of dicts whose own keys are names.
        key: of the value itself.

    Returns:
        A dict of trees; a list of the one tree that all items share; "number", "string", "boolean",
        or None where nothing is known.

    Raises:
        ValueError: items of a list, or values by name, of different kinds.
    """
    if isinstance(value, dict):
        trees = {name: key_tree(item, named, name) for name, item in value.items()}
        if key == "arguments":  # flags, which tests of the launchers hold
            return {}
        return {"*": reduce(merge, trees.values())} if key in named and trees else trees
    if isinstance(value, list):
        return [reduce(merge, (key_tree(item, named) for item in value))] if value else ANY
    if isinstance(value, bool):
        return "boolean"
    return {str: "string", int: "number", float: "number"}.get(type(value), ANY)


def merge(a: Any, b: Any) -> Any:
    """What two trees say together.

    Raises:
        ValueError: they differ in kind.
    """
    if a is ANY or b is ANY:
        return b if a is ANY else a
    if isinstance(a, dict) and isinstance(b, dict):
        return a | {key: merge(a[key], tree) if key in a else tree for key, tree in b.items()}
    if isinstance(a, list) and isinstance(b, list):
        return [merge(a[0], b[0])]
    if a != b:
        raise ValueError(f"{a} beside {b}")
    return a


def differences(got: Any, want: Any, path: str = "") -> list[str]:
    """Where two trees differ, a line each; what is unknown in one agrees with all.

    Example:
        >>> differences({"a": "number", "b": [None]}, {"a": "string", "b": ["number"], "c": None})
        ['/a: number, not string', '/c: missing']
    """
    if got is ANY or want is ANY:
        return []
    if isinstance(got, dict) and isinstance(want, dict):
        if not got or not want:
            return []
        lines = [f"{path}/{key}: missing" for key in want if key not in got]
        lines += [f"{path}/{key}: new" for key in got if key not in want]
        both = (key for key in got if key in want)
        return sum((differences(got[k], want[k], f"{path}/{k}") for k in both), lines[:0]) + lines
    if isinstance(got, list) and isinstance(want, list):
        return differences(got[0], want[0], f"{path}[]")
    return [] if got == want else [f"{path}: {got}, not {want}"]


def recorded(name: str) -> Any:
    """The tree of results of one experiment, as it was recorded."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("results", nargs="+", type=Path)
    given = parser.parse_args()
    trees = (key_tree(json.loads(path.read_text())) for path in given.results)
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps(reduce(merge, trees), indent=1) + "\n"
    (FOLDER / f"{given.name}.json").write_text(text)


if __name__ == "__main__":
    main()
