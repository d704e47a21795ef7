"""Records of encoders: what each is, where its weights are, and how it wants its images.

A record (`EncoderSpec`) is data: shape of the network, learning paradigm, preprocessing, license,
paper, and the checkpoint on the Hugging Face hub or the bundled file. `list_encoders` and groups
are read off the records, which `substrate_jax.encoders.records` registers family by family. The
preprocessing of a record is the checkpoint's own; the analyses of arXiv:2606.07882 use ImageNet's
mean and deviation for every encoder, which is an option there.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from substrate_jax.data.modality import AnyPreprocess
from substrate_jax.data.sources import Modality
from substrate_jax.encoders.networks.network import Config

Paradigm = Literal[
    "supervised",
    "self_supervised",
    "masked_reconstruction",
    "image_text",
    "sound_text",
    "text",
    "untrained",
]


@dataclass(frozen=True)
class EncoderSpec:
    """Everything that is known of an encoder before its weights are read.

    Args:
        name: the name users give.
        config: shape of the network; its type says the family.
        paradigm: what the weights were trained on.
        preprocess: resize, crop and normalization the weights expect; of sounds their spectrogram,
            of texts their tokens.
        checkpoint: hub id of the weights (`timm/NAME.TAG`, `hf:ORG/NAME` in transformers' format),
            or the name of a file.
        license: license of the weights.
        paper: arXiv id of the method.
        panel: "paper" for the panel of arXiv:2606.07882, "mini" for bundled stand-ins, else None.
        shared: member of the five-encoder panel used across domains.
        optional_keys: parameters the checkpoint may lack, which then keep their initial value.
        revision: commit of the hub's repository to take the weights from; its latest by default.
        sha256: hash the weights must have; any by default.
    """

    name: str
    config: Config
    paradigm: Paradigm
    preprocess: AnyPreprocess
    checkpoint: str
    license: str
    paper: str
    panel: Literal["paper", "mini"] | None = None
    shared: bool = False
    optional_keys: tuple[str, ...] = ()
    revision: str | None = None
    sha256: str | None = None

    @property
    def family(self) -> str:
        """Name of the architecture, such as resnet or vit."""
        return self.config.family

    @property
    def width(self) -> int:
        """Features per image, sound or text."""
        return self.config.width

    @property
    def modality(self) -> Modality:
        """What it takes: "image", "sound" or "text"."""
        return self.preprocess.modality

    @property
    def bundled(self) -> bool:
        """Whether the weights ship with the package."""
        return self.panel == "mini"

    @property
    def groups(self) -> frozenset[str]:
        """The groups it belongs to: those of its paradigm, and "shared"."""
        return paradigm_groups(self.paradigm) | ({"shared"} if self.shared else set())


GROUPS = ("discriminative", "mim", "supervised", "self_supervised", "image_text", "shared")
PANELS = ("mini", "paper")
TRANSFORMERS_PREFIX = "hf:"  # names of checkpoints in transformers' format, which need no record
_registry: dict[str, EncoderSpec] = {}


def paradigm_groups(paradigm: str) -> frozenset[str]:
    """The groups of encoders that were trained so.

    `discriminative` follows the paper: trained on labels or by self-supervised contrast or
    distillation. Image-text towers form a group of their own; towers of sound and text, encoders of
    texts, and what is not trained, none: groups choose among trained encoders of images.

    Example:
        >>> sorted(paradigm_groups("supervised")), sorted(paradigm_groups("masked_reconstruction"))
        (['discriminative', 'supervised'], ['mim'])
    """
    if paradigm == "masked_reconstruction":
        return frozenset({"mim"})
    if paradigm in ("sound_text", "text", "untrained"):
        return frozenset()
    if paradigm in ("supervised", "self_supervised"):
        return frozenset({"discriminative", paradigm})
    return frozenset({paradigm})


def register_encoder(spec: EncoderSpec) -> EncoderSpec:
    """Add a record.

    Raises:
        ValueError: the name is taken.
    """
    if spec.name in _registry:
        raise ValueError(f"encoder {spec.name!r} is registered already; give another name")
    _registry[spec.name] = spec
    return spec


def encoder_spec(name: str) -> EncoderSpec:
    """The record of one encoder.

    Raises:
        ValueError: unknown name; the message lists near matches.

    Example:
        >>> encoder_spec("resnet50").width
        2048
    """
    if name not in _registry:
        near = difflib.get_close_matches(name, _registry, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else "see list_encoders()"
        raise ValueError(f"unknown encoder {name!r}: {hint}")
    return _registry[name]


def list_encoders(panel: str | None = None, group: str | None = None) -> list[str]:
    """Names of registered encoders, in order of registration.

    Args:
        panel: only this panel's members: "mini" or "paper".
        group: only this group's members, see `GROUPS`.

    Raises:
        ValueError: no such panel or group.

    Example:
        >>> list_encoders(panel="paper", group="mim")
        ['fcmae_base', 'mae_base']
    """
    if panel is not None and panel not in PANELS:
        raise ValueError(f"unknown panel {panel!r}: choose one of {', '.join(PANELS)}")
    if group is not None and group not in GROUPS:
        raise ValueError(f"unknown group {group!r}: choose one of {', '.join(GROUPS)}")
    return [
        name
        for name, spec in _registry.items()
        if (panel is None or spec.panel == panel) and (group is None or group in spec.groups)
    ]


def select_encoders(names: Iterable[str], panel: str) -> list[str]:
    """Resolve a user's list: `all`, groups of the panel, names and `hf:` ids, without repeats.

    Raises:
        ValueError: a word is neither a group nor an encoder, or nothing is left.

    Example:
        >>> select_encoders(["mim", "resnet18"], panel="paper")
        ['fcmae_base', 'mae_base', 'resnet18']
    """
    chosen: list[str] = []
    names = list(names)
    for word in names:
        if word == "all":
            chosen += list_encoders(panel)
        elif word in GROUPS:
            chosen += list_encoders(panel, word)
        elif word.startswith(TRANSFORMERS_PREFIX):
            chosen.append(word)
        else:
            chosen.append(encoder_spec(word).name)
    if not chosen:
        raise ValueError(
            f"names={names} selects nothing of panel {panel!r}; give its encoders or groups"
        )
    return list(dict.fromkeys(chosen))
