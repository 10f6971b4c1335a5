"""The page for people in need knows every reason, and no other."""

import re
from pathlib import Path

from fleet_cli.reference import rows
from fleet_contract import meanings
from fleet_contract.names import STALLED_REASONS, ConditionType, Kind, Reason
from fleet_contract.schema import described
from fleet_operator.settings import Settings

PAGE_FOLDER = Path(__file__).parents[2] / "docs"
PAGE = (PAGE_FOLDER / "troubleshooting.md").read_text()
TABLE = PAGE.partition("## Reasons of Stalled")[2].partition("\n## ")[0]
SOURCES = sorted((Path(__file__).parents[2] / "operator" / "fleet_operator").rglob("*.py"))


def test_each_reason_of_stalled_has_a_row_that_says_what_to_do() -> None:
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|(.*)\|(.*)\|$", TABLE, re.MULTILINE)
    assert sorted(name for name, *_ in rows) == sorted(STALLED_REASONS)
    assert all(cell.strip() for _, *cells in rows for cell in cells)


def test_each_condition_and_each_reason_says_what_it_means_and_is_used() -> None:
    assert meanings.CONDITIONS.keys() == set(ConditionType)
    assert meanings.REASONS.keys() == set(Reason)
    code = "".join(path.read_text() for path in SOURCES)
    unused = {one.name for one in Reason if not re.search(rf"\bReason\.{one.name}\b", code)}
    assert not unused


def test_the_reference_has_every_field_condition_and_reason() -> None:
    """The page is generated; that it is not out of date is tests/contract/test_schema.py's."""
    page = (PAGE_FOLDER / "reference.md").read_text()
    for word in (*ConditionType, *Reason):
        assert re.search(rf"^\| `{word}` \| \S", page, re.MULTILINE), word
    for kind in Kind:
        spec = described(kind)["properties"]
        for part in ("spec", "status"):
            for row in rows(spec[part], part):
                assert f"| `{row.path}` |" in page
                assert row.description.strip(), row.path


def test_nothing_is_stalled_for_another_reason() -> None:
    code = "".join(path.read_text() for path in SOURCES)
    used = set(re.findall(r"\bstalled\(\s*Reason\.(\w+)", code))
    used |= set(re.findall(r"impatient\([^)]*?Reason\.(\w+)", code, re.DOTALL))
    assert {name.replace("_", "").lower() for name in used} <= {
        reason.lower() for reason in STALLED_REASONS
    }
    assert len(used) > 5


def test_the_page_knows_the_operators_patience() -> None:
    default = Settings.model_fields["patience_seconds"].default
    assert f"Reconciling for {default:.0f} seconds" in PAGE
