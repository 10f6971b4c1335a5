"""The ``fleet`` command, also ``kubectl fleet``. Commands import what they need when they run."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet_cli import dataset, robot
from fleet_cli.oncall import commands, key_commands, robot_commands
from fleet_cli.oncall.options import Format, show
from fleet_cli.oncall.options import Output as Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

app = typer.Typer(
    name="fleet",
    help="Post-train robot policies on a fleet that is at work.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

WRITE, LOCAL = "Write jobs", "A cluster of your own"
app.add_typer(commands.app)
app.add_typer(
    robot_commands.app,
    name="robots",
    help="Robots: list, enroll, drain.",
    rich_help_panel=commands.ACT,
)
app.add_typer(
    robot.app,
    name="robot",
    help="This machine's robot: run it.",
    rich_help_panel=LOCAL,
)
app.add_typer(
    key_commands.app,
    name="keys",
    help="Keys: rotate.",
    rich_help_panel=commands.ACT,
)
app.add_typer(
    dataset.app,
    name="dataset",
    help="Demonstrations: import, export, inspect.",
    rich_help_panel=WRITE,
)

Output = Annotated[Path | None, typer.Option(help="Write there instead of printing.")]
Name = Annotated[str, typer.Option(help="Which local cluster.")]


@contextmanager
def plainly() -> Iterator[None]:
    """What went wrong outside of us is a sentence on stderr, not a traceback; exit code 1."""
    try:
        yield
    except (RuntimeError, OSError, ValueError) as fault:
        typer.echo(f"error: {fault}", err=True)
        raise typer.Exit(1) from fault


@app.command(rich_help_panel=WRITE)
def crds(output: Output = None) -> None:
    """Print the CustomResourceDefinitions, or write them into a folder."""
    from fleet_cli.crds import files, write

    if output is None:
        typer.echo("---\n".join(files().values()), nl=False)
        return
    with plainly():
        for path in write(output):
            typer.echo(path)


class Shell(StrEnum):
    """Shells that complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


class Page(StrEnum):
    """What there is to read."""

    REFERENCE = "reference"
    METRICS = "metrics"
    ALERTS = "alerts"
    ALGORITHMS = "algorithms"
    POLICIES = "policies"
    ROLLOUT = "rollout"
    CLI = "cli"


@app.command(rich_help_panel=WRITE)
def docs(
    page: Annotated[Page, typer.Argument(help="Which page.")] = Page.REFERENCE,
    output: Output = None,
) -> None:
    """Print a page of the documentation as Markdown, or write it into a file."""
    from fleet_cli import (
        alerts_page,
        algorithms,
        cli_page,
        metrics_page,
        policies,
        reference,
        rollout_page,
    )

    pages: dict[Page, Callable[[], str]] = {
        Page.REFERENCE: reference.render,
        Page.METRICS: metrics_page.render,
        Page.ALERTS: alerts_page.render,
        Page.ALGORITHMS: algorithms.render,
        Page.POLICIES: policies.render,
        Page.ROLLOUT: rollout_page.render,
        Page.CLI: lambda: cli_page.render(app),
    }
    render = pages[page]
    if output is None:
        typer.echo(render(), nl=False)
        return
    with plainly():
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(render())
        typer.echo(output)


@app.command("algorithms", rich_help_panel=WRITE)
def tell_algorithms(
    name: Annotated[str, typer.Argument(help="Only this one.")] = "",
) -> None:
    """Tell which algorithms a job may name, and their parameters."""
    from fleet_cli.algorithms import render, section

    with plainly():
        typer.echo(section(name) if name else render(), nl=False)


@app.command("policies", rich_help_panel=WRITE)
def tell_policies(
    name: Annotated[str, typer.Argument(help="Only this one.")] = "",
) -> None:
    """Tell which architectures a job's policy may have, and their parameters."""
    from fleet_cli.policies import render, section

    with plainly():
        typer.echo(section(name) if name else render(), nl=False)


@app.command(rich_help_panel=WRITE)
def lint(
    files: Annotated[list[Path], typer.Argument(help="YAML files; - is standard input.")],
    output: Answer = Format.TEXT,
) -> None:
    """Check files for what apiserver, learner and robots would refuse; needs no cluster.

    Of a job without faults it tells what each robot will send and how long its spool lasts.
    """
    from fleet_cli import uplink
    from fleet_cli.lint import faults, jobs, sending

    with plainly():
        texts = {file: sys.stdin.read() if str(file) == "-" else file.read_text() for file in files}
    known = {name for text in texts.values() for name in jobs(text)}
    found = [(file, fault) for file, text in texts.items() for fault in faults(text, known)]
    ok = all(fault.hint for _, fault in found)
    told = [(file, *one) for file, text in texts.items() for one in sending(text)] if ok else []
    if output is Format.JSON:
        from fleet_cli.oncall import views

        items = [views.LintFault(file=str(file), **fault._asdict()) for file, fault in found]
        robots = [views.Uplink.of(str(file), job, one) for file, job, one in told]
        show(views.Lint(ok=ok, items=items, robots=robots), [], output)
    else:
        lines = [f"{file}:{fault}" for file, fault in found]
        lines += [f"{file}: {job}: {uplink.line(one)}" for file, job, one in told]
        well = ["ok; `kubectl apply --dry-run=server` asks the cluster for the rest"] if ok else []
        typer.echo("\n".join([*lines, *well]))
    if not ok:
        raise typer.Exit(1)


