"""What the run of a gate tells: how far it is, and at its end what it found."""

from pydantic import Field

from fleet_contract.messages.envelope import Digest, Message


class GateReport(Message):
    """One run of the simulation gate, so far or as a whole.

    The whole is what its process leaves behind as its last words, in the status of its pod: there
    nobody else can write, and only that counts. What it tells on the way, over core NATS, is for
    people.
    """

    job_uid: str
    run: int
    digest: Digest
    """Of the manifest of the version that was run."""
    seed: int
    """Episode i of each task began from the start that seed + i draws."""
    episodes: int = Field(ge=1)
    """Asked for, of each task."""
    done: int = Field(default=0, ge=0)
    """Episodes that have ended, of all tasks together."""
    successes: dict[str, int] = {}
    """By task, of those that have ended."""
    fault: str = ""
    """Why the version cannot be run at all; empty where it can."""
    waits: str = ""
    """What keeps the run from going on for now."""

    @property
    def complete(self) -> bool:
        """Every episode has ended."""
        return self.done == self.episodes * len(self.successes) > 0
