"""Records in a CSV: what is read is what was written, and strangers are refused."""

import dataclasses
import math

import pytest

from experiments.common.kept import Kept


@dataclasses.dataclass(frozen=True)
class Where:
    name: str
    share: float


@dataclasses.dataclass(frozen=True)
class Found:
    where: Where
    seed: int
    value: float

    @property
    def key(self):
        return self.where, self.seed


def test_records_come_back_to_the_bit(tmp_path):
    path = tmp_path / "found.csv"
    kept = Kept(path, Found)
    first = Found(Where('a, "b"', 0.1), 0, 1 / 3)
    kept.keep(first)
    kept.keep(Found(Where("", 1e-17), 1, math.nan))
    assert path.read_text().splitlines()[0] == "name,share,seed,value"
    again = Kept(path, Found)
    assert again.known.keys() == kept.known.keys()
    assert again.known[first.key] == first
    assert math.isnan(again.known[Where("", 1e-17), 1].value)
    replaced = dataclasses.replace(first, value=2.0)
    again.keep(replaced)
    assert Kept(path, Found).known[first.key] == replaced
    assert len(Kept(path, Found).known) == 2


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "name,share,seed,value\nx,y,0,1\n"])
def test_what_is_no_such_file_is_refused(tmp_path, text):
    path = tmp_path / "found.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"found.csv' is not what this command writes; delete it"):
        Kept(path, Found)
