"""Documents that are generated say what the code says."""

from pathlib import Path

import pytest

from substrate_jax.encoders import encoder_spec, list_encoders, table
from substrate_jax.encoders.weights import parameter_count

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("path", table.documents(ROOT), ids=lambda path: path.name)
def test_encoder_tables_are_the_registrys(path):
    assert path.read_text() == table.documents(ROOT)[path], (
        "run python -m substrate_jax.encoders.table"
    )


def test_every_encoder_has_its_parameters_counted():
    assert table.parameters().keys() == set(list_encoders())


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny", "mini_mae_base", "efficientnet_b0"])
def test_counts_are_those_of_the_networks(name):
    assert table.parameters()[name] == parameter_count(encoder_spec(name).config)


def test_the_text_table_has_a_line_for_each_encoder():
    lines = table.text_table().splitlines()
    assert [line.split()[0] for line in lines[1:]] == list_encoders()
    assert len({line.index("timm/") for line in lines if "timm/" in line}) == 1
