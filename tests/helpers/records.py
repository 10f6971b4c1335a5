"""Records with payloads, for tests that do not care what is in them."""

from fleet_contract.messages import Record, digest_of


def draft(payload: bytes, episode: str = "e", *, job_uid: str = "uid-1") -> Record:
    """A record as the robot loop hands it to its spool."""
    return Record(
        robot="r0",
        robot_uid="robot-uid",
        job_uid=job_uid,
        spool_id="",
        n=1,
        episode_id=episode,
        task="push",
        digest=digest_of(payload),
        size=len(payload),
        started_at=0.0,
        ended_at=1.0,
    )
