"""The smoke of row 24: two seeded bugs, and when one counts as noticed."""

from pathlib import Path
from typing import Any

import pytest

from faults import mutants
from faults.mutants import BROKE, Mutant, noticed, played
from faults.seeded import MUTANTS

NAMED = {one.name: one for one in MUTANTS}


@pytest.mark.parametrize(
    ("bug", "words"),
    [
        ("an epoch is held before its document is believed", "it holds (0, 10), not (0, 5)"),
        ("every action is an episode's first", "jumped from"),
    ],
)
def test_a_seeded_bug_is_noticed(bug: str, words: str, tmp_path: Path) -> None:
    """Without it these cases pass: other tests play them."""
    one = NAMED[bug]
    found = played(one, one.plant(tmp_path / "program"), tmp_path / "played")
    assert words in found["wrong"][0]


@pytest.mark.parametrize(
    ("sound", "bad", "wrong"),
    [
        ([], ["lost"], []),
        ([], [], ["nobody noticed"]),
        ([], [f"{BROKE}: no disk"], ["nobody noticed", f"{BROKE}: no disk"]),
        (["late"], ["late", "lost"], ["without the bug, too: late"]),
    ],
)
def test_it_counts_where_the_oracle_has_something_against_the_bug_alone(
    sound: list[str],
    bad: list[str],
    wrong: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def told(_one: Mutant, program: Path, _folder: Path) -> dict[str, Any]:
        return {"wrong": sound if program.name == "program" else bad}

    monkeypatch.setattr(mutants, "played", told)
    assert noticed(NAMED["a late answer counts"], tmp_path)["wrong"] == wrong
