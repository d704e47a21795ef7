"""What every reader of images raises for one that it cannot read."""


class UnreadableImage(ValueError):
    """An image that cannot be decoded: truncated, empty, or of no known format."""
