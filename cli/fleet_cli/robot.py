"""``fleet robot``: on the robot's own machine, whose only ways are those to NATS and store."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fleet_cli.oncall.views import Enrolled

HEAD = {"apiVersion", "kind"}
PROGRAM = "fleet_runtime.robot"
NEEDS = ("fleet_runtime", "numpy", "safetensors", "zstandard")
"""Without the extra `robot` a wheel has the first alone."""
app = typer.Typer(no_args_is_help=True)


@app.callback()
def robot() -> None:
    """Run a robot on this machine."""


@app.command()
def run(
    file: Annotated[
        Path, typer.Argument(help="What `fleet robots enroll … --output json` printed; -: stdin.")
    ],
    directory: Annotated[
        Path | None,
        typer.Option(help="Where keys, credentials and spool lie; below your state folder."),
    ] = None,
) -> None:
    """Run this machine's robot, with what enrolling it printed and nothing else."""
    try:
        view = read(sys.stdin.read() if str(file) == "-" else file.read_text())
        environment = laid_out(view, directory or _home(view.robot))
    except (OSError, ValueError) as fault:
        typer.echo(f"error: {fault}", err=True)
        raise typer.Exit(1) from None
    if any(find_spec(one) is None for one in NEEDS):
        typer.echo("error: the robot's program is not installed here: fleetloop[robot]", err=True)
        raise typer.Exit(1)
    os.execve(  # noqa: S606 - our own program, in our place: signals reach it
        sys.executable, [sys.executable, "-m", PROGRAM], os.environ | environment
    )


def read(text: str) -> Enrolled:
    """Raises ``ValueError``, whose words do not repeat what is secret in it."""
    from pydantic import ValidationError

    from fleet_cli.oncall.views import Enrolled

    try:
        said = json.loads(text)
        return Enrolled.model_validate({key: said[key] for key in said if key not in HEAD})
    except ValidationError as fault:
        wrong = ", ".join(".".join(map(str, one["loc"])) or "all of it" for one in fault.errors())
    except (ValueError, TypeError) as fault:
        wrong = f"it is no JSON object ({type(fault).__name__})"
    raise ValueError(
        f"this is not what `fleet robots enroll NAME --job JOB --output json` prints: {wrong}"
    )


def laid_out(view: Enrolled, folder: Path) -> dict[str, str]:
    """Write keys and credentials into the folder; the variables that name them, and all others.

    A program at work takes newer ones from there as they come.
    """
    from fleet_contract import names
    from fleet_contract.names import Env

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    trust, spool, credentials = folder / "trust", folder / "spool", folder / "user.creds"
    authorities = folder / names.CA
    for below in (trust, spool):
        below.mkdir(exist_ok=True, mode=0o700)
    told = view.environment | {Env.TRUST_DIR.value: str(trust), Env.SPOOL_DIR.value: str(spool)}
    for name, keys in view.trust.items():
        _write(trust / Path(name).name, keys)
    told.pop(Env.NATS_CREDENTIALS.value, None)
    if view.credentials:
        _write(credentials, view.credentials)
        told[Env.NATS_CREDENTIALS.value] = str(credentials)
    told.pop(Env.NATS_CA.value, None)
    if view.authorities:
        _write(authorities, view.authorities)
        told[Env.NATS_CA.value] = str(authorities)
    return told


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and never readable by others, not even for a moment."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


def _home(robot: str) -> Path:
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "fleetloop" / "robots" / Path(robot).name
