"""TPU chips as published, and pods of them as libtpu describes them: no TPU is needed.

libtpu holds the compiler for every TPU. `describe` asks it for the devices of a pod, which programs
can be lowered and compiled for, but not run on. Versions of libtpu and jax go together: jax says
which it wants, and `check_libtpu` holds it to that.
"""

import dataclasses
import fnmatch
import importlib.metadata
import importlib.util
import os
import re
import signal
from collections.abc import Mapping
from typing import Any

EXTRA = "pip install 'substrate-jax[tpu]'"
GB, GIB, TERA = 1e9, 2**30, 1e12


@dataclasses.dataclass(frozen=True)
class Chip:
    """What is published of a chip.

    Attributes:
        title: its name.
        flops: of a bfloat16 matrix product, per second.
        memory: bytes of HBM.
        memory_rate: bytes per second to and from it.
        link_rate: bytes per second to and from other chips, both ways and all links together.
        devices: of jax on each chip.
        source: where all this is published.
        shapes: of pods, smallest first; libtpu knows them.
        options: of `get_topology_desc`.
    """

    title: str
    flops: float
    memory: float
    memory_rate: float
    link_rate: float
    devices: int
    source: str
    shapes: tuple[str, ...]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


_DOCS = "https://docs.cloud.google.com/tpu/docs/"
_FLAT = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8")
CHIPS: Mapping[str, Chip] = {
    # Both cores of a chip are one device; links: 6 of 50 GB/s each way (arXiv:2304.01433).
    "v4": Chip(
        "TPU v4",
        275 * TERA,
        32 * GIB,
        1200 * GB,
        600 * GB,
        1,
        _DOCS + "v4",
        _CUBES,
        {"chip_config_name": "megacore"},
    ),
    "v5e": Chip("TPU v5e", 197 * TERA, 16 * GB, 819 * GB, 400 * GB, 1, _DOCS + "v5e", _FLAT),
    "v5p": Chip("TPU v5p", 459 * TERA, 95 * GIB, 2765 * GB, 1200 * GB, 1, _DOCS + "v5p", _CUBES),
    "v6e": Chip("TPU v6e", 918 * TERA, 32 * GIB, 1638 * GB, 800 * GB, 1, _DOCS + "v6e", _FLAT),
    # A device is one of the chip's two halves, with its own memory.
    "tpu7x": Chip(
        "TPU7x", 2307 * TERA, 192 * GIB, 7380 * GB, 1200 * GB, 2, _DOCS + "tpu7x", _CUBES
    ),
}


@dataclasses.dataclass(frozen=True)
class Pod:
    """Chips that are connected.

    Attributes:
        name: such as v5e:16x16.
        chip: each of them.
        devices: as libtpu describes them.
    """

    name: str
    chip: Chip
    devices: list

    @property
    def chips(self) -> int:
        """How many there are."""
        return len(self.devices) // self.chip.devices

    def per_device(self, name: str) -> float:
        """A number of the chip, as far as it is one device's."""
        return getattr(self.chip, name) / self.chip.devices


def libtpu_wanted() -> str:
    """The version of libtpu that the installed jax asks for, such as 0.0.42.*; "*" for any."""
    for requirement in importlib.metadata.requires("jax") or []:
        if match := re.match(r"libtpu\s*==\s*([\w.*]+)", requirement):
            return match[1]
    return "*"


def check_libtpu() -> str:
    """The version of libtpu.

    Raises:
        ValueError: none is installed, or another than jax wants.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError(f"libtpu, which compiles for TPUs, is not installed: {EXTRA}")
    installed, wanted = importlib.metadata.version("libtpu"), libtpu_wanted()
    if not fnmatch.fnmatch(installed, wanted):
        raise ValueError(
            f"libtpu {installed} is installed and jax {importlib.metadata.version('jax')} wants "
            f"{wanted}: pip install 'libtpu=={wanted}'"
        )
    return installed


def known() -> str:
    """The topologies that there are, for a message."""
    return "; ".join(f"{name}:{', '.join(chip.shapes)}" for name, chip in CHIPS.items())


def describe(name: str) -> Pod:
    """The devices of a pod; to be called from the main thread.

    Args:
        name: such as v5e:16x16.

    Raises:
        ValueError: no such topology, or no libtpu.
    """
    check_libtpu()
    family, _, shape = name.partition(":")
    if family not in CHIPS or not re.fullmatch(r"\d+(x\d+){1,2}", shape):
        raise ValueError(f"topologies={name!r}: give some of {known()}")
    from jax.experimental import topologies

    from substrate_jax.processes import tell_libtpu_of_no_tpu

    # It is asked for a compiler, not for chips: neither the metadata of a cloud's host nor the lock
    # of the chips concerns it.
    tell_libtpu_of_no_tpu()
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    chip = CHIPS[family]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        found = topologies.get_topology_desc(
            platform="tpu", topology_name=name, **chip.options
        ).devices
    except Exception as error:  # jax has no public class for what libtpu refuses
        said = str(error).partition("\n")[0]
        raise ValueError(f"topologies={name!r}: {said}; give some of {known()}") from error
    finally:
        for number, handler in handlers.items():  # libtpu puts its own in their place
            signal.signal(number, handler)
    return Pod(name, chip, list(found))
