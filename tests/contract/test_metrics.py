"""The table of metrics: conventions it keeps, and the page made of it."""

import re
from pathlib import Path

import pytest

from fleet_cli import metrics_page
from fleet_contract import metrics as m
from fleet_contract.queries import QUERIES

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
SUFFIXES = {"seconds": "_seconds", "Unix seconds": "_timestamp_seconds", "bytes": "_bytes"}


def test_the_page_is_what_the_table_says() -> None:
    assert PAGE.read_text() == metrics_page.render(), (
        "run `make generate` and commit what it writes"
    )


def test_every_family_has_one_name_and_every_label_one_meaning() -> None:
    assert len({family.name for family in m.FAMILIES}) == len(m.FAMILIES)
    assert {label for family in m.FAMILIES for label in family.labels} == m.LABELS.keys()


@pytest.mark.parametrize("family", m.FAMILIES, ids=lambda family: family.name)
def test_a_name_ends_with_its_unit(family: m.Family) -> None:
    assert family.name.removesuffix("_total").endswith(SUFFIXES.get(family.unit, ""))
    assert family.name.startswith("fleet_")
    assert family.help.endswith(".")


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.title)
def test_a_query_asks_for_families_that_exist(query: object) -> None:
    asked = set(re.findall(r"fleet_\w+", str(query)))
    assert asked
    assert {name.removesuffix("_bucket") for name in asked} <= {one.name for one in m.FAMILIES}
