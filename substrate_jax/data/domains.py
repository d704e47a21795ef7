"""Names for image domains, and the way from what a user types to a `Source`.

A domain is a name, the spec of a source, one sentence, and its groups. Launchers take
`--domains=paper8` (a group), `--domains=medical,texture` (names) and
`--domains=medical,sky=dir:~/galaxies` (a name for a spec of your own), in any mixture. An item that
holds a comma is put in double quotes: `--domains='medical,"sky=dir:/data/day, night"'`.

    spec     KIND:PLACE[:split][?option=value&option=value], as `kinds.KINDS` lists them

    sample   crops of pictures inside installed packages; no download
    paper4   natural, medical, satellite and microscopic images of the paper, in its order
    paper8   those, and sketches, depth, infrared and galaxies
    labeled  real images with true labels inside installed packages, to train on without a download

Not guaranteed: that a registered domain is present on this machine. Opening fetches what is
published as files; the others say what to do. `bytes_to_download` tells beforehand.
"""

import csv
import dataclasses
import difflib
from collections.abc import Sequence

from substrate_jax.data.decode import Orientation
from substrate_jax.data.kinds import KINDS, Kind, Spec, kind_form, split_spec
from substrate_jax.data.sources import Source


@dataclasses.dataclass(frozen=True)
class Domain:
    """A named kind of image: where its images are, and one sentence about them."""

    name: str
    spec: str
    description: str
    groups: tuple[str, ...]


_DOMAINS: dict[str, Domain] = {}


def register_domain(
    name: str, spec: str, description: str, groups: Sequence[str] = ("custom",)
) -> Domain:
    """Add a domain to the registry.

    Args:
      name: what users type; must differ from every other name and group, without "," and "=".
      spec: a source, as `open_source` takes it.
      description: one sentence.
      groups: names for several domains at once.

    Returns:
      The record.

    Raises:
      ValueError: the name is taken or malformed.
    """
    if name in _DOMAINS:
        raise ValueError(f"domain {name!r} is registered already; give another name")
    if not name or set(name) & set(",= "):
        raise ValueError(f"domain {name!r}: give a name without comma, equals sign or space")
    for group in (*groups, *_groups()):
        if group == name or group in _DOMAINS:
            raise ValueError(
                f"domain {name!r} in group {group!r}: a group bears that name; rename it"
            )
    _DOMAINS[name] = Domain(name, spec, description, tuple(groups))
    return _DOMAINS[name]


def _groups() -> list[str]:
    return list(dict.fromkeys(group for domain in _DOMAINS.values() for group in domain.groups))


for _name, _description in {
    "photographs": "Everyday color and gray photographs: people, a cat, buildings, a rocket.",
    "microscopy": "A stained tissue section and cells in a dish.",
    "astronomy": "The Hubble deep field and the surface of the moon.",
    "medical": "A retina with its vessels, microaneurysms, and the Shepp-Logan CT phantom.",
    "texture": "Brick, grass and gravel in gray.",
    "depth": "A stereo disparity map of one room, near is bright.",
    "writing": "A printed page, photographed print and handwritten digits.",
}.items():
    register_domain(_name, f"sample:{_name}", _description, groups=("sample",))

register_domain(
    "digits",
    "sklearn:digits",
    "Handwritten digits, gray, 8 pixels (UCI, in scikit-learn).",
    groups=("labeled",),
)

_PAPER4, _PAPER8 = ("paper4", "paper8"), ("paper8",)
register_domain(
    "imagenette",
    "archive:imagenette",
    "Photographs of ten easy ImageNet classes, training and validation (Imagenette).",
    groups=_PAPER4,
)
register_domain(
    "organamnist",
    "medmnist:organamnist:28",
    "CT slices through eleven abdominal organs, gray, 28 pixels (OrganAMNIST).",
    groups=_PAPER4,
)
register_domain(
    "eurosat",
    "archive:eurosat",
    "Sentinel-2 views of ten kinds of land, in color, 64 pixels (EuroSAT).",
    groups=_PAPER4,
)
register_domain(
    "bloodmnist",
    "medmnist:bloodmnist:28",
    "Single blood cells of eight kinds under the microscope, 28 pixels (BloodMNIST).",
    groups=_PAPER4,
)
register_domain(
    "quickdraw",
    "quickdraw:16",
    "Sketches of 345 words drawn in twenty seconds, white on black, 28 pixels (Quick, Draw!).",
    groups=_PAPER8,
)
register_domain(
    "nyu_depth",
    "tfds:nyu_depth_labeled:train",
    "Depth of rooms, scaled in each image, colored from near, violet, to far, yellow (NYU-v2).",
    groups=_PAPER8,
)
register_domain(
    "kaist",
    "tfds:kaist_lwir:test",
    "Long-wave infrared street scenes by day and night (KAIST multispectral, sets 06 to 11).",
    groups=_PAPER8,
)
register_domain(
    "decals",
    "tfds:galaxy10_decals:train",
    "Galaxies of ten shapes in the DESI Legacy Surveys, 256 pixels (Galaxy10 DECaLS).",
    groups=_PAPER8,
)


