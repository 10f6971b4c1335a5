"""Alerts and dashboards: the files printed of them, the page that tells what to do, their words."""

import re
from pathlib import Path

import pytest
import yaml

from fleet_cli import alerts_page
from fleet_cli.monitoring.__main__ import files
from fleet_contract import metrics as m
from fleet_contract.alerts import ALERTS, Alert
from fleet_contract.dashboards import DASHBOARDS, asked

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "manifests" / "components" / "monitoring"
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text()
EXPRESSIONS = {one.name: one.expr for one in ALERTS} | {
    f"{board.name}: {panel.title}": asked(panel.promql, "1m")
    for board in DASHBOARDS
    for panel in board.panels
}


def test_the_files_are_what_the_contract_says() -> None:
    there = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    assert there == {*files(), "kustomization.yaml"}
    for path, text in files().items():
        assert (FOLDER / path).read_text() == text, "run `make generate` and commit what it writes"


def test_the_page_is_what_the_list_says() -> None:
    assert (ROOT / "docs" / "alerts.md").read_text() == alerts_page.render()


def test_the_component_names_every_dashboard() -> None:
    (maps,) = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["configMapGenerator"]
    assert maps["files"] == [f"dashboards/{one.name}.json" for one in DASHBOARDS]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_of_every_alert_there_is_told_what_to_do(alert: Alert) -> None:
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOKS, re.MULTILINE | re.DOTALL))
    assert alert.anchor == alert.name.lower()
    for part in ("**It means**", "**Look**", "**Do**"):
        assert part in sections[alert.name]
    assert sections.keys() == {one.name for one in ALERTS}


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_an_expression_asks_for_what_there_is(where: str) -> None:
    known = {family.name: family for family in m.FAMILIES}
    for name, labels in re.findall(r"(fleet_\w+)(?:\{(.*?)\})?", EXPRESSIONS[where]):
        family = known[name.removesuffix("_bucket")]
        assert name.endswith("_bucket") == bool(family.buckets)
        assert set(re.findall(r"(\w+)=", labels)) <= set(family.labels)
    assert "$" not in EXPRESSIONS[where]


def test_names_are_told_apart() -> None:
    assert len({one.name for one in ALERTS}) == len(ALERTS)
    for board in DASHBOARDS:
        assert len({panel.title for panel in board.panels}) == len(board.panels)
