"""``fleet robots``: list, enroll, credentials, drain, undrain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fleet_cli.oncall.options import (
    Force,
    RobotName,
    Wait,
    Watch,
    Where,
    known_jobs,
    run,
    show,
    somewhere,
)

if TYPE_CHECKING:
    from fleet_cli.kube import Kube

WAIT = 120.0  # seconds: an episode may have to end first
app = typer.Typer(no_args_is_help=True)
Job = Annotated[
    str, typer.Option(help="Of this job only.", autocompletion=known_jobs, show_default=False)
]


@app.command("list")
@somewhere
def list_(where: Where, job: Job = "", watch: Watch = False) -> None:
    """List robots: what each runs, how it fares, what is wrong with it."""
    from fleet_cli.oncall import listing

    run(where, lambda kube: listing.robots(kube, job, where.output, watch=watch))


@app.command()
@somewhere
def enroll(
    where: Where,
    robot: RobotName,
    job: Annotated[str, typer.Option(help="The job it works for.", autocompletion=known_jobs)],
    site: Annotated[str, typer.Option(help="Where it stands.", show_default=False)] = "",
    group: Annotated[list[str] | None, typer.Option(help="A group of it; may be repeated.")] = None,
) -> None:
    """Make a robot from outside known, and print what its program needs."""
    from fleet_cli.oncall import robots, text

    async def work(kube: Kube) -> None:
        view = await robots.enroll(kube, robot, job, site, group or [])
        show(view, text.enrolled(view), where.output)

    run(where, work)


@app.command()
@somewhere
def credentials(
    where: Where,
    robot: RobotName,
    new: Annotated[
        bool, typer.Option("--new", help="Make others; those of before are void at once.")
    ] = False,
) -> None:
    """Print what the program of a robot from outside needs, as enroll did."""
    from fleet_cli.oncall import robots, text

    async def work(kube: Kube) -> None:
        view = await robots.credentials(kube, robot, new=new)
        show(view, text.enrolled(view), where.output)

    run(where, work)


@app.command()
@somewhere
def drain(where: Where, robot: RobotName, timeout: Wait = WAIT, force: Force = False) -> None:
    """Take a robot out of work and wait until it is idle."""
    from fleet_cli.oncall import edits, robots

    async def work(kube: Kube) -> int:
        view = await robots.drain(kube, robot, within=timeout, force=force)
        return edits.told(view, where.output)

    run(where, work)


@app.command()
@somewhere
def undrain(where: Where, robot: RobotName, force: Force = False) -> None:
    """Put a drained robot back to work."""
    from fleet_cli.oncall import edits, robots

    async def work(kube: Kube) -> int:
        return edits.told(await robots.undrain(kube, robot, force=force), where.output)

    run(where, work)