def list_domains(group: str | None = None) -> list[Domain]:
    """Registered domains in order of registration, of one group or of all.

    Example:
      >>> [domain.name for domain in list_domains("sample")][:3]
      ['photographs', 'microscopy', 'astronomy']
      >>> [domain.name for domain in list_domains("paper4")]
      ['imagenette', 'organamnist', 'eurosat', 'bloodmnist']
    """
    return [d for d in _DOMAINS.values() if group is None or group in d.groups]


def resolve_domains(value: str) -> dict[str, str]:
    """What a user typed to name -> spec, in the order typed.

    Args:
      value: groups, names and NAME=SPEC, separated by commas; an item that holds a comma is put
        in double quotes, in which a double quote is written twice.

    Returns:
      Name -> spec.

    Raises:
      ValueError: an unknown name (the message lists near ones), or a name given twice.

    Example:
      >>> resolve_domains("medical,sky=dir:galaxies")
      {'medical': 'sample:medical', 'sky': 'dir:galaxies'}
      >>> resolve_domains('"sky=dir:day, night"')
      {'sky': 'dir:day, night'}
    """
    resolved: dict[str, str] = {}
    for item in _items(value):
        name, equals, spec = item.partition("=")
        found = {d.name: d.spec for d in _DOMAINS.values() if item in (d.name, *d.groups)}
        kind, colon, _ = name.partition(":")  # of a source without a name, whose path holds "="
        if equals and name and spec and not (colon and kind in KINDS):
            found = {name: spec}
        elif not found:
            quoted = '; put the quotes around the whole of "NAME=SPEC"' if '"' in item else ""
            raise ValueError(
                f"domain {item!r} is unknown; {_near(item)}, or write NAME=SPEC{quoted}"
            )
        if twice := sorted(found.keys() & resolved.keys()):
            raise ValueError(f"domain {twice[0]!r} is given twice in {value!r}; name it once")
        resolved |= found
    if not resolved:
        raise ValueError(f"domains={value!r} names none; {_near('')}, or write NAME=SPEC")
    return resolved


def _items(value: str) -> list[str]:
    """What commas separate, outside of double quotes; as --encoders is read."""
    try:
        (items,) = csv.reader([value], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError) as error:
        if not value.strip():
            return []
        raise ValueError(
            f"domains={value!r}: {error}; put an item that holds a comma in double quotes"
        ) from error
    return [item.strip() for item in items if item.strip()]


def _near(name: str) -> str:
    names = [*_DOMAINS, *_groups()]
    near = difflib.get_close_matches(name, names, n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"give one of {', '.join(names)}"


def open_source(spec: str, *, quiet: bool = False, orientation: Orientation = "ignore") -> Source:
    """The source that a spec, or the name of a registered domain, stands for.

    Args:
      spec: a source, as the head of this module lists them, or a domain's name.
      quiet: no progress bar if something must be fetched.
      orientation: "apply" turns images as their EXIF data say; "ignore" leaves them as stored, as
        the loaders that encoders are used with do. Sources of bare pixels are the same either way.

    Returns:
      A source; its images are read when asked for.

    Raises:
      ValueError: a malformed spec, or what it names is absent and cannot be fetched.

    Example:
      >>> len(open_source("sample:texture")), len(open_source("sample:texture:9"))
      (512, 9)
    """
    kind, parts = _split(spec, orientation, quiet=quiet)
    return kind.open(parts)


def bytes_to_download(spec: str) -> int:
    """What fetching a source would cost; 0 when all of it is at hand.

    Sizes are the published ones, or an upper bound (MedMNIST's pixels uncompressed); of a set on
    the Hugging Face hub that is not cached the hub is asked. Data that only the user can get count
    0: opening names them.

    Args:
      spec: as for `open_source`.

    Raises:
      ValueError: a malformed spec.

    Example:
      >>> bytes_to_download("sample:texture")
      0
    """
    kind, parts = _split(spec)
    return kind.missing_bytes(parts)


def _split(
    spec: str, orientation: Orientation = "ignore", *, quiet: bool = False
) -> tuple[Kind, Spec]:
    if spec in _DOMAINS:
        spec = _DOMAINS[spec].spec
    found = split_spec(spec, orientation, quiet=quiet)
    if found is not None:
        return found
    name = spec.partition(":")[0]
    if name in KINDS:
        raise ValueError(f"source {spec!r} names none: give {kind_form(name)}")
    hint = f"; {_near(spec)}" if ":" not in spec else ""
    forms = ", ".join(f"{name}:{kind.form.partition('[')[0]}" for name, kind in KINDS.items())
    raise ValueError(f"source {spec!r} is unknown: give {forms}{hint}")
