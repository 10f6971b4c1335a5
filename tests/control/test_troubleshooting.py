"""The page for people in need knows every reason, and no other."""

import re
from pathlib import Path

from fleet_contract.names import STALLED_REASONS
from fleet_operator.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text()
TABLE = PAGE.partition("## Reasons of Stalled")[2].partition("\n## ")[0]
SOURCES = sorted((Path(__file__).parents[2] / "operator" / "fleet_operator").rglob("*.py"))


def test_each_reason_of_stalled_has_a_row_that_says_what_to_do() -> None:
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|(.*)\|(.*)\|$", TABLE, re.MULTILINE)
    assert sorted(name for name, *_ in rows) == sorted(STALLED_REASONS)
    assert all(cell.strip() for _, *cells in rows for cell in cells)


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
