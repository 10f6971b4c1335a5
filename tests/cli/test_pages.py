"""Every command and every link that README and docs show: known to the program, or there."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
import typer
import typer.main
from typer.core import TyperGroup

from fleet_cli.main import app

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FENCE = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(?:kubectl )?fleet ([a-z][^`]*)`")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
PROMPT = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:sudo )?(?:\.venv/bin/)?")
TARGETS = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
FLEET = typer.main.get_command(app)


def shown(page: Path) -> Iterator[list[str]]:
    """The words of each command in the page's shell blocks."""
    for block in FENCE.findall(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            bare = PROMPT.sub("", line)
            for part in re.split(r" (?:&&|\|\|?|>) ", bare):
                words = shlex.split(part, comments=True)
                yield words[1:] if words[:2] == ["kubectl", "fleet"] else words


def follow(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the first words name, and the words left for it."""
    command: Any = FLEET
    words = list(words)
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        found = command.commands.get(words[0])
        assert found, f"fleet knows no `{words[0]}`, only {', '.join(command.commands)}"
        command = found
        words.pop(0)
    return command, words


def faults(words: list[str]) -> Iterator[str]:
    """What is wrong with a command, as far as it can be told without running it."""
    match words:
        case ["fleet", *rest]:
            command, left = follow(rest)
            try:
                command.make_context("fleet", [word.strip("[]") for word in left])
            except typer.Exit:
                pass  # --help
            except typer.TyperException as fault:
                yield fault.format_message()
        case ["make", *rest]:
            wanted = {word for word in rest if "=" not in word}
            yield from (f"no target {name}" for name in wanted - TARGETS)
        case ["kubectl", *rest]:
            files = [word for word in rest if word.startswith("manifests/")]
            yield from (f"no {name}" for name in files if not (ROOT / name).exists())
        case ["python", "-m", module, *_]:
            if importlib.util.find_spec(module) is None:
                yield f"no module {module}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_tells_to_type_is_understood(page: Path) -> None:
    wrong = {" ".join(words): list(faults(words)) for words in shown(page) if words}
    assert {line: found for line, found in wrong.items() if found} == {}
    for said in INLINE.findall(page.read_text()):
        command, left = follow(re.split(r"[ |…,]+", said.split(" …")[0]))
        if command.context_settings:
            continue  # it hands them on
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        options = {word.partition("=")[0] for word in left if word.startswith("--")}
        assert options <= known | {"--help"}, said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_points_at_is_there(page: Path) -> None:
    for link in LINK.findall(re.sub(r"`[^`]*`", "`", page.read_text())):
        name, _, anchor = unquote(link).partition("#")
        if name.startswith(("http:", "https:", "mailto:")):
            continue
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


def anchors(page: Path) -> set[str]:
    """Those that a heading gets where Markdown is rendered."""
    plain = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", plain, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).strip().replace(" ", "-") for one in titles}
