"""What a stranger says, made small enough to be repeated in a status. Pure.

A count beyond what JSON's readers agree on, or a sentence as long as a book, would have the API
server refuse the whole status, of the robot and of its job: no neighbour's version would move.
"""

from typing import Any, TypeVar

from pydantic import BaseModel

MOST = 2**53
"""Beyond it JSON's whole numbers are no longer exact everywhere."""
WORDS = 1024  # characters of a sentence

M = TypeVar("M", bound=BaseModel)


def bounded(message: M) -> M:
    """Itself, its counts between 0 and ``MOST`` and its texts cut; what maps hold stays."""
    changed = {name: made for name, one in message if (made := _bounded(one)) is not one}
    return message.model_copy(update=changed) if changed else message


def _bounded(value: Any) -> Any:
    if isinstance(value, str) and len(value) > WORDS:
        return f"{value[:WORDS]}…"
    if isinstance(value, int) and not 0 <= value <= MOST:
        return max(0, min(value, MOST))
    return bounded(value) if isinstance(value, BaseModel) else value
