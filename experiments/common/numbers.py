"""Numbers that no command can use, refused when flags are parsed."""

import math

from absl import flags

MOST = 2**31  # beyond it, arrays and generators of random numbers have their own limits
MOST_UNITS = 1e9  # beyond a float's range, bytes would not be a number


def check_numbers(values: flags.FlagValues) -> None:
    """Raise ValueError for a flag that is not a number, or a whole number beyond all use."""
    for name in values:
        value = values[name].value
        if isinstance(value, float) and math.isnan(value):
            raise ValueError(f"{name}=nan: give a number")
        if isinstance(value, int) and not -MOST < value < MOST:
            raise ValueError(f"{name}={value}: give a whole number below {MOST:,}")


def hold_to_positive(flag: str, unit: str) -> None:
    """Hold a flag that is defined to None or a number above 0 that some machine may have."""
    flags.register_validator(
        flag,
        lambda value: value is None or 0 < value < MOST_UNITS,
        f"give {unit} above 0, below {MOST_UNITS:g}",
    )
