"""What every reader of images, sounds and texts raises for one that it cannot read."""


class Unreadable(ValueError):
    """A file that cannot be decoded: truncated, empty, or of no known format."""


class UnreadableImage(Unreadable):
    """An image that cannot be decoded."""


class UnreadableSound(Unreadable):
    """A sound that cannot be decoded."""


class UnreadableText(Unreadable):
    """A text that cannot be decoded."""
