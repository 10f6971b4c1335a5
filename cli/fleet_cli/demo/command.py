"""``fleet demo``: options, the cluster around the play, the last line and the exit code."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fleet_cli.demo import report
from fleet_cli.demo.courses import COURSES, DEFAULT, course
from fleet_cli.demo.remote import remote
from fleet_cli.demo.site import Wishes
from fleet_cli.demo.stage import Demo, Ended, Options
from fleet_cli.demo.story import mean_rate
from fleet_cli.demo.venue import NAMESPACE, loopback

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from fleet_cli.demo.story import Story

GOAL_MET = "goal met"
THERE = "On a cluster of yours"
"""The heading of the options that only --context gives a meaning."""


def _there(text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(help=text, rich_help_panel=THERE)
    return option


def _each(field: str) -> str:
    """The default of every algorithm that has one of its own."""
    usual, *others = ((name, getattr(found, field)) for name, found in COURSES.items())
    said = [f"{value:g} with {name}" for name, value in others if value != usual[1]]
    return ", ".join([f"{usual[1]:g}", *said])


def demo(
    algorithm: Annotated[str, typer.Option(help=f"How it learns: {', '.join(COURSES)}.")] = DEFAULT,
    minutes: Annotated[
        float | None, typer.Option(help=f"Time to reach the goal; {_each('minutes')}.")
    ] = None,
    goal: Annotated[
        float | None, typer.Option(help=f"Mean success to confirm, 0 to 1; {_each('goal')}.")
    ] = None,
    demonstrations: Annotated[
        int | None,
        typer.Option(help=f"Demonstrations of each task; {_each('demonstrations')}."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of demonstrations; 0 draws one.")] = 0,
    episodes: Annotated[int, typer.Option(help="Episodes of each task that confirm it.")] = 50,
    chaos: Annotated[
        bool, typer.Option("--chaos", help="Kill -9 one process every 15 seconds meanwhile.")
    ] = False,
    output: Annotated[Path, typer.Option(help="Where the plot and the numbers go.")] = Path(
        "out/demo"
    ),
    directory: Annotated[
        Path | None,
        typer.Option(help="Folder of the cluster, kept afterwards; default: a new one."),
    ] = None,
    context: Annotated[str, _there("Play there: a context of your kubeconfig.")] = "",
    namespace: Annotated[str, _there("Where; made, and deleted at the end.")] = NAMESPACE,
    nats: Annotated[str, _there("NATS, as pods reach it; without, one is installed.")] = "",
    storage: Annotated[str, _there("Store, as pods name it; without, one is installed.")] = "",
    storage_secret: Annotated[str, _there("Secret with the store's AWS_… variables.")] = "",
    nats_here: Annotated[str, _there("The same NATS as this machine reaches it.")] = "",
    s3_here: Annotated[str, _there("The store's endpoint as this machine reaches it.")] = "",
    operator_image: Annotated[str, _there("In place of fleetloop-operator:latest.")] = "",
    learner_image: Annotated[str, _there("In place of fleetloop-learner:latest.")] = "",
    robot_image: Annotated[str, _there("In place of fleetloop-robot:latest.")] = "",
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave it all there.", rich_help_panel=THERE)
    ] = False,
) -> None:
    """Watch a fleet learn: a real control plane, four simulated robots, one shared policy."""
    wishes = Wishes(
        context, namespace, nats, storage, storage_secret, nats_here, s3_here,
        operator_image, learner_image, robot_image, keep,
    )  # fmt: skip
    if fault := _contradiction(wishes, local=chaos or directory is not None):
        raise RuntimeError(fault)
    console = Console()
    seed = seed or int(time.time()) % 100_000
    chosen = course(algorithm)
    options = Options(
        minutes=chosen.minutes if minutes is None else minutes,
        goal=chosen.goal if goal is None else goal,
        demonstrations=demonstrations or chosen.demonstrations,
        seed=seed,
        episodes=episodes,
        course=chosen,
    )
    # A script's background job ignores Ctrl-C from its start, and could not be ended by it either.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _end_in_order)

    def say(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False)

    with tempfile.TemporaryDirectory(prefix="fleet-demo-") as folder:
        place = (
            remote(wishes, Path(folder), say)
            if context
            else loopback(directory or Path(folder), say, chaos=chaos)
        )
        with place as venue:
            play = Demo.on(venue, options, console)
            try:
                verdict = asyncio.run(play.perform())
            except Ended as end:
                verdict = str(end)
            except KeyboardInterrupt:
                verdict = "stopped by hand"
            used = play.clock() / 60
    _report(play.story, verdict, used, output, say)
    raise typer.Exit(0 if verdict.startswith(GOAL_MET) else 1)


def _end_in_order(sign: int, _frame: FrameType | None) -> None:
    """As Ctrl-C does, and once: some send it to a program and to its group."""
    signal.signal(sign, signal.SIG_IGN)
    signal.raise_signal(signal.SIGINT)


def _contradiction(wishes: Wishes, *, local: bool) -> str:
    """What cannot be had together, in a sentence; empty where nothing is wrong."""
    if not wishes.context and wishes != Wishes("", NAMESPACE):
        return f"the options under “{THERE}” need --context, the cluster they speak of"
    if wishes.context and local:
        return "--chaos and --directory are for the local cluster: leave them, or --context, away"
    if bool(wishes.nats) != bool(wishes.storage):
        return "give both --nats and --storage, or neither: what is installed comes as a pair"
    if not wishes.nats and (wishes.storage_secret or wishes.nats_here or wishes.s3_here):
        return "--storage-secret, --nats-here and --s3-here say more of --nats and --storage"
    return ""


def _report(
    story: Story, verdict: str, minutes: float, output: Path, say: Callable[[str], None]
) -> None:
    """The files, and the last line."""
    report.write(output, story, report.summary(story, minutes, verdict))
    say(f"{verdict}; see {output}/learning-curve.png and {output}/numbers.json")
    base, final = (
        f"{mean_rate(counts):.2f}" if counts else "none" for counts in (story.base, story.final)
    )
    say(f"base={base} final={final} minutes={minutes:.1f}")
