"""What a robot without keys asks for at the object store, and what it is granted."""

from typing import Annotated

from pydantic import Field

from fleet_contract.messages.envelope import Digest, Message

Id = Annotated[str, Field(min_length=1, max_length=64)]


class Ask(Message):
    """Robot → clerk: let me fetch this object, or put these bytes. Who asks, the subject tells."""

    id: Id
    """Comes back with the answer."""
    job_uid: str
    key: str = Field(default="", max_length=512)
    """Of what is to be fetched."""
    digest: Digest | None = None
    """Of what is to be put; where it lies then is not the robot's to say."""
    size: int = Field(default=0, ge=0)


class Grant(Message):
    """Clerk → robot: one request that the store will take, for some minutes.

    Whoever has it can make that request: it stands in no log, and in no stream.
    """

    id: Id
    key: str = ""
    url: str = Field(default="", repr=False)
    headers: dict[str, str] = Field(default={}, repr=False)
    """To be sent with it, as they are: they are part of what was signed."""
    fault: str = ""
    """Why there is none."""
