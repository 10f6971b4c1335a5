"""The commands of a person on call. Each gathers, makes a view and prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fleet_cli.oncall.options import (
    Force,
    Format,
    JobName,
    Place,
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

WAIT = 30.0  # seconds
LOOK, ACT = "Look", "Act"
app = typer.Typer()


@app.command(rich_help_panel=LOOK)
@somewhere
def get(
    where: Where,
    job: Annotated[
        str, typer.Argument(help="Only this one.", autocompletion=known_jobs, show_default=False)
    ] = "",
    watch: Watch = False,
) -> None:
    """List jobs: what the fleet runs, what is on trial, how it fares."""
    from fleet_cli.oncall import listing

    run(where, lambda kube: listing.jobs(kube, job, where.output, watch=watch))


@app.command(rich_help_panel=LOOK)
@somewhere
def status(where: Where, job: JobName, watch: Watch = False) -> None:
    """Show one job on one screen: its rollout, what is awaited, what to do next, its robots."""
    from fleet_cli.oncall import listing

    run(where, lambda kube: listing.status(kube, job, where.output, watch=watch))


@app.command(rich_help_panel=LOOK)
@somewhere
def dashboard(
    place: Place,
    job: JobName,
    port: Annotated[int, typer.Option(help="Of this machine; 0: a free one.", min=0)] = 0,
) -> None:
    """Show one job as a page on this machine, live and read-only; Ctrl-C ends it."""
    from fleet_cli.dashboard.serve import show_page

    run(place, lambda kube: show_page(kube, job, port))


@app.command(rich_help_panel=LOOK)
@somewhere
def history(where: Where, job: JobName) -> None:
    """List the versions of a job that were tried, and what became of each."""
    from fleet_cli.oncall import look, text, world

    async def work(kube: Kube) -> None:
        seen = await world.observe(kube, job)
        view = look.history(seen.job, seen.versions, seen.now)
        show(view, text.history(view), where.output)

    run(where, work)


@app.command(rich_help_panel=LOOK)
@somewhere
def lineage(
    where: Where,
    version: Annotated[str, typer.Argument(help="A PolicyVersion, JOB-vN; or an episode's id.")],
    storage: Annotated[
        str, typer.Option(help="URL of the job's store, as reached from here.", show_default=False)
    ] = "",
    job: Annotated[str, typer.Option(help="Whose episode.", show_default=False)] = "",
) -> None:
    """Tell where a version comes from: parents, learner, data; and what is not known here.

    With --storage also which episodes it was trained on and which versions acted in them; of an
    episode, with --job, the version that acted and those that learned from it. That reads the
    job's whole journal and wants the learner's packages installed here.
    """
    from fleet_cli.oncall import lineage as origin
    from fleet_cli.oncall import text
    from fleet_cli.oncall.world import read
    from fleet_contract.names import Kind
    from fleet_contract.resources import PolicyVersion

    async def work(kube: Kube) -> None:
        if origin.is_episode(version) and job and storage:
            whose = await kube.get(Kind.TRAINING_JOB, job)
            told = await origin.stored(storage, whose["metadata"]["uid"], episode=version)
            lived = origin.episode(job, told)
            show(lived, text.episode(lived), where.output)
            return
        of = origin.job_of(version)
        found = read(PolicyVersion, await kube.get(Kind.POLICY_VERSION, version))
        siblings = await kube.list(Kind.POLICY_VERSION, fieldSelector=f"spec.job={of}")
        view = origin.lineage(found, [read(PolicyVersion, one) for one in siblings])
        if storage:
            spec = found.spec
            told = await origin.stored(storage, spec.job_uid, version=spec.sequence)
            view = origin.with_episodes(view, told)
        show(view, text.lineage(view), where.output)

    run(where, work)


@app.command(rich_help_panel=ACT)
@somewhere
def pin(
    where: Where,
    job: JobName,
    version: Annotated[int, typer.Argument(help="The version to hold.", min=1)],
    robot: Annotated[str, typer.Option(help="Only this robot.", show_default=False)] = "",
    force: Force = False,
) -> None:
    """Hold the fleet, or one robot, on a version; tells the edit where Git owns the object."""
    from fleet_cli.oncall import edits

    async def work(kube: Kube) -> int:
        view = await edits.pin(kube, job, version, robot=robot, force=force)
        return edits.told(view, where.output)

    run(where, work)


@app.command(rich_help_panel=ACT)
@somewhere
def unpin(
    where: Where,
    job: JobName,
    robot: Annotated[str, typer.Option(help="Only this robot.", show_default=False)] = "",
    manual: Annotated[bool, typer.Option(help="Into mode Manual, not Auto.")] = False,
    force: Force = False,
) -> None:
    """Let newer versions through again."""
    from fleet_cli.oncall import edits
    from fleet_contract.resources import RolloutMode

    async def work(kube: Kube) -> int:
        mode = RolloutMode.MANUAL if manual else RolloutMode.AUTO
        view = await edits.unpin(kube, job, mode, robot=robot, force=force)
        return edits.told(view, where.output)

    run(where, work)


@app.command(rich_help_panel=LOOK)
@somewhere
def doctor(where: Where) -> None:
    """Check API server, kinds, rights, operator, NATS, storage, jobs and robots."""
    import time

    from fleet_cli.oncall import checks, text
    from fleet_cli.oncall import doctor as gathering

    async def work(kube: Kube) -> int:
        view = checks.checkup(await gathering.facts(kube, time.time()))
        show(view, text.checkup(view), where.output)
        return 0 if view.ok else 1

    run(where, work)


@app.command(rich_help_panel=LOOK)
@somewhere
def logs(
    where: Where,
    name: Annotated[
        str, typer.Argument(help="A job, for its learner, or a robot.", autocompletion=known_jobs)
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on.")] = False,
    previous: Annotated[bool, typer.Option("--previous", "-p", help="Of its last life.")] = False,
    tail: Annotated[int, typer.Option(help="Last lines only; 0: all.", min=0)] = 0,
    rank: Annotated[int, typer.Option(help="Which pod of the learner.", min=0)] = 0,
) -> None:
    """Print the log of a job's learner, or of a robot that is a pod."""
    import json

    from fleet_cli.oncall import logs as reading

    async def work(kube: Kube) -> None:
        pod = await reading.pod_of(kube, name, rank)
        async for line in reading.lines(kube, pod, follow=follow, previous=previous, tail=tail):
            typer.echo(
                line if where.output is Format.TEXT else json.dumps({"pod": pod, "line": line})
            )

    run(where, work)


