"""Buttons: the annotation ``fleetloop.dev/request: <verb>@<sequence>#<nonce>``."""

import re
from enum import StrEnum
from typing import NamedTuple

from fleet_contract import names

FORM = f"write {names.Label.REQUEST}: promote@<sequence>#<nonce>, or abort@<sequence>#<nonce>"
_REQUEST = re.compile(r"(promote|abort)@([0-9]{1,12})#(.{1,64})", re.ASCII)


class Verb(StrEnum):
    """What a person may ask of a rollout."""

    PROMOTE = "promote"
    """Take the next step forward now: into the next stage, or to everyone after the last."""
    ABORT = "abort"
    """Take the version back, for good."""


class Request(NamedTuple):
    """One press of a button; the nonce makes a second press a new one."""

    verb: Verb
    sequence: int
    nonce: str


def parse(text: str) -> Request | None:
    """None where the text is no request."""
    match = _REQUEST.fullmatch(text)
    return Request(Verb(match[1]), int(match[2]), match[3]) if match else None