@app.command(rich_help_panel=LOCAL)
def up(
    name: Name = "default",
    foreground: Annotated[bool, typer.Option(help="Stay, and end it all on Ctrl-C.")] = False,
    operator: Annotated[bool, typer.Option(help="Run the operator, for namespace default.")] = True,
) -> None:
    """Start a Kubernetes of your own on this machine, with NATS, our kinds and the operator."""
    from fleet_cli.local import lifecycle
    from fleet_cli.setup import at_hand, greeting, install, run_operator

    def ready(connection: lifecycle.Connection) -> None:
        install(connection.kubectl, connection.kubeconfig)
        running = operator and at_hand()
        if running:
            run_operator(connection, "default")
        typer.echo(greeting(connection, name, operator=running))

    with plainly():
        lifecycle.up(name, detach=not foreground, ready=ready)


@app.command(rich_help_panel=LOCAL)
def down(
    name: Name = "default",
    purge: Annotated[bool, typer.Option(help="Remove its data too.")] = False,
) -> None:
    """End the local cluster; its data stays unless purged."""
    from fleet_cli.local import lifecycle

    with plainly():
        ran = lifecycle.down(name, purge=purge)
    typer.echo(f"cluster {name} ended" if ran else f"no cluster {name} was running")


@app.command(
    rich_help_panel=LOCAL,
    context_settings={
        "ignore_unknown_options": True,
        "allow_extra_args": True,
        "help_option_names": [],  # --help goes through to the demo, which knows its options
    },
)
def demo(context: typer.Context) -> None:
    """Watch a fleet learn: a real control plane, four simulated robots, one shared policy."""
    from fleet_cli.demo.command import demo as play

    inner = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    inner.command()(play)
    with plainly():
        inner(context.args, prog_name="fleet demo")


@app.command(rich_help_panel=LOCAL)
def record(
    tasks: Annotated[list[str], typer.Argument(help="Its tasks, such as push or reach.")],
    folder: Annotated[str, typer.Option(help="Where in the store.")] = "datasets/demo",
    count: Annotated[int, typer.Option(help="Demonstrations of each task.")] = 3,
    seed: Annotated[int, typer.Option(help="Which starts.")] = 0,
    environment: Annotated[
        str, typer.Option(help="The world, as in spec.tasks[].environment.name.")
    ] = "metaworld",
    storage: Annotated[
        str, typer.Option(help="Another store; s3:// takes AWS_… variables.", metavar="URL")
    ] = "",
    name: Name = "default",
) -> None:
    """Let scripted experts demonstrate tasks, as a dataset for spec.offline.datasets."""
    import asyncio

    from fleet_cli.demo import agents
    from fleet_cli.local import lifecycle

    with plainly():
        if not storage:
            found = lifecycle.connection(name)
            if found is None:
                raise RuntimeError(f"no cluster {name} is running: start one with `fleet up`")
            storage = found.storage_url
        made = asyncio.run(
            agents.record(
                agents.Store(storage), folder, tasks, count, seed, environment=environment
            )
        )
    typer.echo(f"{made} demonstrations in {folder}; name it in spec.offline.datasets[].uri")


@app.command()
def version(output: Answer = Format.TEXT) -> None:
    """Print the version of this program and of the API it speaks."""
    from importlib.metadata import version as installed

    from fleet_cli.oncall import views
    from fleet_contract.names import API_VERSION

    view = views.Program(version=installed("fleetloop"), api=API_VERSION)
    show(view, [f"fleetloop {view.version} ({view.api})"], output)


@app.command()
def completion(
    shell: Annotated[Shell, typer.Argument(help="Yours.", show_default=False)],
) -> None:
    """Print the script by which a shell completes commands, jobs and robots."""
    # Asked for as the scripts themselves ask.
    os.environ["_FLEET_COMPLETE"] = f"source_{shell.value}"
    app(prog_name="fleet")


def complete_for_kubectl() -> None:
    """``kubectl_complete-fleet``: what kubectl runs to complete ``kubectl fleet …``."""
    words = sys.argv[1:]
    os.environ |= {
        "_FLEET_COMPLETE": f"complete_{Shell.BASH.value}",
        "COMP_WORDS": shlex.join(["fleet", *words]),
        "COMP_CWORD": str(len(words)),
    }
    with suppress(SystemExit):
        app(prog_name="fleet")
    print(":4")  # of kubectl's protocol: no files
