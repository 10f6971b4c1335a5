"""``fleet keys``: rotate."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from fleet_cli.oncall.options import Where, run, show, somewhere

if TYPE_CHECKING:
    from fleet_cli.kube import Kube
    from fleet_cli.oncall.keys import Begun


class Role(StrEnum):
    """`Signatory`, once more: help must not wait for the contract."""

    LEARNER = "learner"
    OPERATOR = "operator"


app = typer.Typer(no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Keys: rotate."""


@app.command()
@somewhere
def rotate(
    where: Where,
    role: Annotated[Role, typer.Argument(help="Whose key.")],
    overlap: Annotated[
        float,
        typer.Option(
            help="Seconds in which everybody learns of the new key before it signs; longer where "
            "robots outside get theirs by hand.",
            min=0,
        ),
    ] = 150.0,
) -> None:
    """Let a new key follow one: first it is known to all, then it signs."""
    import time

    from fleet_cli.oncall import keys, text
    from fleet_contract.names import Signatory

    async def work(kube: Kube) -> None:
        view = await keys.rotate(kube, Signatory(role), overlap, time.time(), tell)
        show(view, text.rotated(view), where.output)

    async def tell(begun: Begun) -> None:
        for line in text.rotating(begun):
            typer.echo(line, err=True)

    run(where, work)