# --- buttons --------------------------------------------------------------------------------

VERBS = {
    "promote": "Let the version on trial go on, in mode Manual; it never skips evidence.",
    "abort": "Take the version on trial back, for good.",
    "skip": "Send a version on without the gate it stands at, or without its stage's evidence.",
    "approve": "Let robots try a version, where spec.rollout.approval asks for that.",
    "pause": "Freeze the fleet: no robot takes another version up.",
    "resume": "End a pause that was asked for; give a stage that ran out of time its time again.",
    "retry": "Try a version once more that was taken back or superseded, or run its gates anew.",
    "rollback": "Take back what the fleet runs, for the last version that was good before it.",
}


def _button(verb: str, help_: str) -> None:
    def press(
        where: Where,
        job: JobName,
        version: Annotated[
            int | None,
            typer.Argument(help="Empty: the one it can only mean.", min=1, show_default=False),
        ] = None,
        timeout: Wait = WAIT,
    ) -> None:
        from fleet_cli.oncall import buttons
        from fleet_contract.names import Verb

        async def work(kube: Kube) -> int:
            view = await buttons.press(kube, Verb(verb), job, version, timeout)
            show(view, [view.message], where.output)
            return 0 if view.done or not timeout else 1

        run(where, work)

    app.command(verb, help=help_, rich_help_panel=ACT)(somewhere(press))


for _verb, _help in VERBS.items():
    _button(_verb, _help)
