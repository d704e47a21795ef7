"""How far a task is: a bar on a terminal, and lines where there is none.

A log has no use for a bar that draws itself anew ten times a second. There a task that takes over
two seconds says how far it is, at what rate and how long it still takes, then every half minute and
at its end.
"""

import io
import sys

from tqdm import tqdm

FIRST_LINE, NEXT_LINES = 2.0, 30.0  # seconds


class _Lines(io.TextIOBase):
    """What a bar draws, a line each time it is drawn."""

    def __init__(self, before: str):
        self.before = before
        self.bar: tqdm | None = None
        self.last = ""

    def write(self, text: str) -> int:
        """Print what was drawn."""
        drawn = text.strip()
        if drawn and drawn != self.last:  # the end draws what the last step drew
            self.last = drawn
            print(f"{self.before}{drawn}", file=sys.stderr, flush=True)
            if self.bar is not None:
                self.bar.mininterval = self.bar.maxinterval = NEXT_LINES
        return len(text)


def progress_bar(
    label: str | None, total: int, unit: str, *, before: str | None = None, prefixes: bool = False
) -> tqdm:
    """A bar of tqdm's, which draws or prints itself as it is updated.

    Args:
        label: what is done; None for no bar.
        total: how many units.
        unit: name of one.
        before: what lines begin with, even on a terminal; None for a bar there.
        prefixes: whether numbers are written with k, M and G, as of bytes.

    Example:
        >>> with progress_bar(None, 3, "step") as bar:
        ...     for _ in range(3):
        ...         bar.update()
    """
    if label is None or (before is None and sys.stderr.isatty()):
        disable = label is None
        return tqdm(total=total, desc=label, unit=unit, unit_scale=prefixes, disable=disable)
    lines = _Lines(before or "")
    lines.bar = tqdm(
        total=total,
        desc=label,
        unit=unit,
        unit_scale=prefixes,
        file=lines,
        delay=FIRST_LINE,
        mininterval=FIRST_LINE,
        maxinterval=FIRST_LINE,
        bar_format="{desc}: {n_fmt} of {total_fmt}, {rate_fmt}, {remaining} left{postfix}",
    )
    return lines.bar
