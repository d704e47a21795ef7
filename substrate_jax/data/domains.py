"""Names for image domains, and the way from what a user types to a `Source`.

A domain is a name, the spec of a source, one sentence, and a group. Launchers take
`--domains=sample` (a group), `--domains=medical,texture` (names) and
`--domains=medical,sky=dir:~/galaxies` (a name for a spec of your own), in any mixture.

    spec     tfds:NAME[/config][:split][@data_dir]  |  dir:PATH  |  npz:PATH[:split]
             |  sample:NAME[:count]

Not guaranteed: that a registered domain is present on this machine; that is known on opening it.
"""

import dataclasses
import difflib

from substrate_jax.data.sample import DEFAULT_COUNT, open_sample
from substrate_jax.data.sources import Source, open_folder, open_npz, open_tfds

_FORMS = "tfds:NAME[/config][:split][@data_dir], dir:PATH, npz:PATH[:split], sample:NAME[:count]"


@dataclasses.dataclass(frozen=True)
class Domain:
    """A named kind of image: where its images are, and one sentence about them."""

    name: str
    spec: str
    description: str
    group: str


_DOMAINS: dict[str, Domain] = {}


def register_domain(name: str, spec: str, description: str, group: str = "custom") -> Domain:
    """Add a domain to the registry.

    Args:
      name: what users type; must differ from every other name and group, without "," and "=".
      spec: a source, as `open_source` takes it.
      description: one sentence.
      group: a name for several domains at once.

    Returns:
      The record.

    Raises:
      ValueError: the name is taken or malformed.
    """
    if name in _DOMAINS:
        raise ValueError(f"domain {name!r} is registered already; give another name")
    if not name or set(name) & set(",= "):
        raise ValueError(f"domain {name!r}: give a name without comma, equals sign or space")
    groups = {domain.group for domain in _DOMAINS.values()}
    if name in groups | {group} or group in _DOMAINS:
        raise ValueError(f"domain {name!r} in group {group!r}: a group bears that name; rename it")
    _DOMAINS[name] = Domain(name, spec, description, group)
    return _DOMAINS[name]


for _name, _description in {
    "photographs": "Everyday colour and grey photographs: people, a cat, buildings, a rocket.",
    "microscopy": "A stained tissue section and cells in a dish.",
    "astronomy": "The Hubble deep field and the surface of the moon.",
    "medical": "A retina with its vessels, microaneurysms, and the Shepp-Logan CT phantom.",
    "texture": "Brick, grass and gravel in grey.",
    "depth": "A stereo disparity map of one room, near is bright.",
    "writing": "A printed page, photographed print and handwritten digits.",
}.items():
    register_domain(_name, f"sample:{_name}", _description, group="sample")


def list_domains(group: str | None = None) -> list[Domain]:
    """Registered domains in order of registration, of one group or of all.

    Example:
      >>> [domain.name for domain in list_domains("sample")][:3]
      ['photographs', 'microscopy', 'astronomy']
    """
    return [domain for domain in _DOMAINS.values() if group in (None, domain.group)]


def resolve_domains(value: str) -> dict[str, str]:
    """What a user typed to name -> spec, in the order typed.

    Args:
      value: groups, names and NAME=SPEC, separated by commas; a spec cannot hold a comma.

    Returns:
      Name -> spec.

    Raises:
      ValueError: an unknown name (the message lists near ones), or a name given twice.

    Example:
      >>> resolve_domains("medical,sky=dir:galaxies")
      {'medical': 'sample:medical', 'sky': 'dir:galaxies'}
    """
    resolved: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in value.split(","))):
        name, equals, spec = item.partition("=")
        found = {d.name: d.spec for d in _DOMAINS.values() if item in (d.name, d.group)}
        if equals and name and spec:
            found = {name: spec}
        elif not found:
            raise ValueError(f"domain {item!r} is unknown; {_near(item)}, or write NAME=SPEC")
        if twice := sorted(found.keys() & resolved.keys()):
            raise ValueError(f"domain {twice[0]!r} is given twice in {value!r}; name it once")
        resolved |= found
    if not resolved:
        raise ValueError(f"domains={value!r} names none; {_near('')}, or write NAME=SPEC")
    return resolved


def _near(name: str) -> str:
    names = [*_DOMAINS, *{domain.group: None for domain in _DOMAINS.values()}]
    near = difflib.get_close_matches(name, names, n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"give one of {', '.join(names)}"


def open_source(spec: str) -> Source:
    """The source that a spec, or the name of a registered domain, stands for.

    Args:
      spec: `tfds:`, `dir:`, `npz:` or `sample:` and what follows it, or a domain's name.

    Returns:
      A source; its images are read when asked for.

    Raises:
      ValueError: a malformed spec, or what it names is absent.

    Example:
      >>> len(open_source("sample:texture")), len(open_source("sample:texture:9"))
      (512, 9)
    """
    if spec in _DOMAINS:
        spec = _DOMAINS[spec].spec
    kind, _, rest = spec.partition(":")
    if not rest or kind not in ("tfds", "dir", "npz", "sample"):
        hint = f"; {_near(spec)}" if ":" not in spec else ""
        raise ValueError(f"source {spec!r} is unknown: give {_FORMS}{hint}")
    if kind == "dir":
        return open_folder(rest)
    if kind == "npz":
        path, _, split = rest.rpartition(":")
        return open_npz(path, split) if split in ("train", "val", "test") else open_npz(rest)
    if kind == "sample":
        name, _, count = rest.partition(":")
        if count and not count.isdigit():
            raise ValueError(f"source {spec!r}: {count!r} is no count; give sample:NAME:512")
        return open_sample(name, int(count) if count else DEFAULT_COUNT)
    rest, _, data_dir = rest.partition("@")
    name, _, split = rest.partition(":")
    return open_tfds(name, split or "train", data_dir or None)
