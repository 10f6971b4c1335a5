"""``fleet dataset``: demonstrations in, out and looked at. The work is done by the runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

app = typer.Typer(no_args_is_help=True)

Source = Annotated[str, typer.Argument(help="A folder, or its fsspec URL.", metavar="SRC")]
Target = Annotated[str, typer.Argument(help="An empty or new folder, or its URL.", metavar="DST")]


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    TIMEOUT = "timeout"


class By(StrEnum):
    """Who acted."""

    HUMAN = "human"
    POLICY = "policy"


class Form(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"


@app.command("import")
def import_(
    source: Source,
    target: Target,
    outcome: Annotated[
        Outcome | None,
        typer.Option(help="Of every episode; else as next.success says, else success."),
    ] = None,
    by: Annotated[
        By, typer.Option(help="Who acted, where no feature `intervention` says it.")
    ] = By.HUMAN,
    task: Annotated[
        list[str] | None,
        typer.Option(help="What the job calls a task of the dataset.", metavar="WORDS=NAME"),
    ] = None,
    drop_images: Annotated[bool, typer.Option(help="Leave the cameras out.")] = False,
    lossless: Annotated[
        bool, typer.Option(help="Keep camera frames as they are; else as JPEG.")
    ] = False,
) -> None:
    """Make a LeRobotDataset v3 a folder of episodes, for spec.offline.datasets."""
    if wrong := next((pair for pair in task or () if "=" not in pair), None):
        raise typer.BadParameter(f"{wrong!r} is not WORDS=NAME", param_hint="--task")
    answer = _run(
        *("import", source, target, "--by", by),
        *(("--outcome", outcome) if outcome else ()),
        *(part for pair in task or () for part in ("--task", pair)),
        *(("--drop-images",) if drop_images else ()),
        *(("--lossless",) if lossless else ()),
    )
    typer.echo(f"{answer['episodes']} episodes in {target}{_left_out(answer['ignored'])}")


@app.command()
def export(
    source: Source,
    target: Target,
    fps: Annotated[
        int | None, typer.Option(help="Frames a second; else as the first episode's clock.", min=1)
    ] = None,
    robot_type: Annotated[str, typer.Option(help="What LeRobot calls the robot.")] = "",
) -> None:
    """Make a folder of episodes a LeRobotDataset v3."""
    answer = _run(
        *("export", source, target),
        *(("--fps", str(fps)) if fps else ()),
        *(("--robot-type", robot_type) if robot_type else ()),
    )
    typer.echo(
        f"{answer['episodes']} episodes, {answer['frames']} frames at {answer['fps']} a second "
        f"in {target}"
    )


@app.command()
def inspect(
    source: Source,
    output: Annotated[Form, typer.Option(help="For people or for programs.")] = Form.TABLE,
) -> None:
    """Tell what is in a dataset of either kind; exit code 1 when something is wrong with it."""
    report = _run("inspect", source)
    typer.echo(json.dumps(report, indent=2) if output is Form.JSON else "\n".join(lines(report)))
    if report["faults"]:
        raise typer.Exit(1)


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The report for people."""
    fps = f"{report['fps']:.3g}" if report["fps"] else "unknown"
    human = report["interventions"]
    rows = {
        "dataset": f"{report['url']} ({report['kind']})",
        "episodes": f"{report['episodes']}, {report['frames']} frames, {fps} a second",
        "outcomes": _counts(report["outcomes"]),
        "human": f"{human['frames']} frames in {human['episodes']} episodes",
        "shapes": _counts(report["shapes"]),
        "ignored": ", ".join(report["ignored"]),
    }
    for name, said in rows.items():
        if said:
            yield f"{name:<10}{said}"
    yield from _table(
        ("task", "episodes", "frames"),
        [(task, one["episodes"], one["frames"]) for task, one in report["tasks"].items()],
    )
    yield from _table(
        ("statistic", "min", "max", "mean", "std"),
        [
            (f"{name}[{i}]", *(f"{value:.4g}" for value in values))
            for name, found in report["statistics"].items()
            for i, values in enumerate(zip(*found.values(), strict=True))
        ],
    )
    yield from (f"fault: {fault}" for fault in report["faults"])


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    if rows:
        wide = max(len(str(row[0])) for row in (head, *rows)) + 2
        yield ""
        for row in (head, *rows):
            yield f"{row[0]!s:<{wide}}" + "".join(f"{cell!s:>12}" for cell in row[1:])


def _counts(found: dict[str, int]) -> str:
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{count} {name}" for name, count in found.items())


def _left_out(names: Sequence[str]) -> str:
    return f"; left out: {', '.join(names)}" if names else ""


def _run(*arguments: str) -> Any:
    """What the runtime's program answers; its own words and exit code where it does not."""
    done = subprocess.run(
        [sys.executable, "-m", "fleet_runtime.datasets", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    if done.returncode:
        typer.echo(done.stderr.strip(), err=True)
        raise typer.Exit(1)
    return json.loads(done.stdout.splitlines()[-1])
