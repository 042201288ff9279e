"""What is written reads back."""

from __future__ import annotations

import math
import tomllib
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_fed.config import RoundConfig, from_dict
from mimo_fed.demo.toml import to_toml
from mimo_fed.errors import ConfigError

texts = st.text(st.characters(blacklist_categories=["Cs"]))
scalars = st.one_of(texts, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))
tables = st.recursive(
    st.dictionaries(texts, st.one_of(scalars, st.lists(scalars, max_size=3)), max_size=4),
    lambda inner: st.dictionaries(texts, st.one_of(scalars, inner), max_size=3),
    max_leaves=8,
)


@given(tables)
def test_tables_read_back(table: dict[str, object]) -> None:
    assert tomllib.loads(to_toml(table)) == table


def test_a_round_survives_the_file() -> None:
    config = RoundConfig(n_min=3, n_max=8)
    table = tomllib.loads(to_toml({"home": "runs/demo", "round": asdict(config)}))
    assert from_dict(RoundConfig, table["round"]) == config


def test_nothing_is_left_out_but_none() -> None:
    assert to_toml({"a": None, "b": 1}) == "b = 1\n"
    assert tomllib.loads(to_toml({"x": math.inf}))["x"] == math.inf


@pytest.mark.parametrize("bad", [object(), b"bytes", [{"a": 1}]])
def test_what_has_no_form_is_an_error(bad: object) -> None:
    with pytest.raises(ConfigError, match="no form in TOML"):
        to_toml({"a": bad})
