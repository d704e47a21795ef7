"""Blocks that several pages share."""

from substrate_jax.report.shared_blocks import encoder_table
from tests.report.tiny import tiny_result


def test_encoders_without_a_hash_have_a_row():
    table = encoder_table(tiny_result().run.encoders)
    (row,) = table.rows
    assert (row["name"], row["hash"]) == ("a", None)
    assert table.csv.splitlines()[1].startswith("a,vit,supervised,supervised,8,99,a.safetensors,,")
