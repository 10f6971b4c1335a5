"""Faults sorted by what the one who meets them must do, not by where they arose."""

from enum import StrEnum


class FleetError(Exception):
    """Base of every fault that crosses a room's border."""


class Retry(FleetError):
    """Unreachable, throttled, full, digest mismatch: keep what you have and send it again."""


class RejectCode(StrEnum):
    """Why an experience record will never be admitted; part of its receipt."""

    MALFORMED = "Malformed"
    TOO_LARGE = "TooLarge"
    NON_FINITE = "NonFinite"
    SHAPE = "Shape"
    UNKNOWN_TASK = "UnknownTask"
    CONFLICT = "Conflict"


class Reject(FleetError):
    """The data itself is bad: receipt it with a code, quarantine it, go on with the next."""

    def __init__(self, code: RejectCode, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Untrusted(FleetError):
    """Signature, key, expiry, rollback, wrong job, denied: keep the current policy."""


class Misconfigured(FleetError):
    """What the job asks for cannot be: exit, and do not come back before its spec changes."""


class Fenced(FleetError):
    """Somebody newer holds our office: stop writing and exit."""
