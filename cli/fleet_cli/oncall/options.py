"""Options that every command has, how its answer is printed and how its faults end."""

from __future__ import annotations

import functools
import inspect
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_type_hints

import typer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from fleet_cli.kube import Kube
    from fleet_cli.oncall.views import View


class Format(StrEnum):
    """How an answer is printed."""

    TEXT = "text"
    JSON = "json"


Namespace = Annotated[
    str, typer.Option("--namespace", "-n", help="Empty: the context's.", show_default=False)
]
Context = Annotated[
    str, typer.Option(help="Of the kubeconfig; empty: the current one.", show_default=False)
]
Kubeconfig = Annotated[
    str, typer.Option(help="Empty: KUBECONFIG, or ~/.kube/config.", show_default=False)
]
Output = Annotated[Format, typer.Option("--output", "-o", help="text, or json for programs.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Go on; Ctrl-C ends it.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait for the answer; 0: do not.", min=0)]
Force = Annotated[bool, typer.Option(help="Also where Git owns the object: until its next sync.")]


class Place(NamedTuple):
    """Which cluster, and where in it."""

    namespace: Namespace = ""
    context: Context = ""
    kubeconfig: Kubeconfig = ""


class Where(NamedTuple):
    """The same, and how the answer is printed."""

    namespace: Namespace = ""
    context: Context = ""
    kubeconfig: Kubeconfig = ""
    output: Output = Format.TEXT


def somewhere(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that its first parameter, a `Place` or a `Where`, is made of."""
    hints = get_type_hints(command, include_extras=True)
    first, *own = inspect.signature(command).parameters.values()
    place = hints.pop(first.name)
    options = get_type_hints(place, include_extras=True)

    @functools.wraps(command)
    def told(**given: Any) -> None:
        command(place(**{name: given.pop(name) for name in options}), **given)

    both = [
        *(one.replace(annotation=hints[one.name]) for one in own),
        *(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=place._field_defaults[name],
                annotation=kind,
            )
            for name, kind in options.items()
        ),
    ]
    told.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]
    told.__annotations__ = hints | options
    return told


def known_jobs(context: typer.Context, incomplete: str) -> list[str]:
    """For the shell's completion."""
    return _known("FleetTrainingJob", context, incomplete)


def known_robots(context: typer.Context, incomplete: str) -> list[str]:
    """For the shell's completion."""
    return _known("RobotActor", context, incomplete)


JobName = Annotated[str, typer.Argument(help="The job.", autocompletion=known_jobs)]
RobotName = Annotated[str, typer.Argument(help="The robot.", autocompletion=known_robots)]


def run(where: Place | Where, work: Callable[[Kube], Awaitable[int | None]]) -> None:
    """Do it with a cluster at hand; a fault is a sentence on stderr and an exit code."""
    import asyncio

    from fleet_cli.exits import Exit, Fault
    from fleet_cli.kube import Kube
    from fleet_cli.kubeconfig import Target

    async def entered() -> int | None:
        _end_in_order()
        async with Kube(Target(*where[:3])) as kube:
            return await work(kube)

    try:
        code = asyncio.run(entered())
    except* Fault as group:
        fault = first(group)
        typer.echo(f"error: {fault}", err=True)
        code = fault.code
    except* KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except* asyncio.CancelledError:
        code = Exit.TOLD_TO_END
    if code:
        raise typer.Exit(code)


def _end_in_order() -> None:
    """SIGTERM and a closed terminal end it as Ctrl-C does, and once, however often it is told.

    Else screens keep the cursor hidden, and keys of the kubeconfig stay in files for a moment's
    use. What is ignored on purpose, as below nohup, is let be.
    """
    import asyncio
    import signal
    import threading

    task = asyncio.current_task()
    if task is None or threading.current_thread() is not threading.main_thread():
        return

    def cancel() -> None:
        if not task.cancelling():  # another would break the end off
            task.cancel()

    for sign in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(sign) is signal.SIG_DFL:
            asyncio.get_running_loop().add_signal_handler(sign, cancel)


def first(group: BaseException) -> Any:
    """The first fault of those that came together."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


def show(view: View, lines: Sequence[str], output: Format) -> None:
    """One answer."""
    if output is Format.JSON:
        import json

        typer.echo(json.dumps(view.document(), indent=2, ensure_ascii=False))
    else:
        from fleet_cli.oncall.tables import plain

        for line in lines:
            typer.echo(plain(line))


def _known(kind: str, context: typer.Context, incomplete: str) -> list[str]:
    import asyncio

    async def names() -> list[str]:
        from fleet_cli.kube import Kube
        from fleet_cli.kubeconfig import Target

        given = [context.params.get(one) or "" for one in ("namespace", "context", "kubeconfig")]
        async with asyncio.timeout(3), Kube(Target(*given)) as kube:
            return [one["metadata"]["name"] for one in await kube.list(kind)]

    try:
        return [one for one in asyncio.run(names()) if one.startswith(incomplete)]
    except Exception:  # noqa: BLE001 - a shell that completes has no place for errors
        return []
