"""Flags of launchers that train many students, and lists of numbers in flags."""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "rates",
    [],
    "Learning rates that each way to learn chooses among, by a tenth of the training images; the "
    "student's usual one without it.",
)
flags.DEFINE_enum("train_dtype", "float32", ["float32", "bfloat16"], "Of the training arithmetic.")
flags.DEFINE_bool(
    "together",
    None,
    "Train all students of a kind in one step; by default on accelerators.",
)


def numbers(name: str, *, whole: bool = False) -> list[float]:
    """The values of a flag that is a list of numbers.

    Raises:
        ValueError: a word that is none.
    """
    words: list[str] = FLAGS[name].value or []
    try:
        return [int(word) if whole else float(word) for word in words]
    except ValueError:
        kind = "whole numbers" if whole else "numbers"
        raise ValueError(f"{name}={','.join(words)!r}: give {kind}") from None


def rates() -> list[float]:
    """Learning rates to choose among.

    Raises:
        ValueError: words that are no numbers, or an unknown student.
    """
    from substrate_jax.training.students import student_rate

    return numbers("rates") if FLAGS.rates else [student_rate(FLAGS.student)]


def together() -> bool:
    """Whether students of a kind are trained in one step."""
    import jax

    return jax.default_backend() != "cpu" if FLAGS.together is None else FLAGS.together
