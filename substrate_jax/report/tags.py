"""Classes of things and how they are marked, the learning paradigms of encoders among them."""

import dataclasses

from substrate_jax.report.drawing import ink_on


@dataclasses.dataclass(frozen=True)
class Tag:
    """How a class of things is marked: by a letter on a color, so that neither is needed alone.

    Attributes:
        letter: one character.
        color: behind it.
        meaning: what the class is, for legends.
    """

    letter: str
    color: str
    meaning: str

    @property
    def ink(self) -> str:
        """Color of the letter."""
        return ink_on(self.color)


PARADIGMS = {
    "supervised": Tag("S", "#0072b2", "supervised"),
    "self_supervised": Tag("C", "#e69f00", "self-supervised contrast or distillation"),
    "masked_reconstruction": Tag("M", "#cc79a7", "masked reconstruction (MIM)"),
    "image_text": Tag("T", "#009e73", "image-text"),
    "sound_text": Tag("A", "#56b4e9", "sound-text"),
    "text": Tag("L", "#f0e442", "text alone"),
    "untrained": Tag("U", "#777777", "not trained"),
}


def paradigm_tag(paradigm: str) -> Tag:
    """The mark of an encoder's learning paradigm, gray where it is not one of `PARADIGMS`.

    Example:
        >>> paradigm_tag("image_text").letter, paradigm_tag("generative").letter
        ('T', 'G')
    """
    return PARADIGMS.get(paradigm, Tag(paradigm[:1].upper() or "?", "#777777", paradigm))
