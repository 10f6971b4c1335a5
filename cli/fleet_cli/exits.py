"""How a command ends: its exit codes, and the fault that carries one."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes; scripts may rely on them."""

    DONE = 0
    NOT_DONE = 1
    USAGE = 2
    NOT_FOUND = 3
    NO_ACCESS = 4
    NO_ANSWER = 5
    INTERRUPTED = 130
    TOLD_TO_END = 143


MEANS = {
    Exit.DONE: "it was done, or all is well",
    Exit.NOT_DONE: "it was refused or not done, a check found a problem, or something went wrong",
    Exit.USAGE: "the command line is wrong",
    Exit.NOT_FOUND: "there is no such object",
    Exit.NO_ACCESS: "the API server cannot be reached, or does not let you",
    Exit.NO_ANSWER: "nobody answered before `--timeout`; the request stands",
    Exit.INTERRUPTED: "Ctrl-C",
    Exit.TOLD_TO_END: "SIGTERM, or the terminal was closed",
}


class Fault(RuntimeError):
    """What went wrong and what to do about it, in a sentence."""

    def __init__(self, message: str, code: Exit = Exit.NOT_DONE) -> None:
        super().__init__(message)
        self.code = code
