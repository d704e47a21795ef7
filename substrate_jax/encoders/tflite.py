"""Weights of the speech encoder out of a TensorFlow Lite file, as safetensors.

    python -m substrate_jax.encoders.tflite embedding_model.tflite speech_embedding.safetensors

The file is a FlatBuffer: tables whose fields lie at offsets that a table of their own lists. Its
convolutions are read in the order of the graph, weights [out, height, width, in] and a bias each;
nothing else is, and nothing is executed. They must have the shapes of `speech_embedding`, which
says what is computed with them.

Not guaranteed: that a file with convolutions of those shapes computes the same between them.
"""

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from substrate_jax.data.paths import one_line, read_file, readable, user_path
from substrate_jax.data.tensors import write_tensors
from substrate_jax.encoders.networks.speech_embedding import SpeechEmbeddingConfig

_IDENTIFIER = b"TFL3"
_CONVOLUTION, _FLOAT32 = 3, 0  # of the format's enumerations
# Fields of the format's tables, by number.
_CODES, _GRAPHS, _BUFFERS = 1, 2, 4  # of a model
_OLD_CODE, _CODE = 0, 3  # of an operator's code
_TENSORS, _OPERATORS = 0, 3  # of a graph
_SHAPE, _TYPE, _BUFFER = 0, 1, 2  # of a tensor
_OPCODE, _INPUTS = 0, 1  # of an operator


class _Table:
    """A table of a FlatBuffer, at a place in its bytes."""

    def __init__(self, data: bytes, place: int):
        self._data, self._place = data, place

    def _number(self, layout: str, place: int) -> int:
        if place < 0:
            raise ValueError("an offset before the file")
        return struct.unpack_from(f"<{layout}", self._data, place)[0]

    def _field(self, number: int) -> int | None:
        listing = self._place - self._number("i", self._place)
        at = 4 + 2 * number
        offset = self._number("H", listing + at) if at < self._number("H", listing) else 0
        return self._place + offset if offset else None

    def number(self, field: int, layout: str = "I") -> int:
        """A number, 0 where it is left out."""
        place = self._field(field)
        return 0 if place is None else self._number(layout, place)

    def _vector(self, field: int) -> tuple[int, int]:
        place = self._field(field)
        if place is None:
            return 0, 0
        start = place + self._number("I", place)
        return start + 4, self._number("I", start)

    def array(self, field: int, dtype: str) -> np.ndarray:
        """A vector of numbers."""
        start, count = self._vector(field)
        return np.frombuffer(self._data, dtype, count, start) if count else np.zeros(0, dtype)

    def tables(self, field: int) -> "list[_Table]":
        """A vector of tables."""
        start, count = self._vector(field)
        if 4 * count > len(self._data):
            raise ValueError(f"{count} tables in {len(self._data)} bytes")
        places = range(start, start + 4 * count, 4)
        return [_Table(self._data, place + self._number("I", place)) for place in places]


def _convolutions(data: bytes) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Weights [out, height, width, in] and bias of every convolution, in order."""
    model = _Table(data, struct.unpack_from("<I", data)[0])
    # Codes above 127 have a field of their own; ours is below.
    codes = [max(c.number(_OLD_CODE, "b"), c.number(_CODE, "i")) for c in model.tables(_CODES)]
    buffers = model.tables(_BUFFERS)
    graph = model.tables(_GRAPHS)[0]
    tensors = graph.tables(_TENSORS)

    def read(index: int) -> np.ndarray:
        tensor = tensors[index]
        if tensor.number(_TYPE, "b") != _FLOAT32:
            raise ValueError("weights of another type than float32")
        content = buffers[tensor.number(_BUFFER)].array(0, "u1")
        return content.view("<f4").reshape(tensor.array(_SHAPE, "<i4"))

    for operator in graph.tables(_OPERATORS):
        if codes[operator.number(_OPCODE)] == _CONVOLUTION:
            _, weight, bias = operator.array(_INPUTS, "<i4")
            yield read(weight), read(bias)


def read_weights(path: Path, config: SpeechEmbeddingConfig | None = None) -> dict[str, np.ndarray]:
    """The arrays of a TensorFlow Lite file of the speech encoder, for `weights.fill`.

    Args:
        path: of the file.
        config: shape of the network; the published one's by default.

    Returns:
        `convs.I.weight` [out, in, height, width] and `convs.I.bias`, float32.

    Raises:
        ValueError: no such file, one of another kind or damaged, or other convolutions.
    """
    config = config or SpeechEmbeddingConfig()
    what = f"{readable(str(path))!r}"
    try:
        data = read_file(path)
    except OSError as error:
        raise ValueError(f"{what} cannot be read: {error.strerror or one_line(error)}") from error
    if data[4:8] != _IDENTIFIER:
        raise ValueError(
            f"{what} is no TensorFlow Lite file; give one such as embedding_model.tflite"
        )
    try:
        found = list(_convolutions(data))
    except (struct.error, IndexError, ValueError, TypeError) as error:
        raise ValueError(f"{what} is damaged ({one_line(error)}); fetch it again") from error
    wanted = [(out, height, width, inside) for height, width, inside, out in config.kernels]
    if [weight.shape for weight, _ in found] != wanted:
        raise ValueError(
            f"{what} has {len(found)} convolutions of other shapes than the speech encoder's "
            f"{len(wanted)}; give embedding_model.tflite of the front end of 32 mel bands"
        )
    arrays = {}
    for index, (weight, bias) in enumerate(found):
        arrays[f"convs.{index}.weight"] = np.ascontiguousarray(weight.transpose(0, 3, 1, 2))
        arrays[f"convs.{index}.bias"] = bias
    return arrays


def main(arguments: list[str]) -> int:
    """Convert the first file into the second."""
    if len(arguments) != 2:
        print("usage: python -m substrate_jax.encoders.tflite MODEL.tflite OUT.safetensors")
        return 2
    try:
        model, out = (user_path(argument, argument) for argument in arguments)
        arrays = read_weights(model)
        write_tensors(out, arrays, {"source": readable(model.name)})
    except (ValueError, OSError) as error:
        print(one_line(error), file=sys.stderr)
        return 2
    print(f"{readable(str(out))}: {len(arrays)} arrays of {readable(model.name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
