"""``fleet demo``: options, the cluster around the play, the last line and the exit code."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fleet_cli.demo import report
from fleet_cli.demo.stage import Demo, Ended, Options
from fleet_cli.demo.story import mean_rate
from fleet_cli.local.cluster import LocalCluster

GOAL_MET = "goal met"


def demo(
    minutes: Annotated[float, typer.Option(help="Time the fleet has to reach the goal.")] = 5.0,
    goal: Annotated[float, typer.Option(help="Mean success to confirm, from 0 to 1.")] = 0.9,
    demonstrations: Annotated[int, typer.Option(help="Demonstrations of each task.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of demonstrations; 0 draws one.")] = 0,
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
) -> None:
    """Watch a fleet learn: a real control plane, four simulated robots, one shared policy."""
    console = Console()
    options = Options(minutes, goal, demonstrations, seed or int(time.time()) % 100_000, chaos)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="fleet-demo-") as folder:
        raise typer.Exit(_play(LocalCluster(directory or Path(folder)), options, console, output))


def _play(cluster: LocalCluster, options: Options, console: Console, output: Path) -> int:
    console.print("starting a control plane, NATS and a node on loopback …")
    with cluster:
        console.print(f"export KUBECONFIG={cluster.kubeconfig}", soft_wrap=True)
        console.print("  then, in another shell: kubectl get fleet -n fleet-demo", soft_wrap=True)
        play = Demo.on(cluster, options, console)
        try:
            verdict = asyncio.run(play.perform())
        except Ended as end:
            verdict = str(end)
        except KeyboardInterrupt:
            verdict = "stopped by hand"
        story, used = play.story, play.clock() / 60
    numbers = report.summary(story, used, verdict)
    report.write(output, story, numbers)
    console.print(
        f"{verdict}; see {output}/learning-curve.png and {output}/numbers.json", soft_wrap=True
    )
    base, final = (
        f"{mean_rate(counts):.2f}" if counts else "none" for counts in (story.base, story.final)
    )
    console.print(f"base={base} final={final} minutes={used:.1f}", highlight=False)
    return 0 if verdict.startswith(GOAL_MET) else 1
