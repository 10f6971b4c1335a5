"""How every program logs: lines for people, or JSON for machines; and never a secret.

``FLEET_LOG_FORMAT=json`` makes each record one line of JSON: time, level, logger, message, program,
release, and as far as they are known namespace, job, robot and version (the number of the policy
that acts, or was published last). ``FLEET_LOG_LEVEL`` is one of logging's, ``INFO`` unless set.
"""

import contextlib
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from importlib.metadata import version as installed
from types import MappingProxyType, TracebackType

from fleet_contract.names import Env

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
HIDDEN = "***"
LEAST_SECRET = 8
"""Characters; what is shorter would hide half of what is said."""

_process: dict[str, object] = {}
_task: ContextVar[Mapping[str, object]] = ContextVar("logs", default=MappingProxyType({}))

_SHAPES = re.compile(
    r"(?<=://)[^\s/@]+(?=@)"  # user and password, or a token, in a URL
    r"|\bS[ACNOUX][A-Z2-7]{56}\b"  # a seed of NATS
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]+"  # a JSON web token
    r"|(?<=X-Amz-Signature=)[0-9a-f]+"  # by which whoever reads it could do the same
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----",
    re.DOTALL,
)
_NAMES = re.compile("SECRET|TOKEN|PASSWORD|PASSWD|PRIVATE", re.IGNORECASE)


def begin(program: str, **whose: object) -> None:
    """Log from now on, as the environment says; ``whose`` is as in ``bind``."""
    _process.clear()
    bind(program=program, release=installed("fleetloop"), **whose)
    kind = os.environ.get(Env.LOG_FORMAT, "text")
    handler = logging.StreamHandler(sys.stderr)
    secrets = _secrets(os.environ)
    handler.setFormatter(Lines(secrets) if kind == "json" else Text(secrets))
    logging.basicConfig(level=os.environ.get(Env.LOG_LEVEL, "INFO").upper(), handlers=[handler])
    sys.excepthook = _last
    threading.excepthook = lambda end: _last(end.exc_type, end.exc_value, end.exc_traceback)
    if kind == "json":
        logging.captureWarnings(capture=True)


def bind(**whose: object) -> None:
    """What every record of this process says from now on; None or empty: no longer."""
    _process.update(whose)


@contextlib.contextmanager
def about(**whose: object) -> Iterator[None]:
    """What the records of this task, and of those it starts, say meanwhile."""
    token = _task.set({**_task.get(), **whose})
    try:
        yield
    finally:
        _task.reset(token)


def _secrets(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Values that no line may hold. Our own variables name secrets, and hold none."""
    return tuple(
        value
        for name, value in environment.items()
        if _NAMES.search(name) and not name.startswith("FLEET_") and len(value) >= LEAST_SECRET
    )


class Text(logging.Formatter):
    """Lines for people."""

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        super().__init__(TEXT)
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return self.hide(super().format(record))

    def hide(self, text: str) -> str:
        """The text without secrets."""
        for one in self._secrets:
            text = text.replace(one, HIDDEN)
        return _SHAPES.sub(HIDDEN, text)


class Lines(Text):
    """JSON, a record a line."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.hide(record.getMessage()),
        }
        whose = {**_process, **_task.get()}
        said |= {name: value for name, value in whose.items() if value not in {None, ""}}
        if record.exc_info:
            said["error"] = self.hide(self.formatException(record.exc_info))
        return json.dumps(said, ensure_ascii=False, default=str)


def _last(
    kind: type[BaseException], fault: BaseException | None, trace: TracebackType | None
) -> None:
    """A fault that ends the program or a thread is a record, too."""
    if not issubclass(kind, KeyboardInterrupt | SystemExit):
        shown = (kind, fault or kind(), trace)
        logging.getLogger(__name__).critical("ended by a fault", exc_info=shown)
