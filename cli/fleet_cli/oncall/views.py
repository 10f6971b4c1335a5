"""What the commands tell, as ``--output json`` prints it; text is laid out from the same.

A field that is not known is absent. Rates are decimal strings from 0 to 1, ages are seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from fleet_cli.exits import Exit
from fleet_contract.resources.base import Model

if TYPE_CHECKING:
    from fleet_cli import uplink
    from fleet_cli.exits import Fault

API_VERSION = "cli.fleetloop.dev/v1alpha1"


class View(Model):
    """A document of its own: it says its kind."""

    def document(self) -> dict[str, Any]:
        """As it is printed."""
        return {"apiVersion": API_VERSION, "kind": type(self).__name__, **self.dump()}


class Fleet(Model):
    """Robots in numbers."""

    desired: int = Field(description="Robots that are not suspended.")
    connected: int = Field(description="Of these, heard of lately.")
    synced: int = Field(description="Of these, on the version they are assigned.")


class Job(View):
    """One FleetTrainingJob in a line."""

    name: str = Field(description="Its name.")
    namespace: str = Field(description="Its namespace.")
    phase: str = Field(description="One word: Pending, Training, Staged, Paused, Stalled …")
    ready: str = Field(description="True, False or Unknown.")
    reason: str = Field(default="", description="Reason of the condition Ready.")
    message: str = Field(default="", description="Sentence of the condition Ready.")
    stable: int | None = Field(default=None, description="Version the fleet runs.")
    candidate: int | None = Field(default=None, description="Version under trial.")
    stage: str = Field(
        default="", description="Stage of the trial and of how many: 1/2; gate: before it."
    )
    robots: Fleet = Field(description="Its robots in numbers.")
    success_rate: str = Field(default="", description="Mean autonomous success over the tasks.")
    age: float = Field(description="Seconds since it was made.")


class Robot(View):
    """One RobotActor in a line."""

    name: str = Field(description="Its name.")
    job: str = Field(description="The job it works for.")
    mode: str = Field(description="Simulated or External.")
    phase: str = Field(description="One word: Running, Offline, Suspended …")
    connected: bool = Field(description="Whether it was heard of lately.")
    synced: bool = Field(description="Whether it runs what it is assigned.")
    version: int | None = Field(default=None, description="Version it runs.")
    pending: int | None = Field(default=None, description="Version it takes up next.")
    pin: int | None = Field(default=None, description="Version it is pinned to.")
    success_rate: str = Field(default="", description="Of its recent judged episodes.")
    intervention_rate: str = Field(default="", description="Share of episodes with a takeover.")
    spool_depth: int = Field(description="Records that wait on its disk.")
    last_seen: float | None = Field(default=None, description="Seconds since it was heard of.")
    trouble: str = Field(default="", description="What is wrong, in a sentence.")
    site: str = Field(default="", description="Where it stands.")
    groups: list[str] = Field(default=[], description="Its groups.")
    age: float = Field(description="Seconds since it was enrolled.")


class Cohort(Model):
    """Robots of one version, and how they fare."""

    role: str = Field(description="candidate, stable, pinned or other.")
    version: int | None = Field(default=None, description="The version; absent before the first.")
    robots: int = Field(description="Robots that shall run it.")
    on_it: int = Field(description="Of these, those that do.")
    connected: int = Field(description="Of these, heard of lately.")
    episodes: int | None = Field(default=None, description="Judged episodes of the trial.")
    successes: int | None = Field(default=None, description="Autonomous successes among them.")
    interventions: int | None = Field(default=None, description="Episodes with a takeover.")
    guard_trips: int | None = Field(
        default=None, description="Episodes in which the guard tripped."
    )
    success_rate: str = Field(
        default="",
        description="Of the trial's episodes; elsewhere the mean of its robots' recent rates.",
    )


class Stage(Model):
    """One gate or step of the rollout."""

    state: str = Field(description="done, now or ahead.")
    what: str = Field(description="Which gate, or how many robots; until what.")


class Learner(Model):
    """The learner's current run."""

    run: int = Field(description="Its number.")
    stage: str = Field(default="", description="What it does; empty before it was heard of.")
    step: int = Field(description="Updates so far.")
    goal_step: int = Field(default=0, description="Updates of the offline stage; 0 without one.")
    message: str = Field(default="", description="Sentence of the condition LearnerReady.")


class TaskRate(Model):
    """One task over its latest judged episodes."""

    name: str = Field(description="The task.")
    episodes: int = Field(description="Judged episodes.")
    success_rate: str = Field(default="", description="Autonomous success.")


class Step(Model):
    """Something a person may do now."""

    command: str = Field(default="", description="To be pasted; empty where it is no command.")
    what: str = Field(description="What it does.")


class Latency(Model):
    """From the making of a version to its first episode on a robot that ran an older one."""

    count: int = Field(description="How often it was measured since the operator started.")
    median: float | None = Field(
        default=None, description="Seconds within which half of them were; a bucket's bound."
    )
    p95: float | None = Field(default=None, description="The same for 95 of 100.")


class Status(View):
    """One job on one screen."""

    job: Job = Field(description="The job in a line.")
    mode: str = Field(description="Auto, Manual or Pinned.")
    strategy: str = Field(description="Staged or Broadcast.")
    stages: list[Stage] = Field(description="Gates and steps of the trial; empty without one.")
    cohorts: list[Cohort] = Field(description="Robots by the version they run.")
    awaits: str = Field(default="", description="What the rollout waits for, in a sentence.")
    next: list[Step] = Field(description="What to do, or may be done, now.")
    troubled: list[Robot] = Field(description="Robots with something wrong.")
    learner: Learner = Field(description="The learner's current run.")
    tasks: list[TaskRate] = Field(description="How each task fares.")
    latency: Latency | None = Field(default=None, description="Where it is known.")
    took: float | None = Field(
        default=None, description="Seconds the stable version took from its making to promotion."
    )


class Version(View):
    """One PolicyVersion in a line."""

    name: str = Field(description="Name of the PolicyVersion.")
    version: int = Field(description="Its number.")
    phase: str = Field(description="Candidate, Gated, Staged, Promoted, RolledBack, Superseded.")
    stable: bool = Field(description="Whether the fleet runs it.")
    step: int = Field(description="Updates behind it.")
    robots: int = Field(description="Robots of its last stage.")
    episodes: int = Field(description="Judged episodes there.")
    success_rate: str = Field(default="", description="Autonomous success there.")
    message: str = Field(default="", description="Why it stands where it stands.")
    age: float = Field(description="Seconds since it was made a candidate.")


class History(View):
    """The versions of a job, newest first."""

    job: str = Field(description="The job.")
    items: list[Version] = Field(description="Those that are kept.")
    rolled_back: list[int] = Field(description="Taken back for good, also those not kept.")


class Jobs(View):
    """Several jobs."""

    items: list[Job] = Field(description="By name.")


class RobotList(View):
    """Several robots."""

    items: list[Robot] = Field(description="By name.")


class Share(Model):
    """How often it went well, and between what that lies in 95 of 100 cases (Wilson's interval)."""

    version: int | None = Field(default=None, description="The version.")
    name: str = Field(description="Role of the cohort, or phase of the version.")
    robots: int = Field(description="Robots of it.")
    episodes: int = Field(description="Judged episodes.")
    rate: str = Field(default="", description="Autonomous success; empty without episodes.")
    low: str = Field(default="", description="Lower end of the interval.")
    high: str = Field(default="", description="Upper end.")


class Moved(Model):
    """Bytes that robots moved since their agents started."""

    direction: str = Field(description="sent or received.")
    kind: str = Field(description="experience, policy, delta, telemetry or control.")
    total: float = Field(description="Bytes.")


class Overview(View):
    """What the page of ``fleet dashboard`` shows."""

    status: Status = Field(description="The job on one screen.")
    robots: list[Robot] = Field(description="All of them; those in trouble first.")
    cohorts: list[Share] = Field(description="Robots by the version they run.")
    versions: list[Share] = Field(description="Versions that were tried, the oldest first.")
    moved: list[Moved] = Field(description="By direction and kind; empty where it is not known.")
    at: float = Field(description="When it was looked, in Unix seconds.")


class Ancestor(Model):
    """One version on the way back to the first."""

    version: int = Field(description="Its number.")
    kept: bool = Field(description="Whether its PolicyVersion is still there.")
    phase: str = Field(default="", description="Its fate.")
    step: int | None = Field(default=None, description="Updates behind it.")
    episodes: int | None = Field(default=None, description="Online episodes behind it.")


class Lived(Model):
    """One episode that a version was trained on."""

    id: str = Field(description="Its id.")
    robot: str = Field(description="Who lived it.")
    task: str = Field(description="What was tried.")
    outcome: str = Field(description="How it ended.")
    version: int | None = Field(
        default=None, description="The version that acted; absent where none did."
    )
    segment: int = Field(description="The journal segment of its record.")


class EpisodeOrigin(View):
    """Where an episode comes from and what was made of it."""

    id: str = Field(description="Its id.")
    job: str = Field(description="The job.")
    robot: str = Field(description="Who lived it.")
    task: str = Field(description="What was tried.")
    outcome: str = Field(description="How it ended.")
    mode: str = Field(description="live, shadow or eval; live ones train.")
    version: int | None = Field(default=None, description="The version that acted.")
    manifest: str | None = Field(default=None, description="Digest of that version's manifest.")
    assignment_epoch: int = Field(description="The assignment document it acted under.")
    segment: int = Field(description="The journal segment of its record.")
    spool: str = Field(description="The spool of its robot.")
    number: int = Field(description="Its number there.")
    started_at: float = Field(description="Unix seconds by the robot's clock.")
    ended_at: float = Field(description="Unix seconds by the robot's clock.")
    evicted: bool = Field(description="Whether its robot gave its payload up.")
    refused: str = Field(description="Why the learner refused it; empty where it did not.")
    learned: list[int] = Field(description="Versions in the store whose snapshot it is in.")


class Lineage(View):
    """Where a version comes from."""

    name: str = Field(description="Name of the PolicyVersion.")
    version: int = Field(description="Its number.")
    job: str = Field(description="The job.")
    digest: str = Field(description="Digest of its manifest.")
    uri: str = Field(description="Key of its manifest in the job's store.")
    size: int = Field(description="Bytes of the bundle.")
    learner_epoch: int = Field(description="Epoch of the learner that published it.")
    step: int = Field(description="Updates behind it.")
    first_segment: int = Field(description="First journal segment it was trained on.")
    last_segment: int = Field(description="Last one.")
    episodes: int = Field(description="Online episodes in them.")
    fresh_episodes: int | None = Field(
        default=None, description="Of these, not yet behind its parent; absent if that is gone."
    )
    ancestors: list[Ancestor] = Field(description="Parent, its parent and so on.")
    training_metrics: dict[str, float] = Field(description="What the learner measured.")
    trained: list[Lived] | None = Field(
        default=None, description="Its episodes, oldest first; absent without --storage."
    )
    forgotten: int | None = Field(
        default=None, description="Episodes before them, whose records have left the journal."
    )
    unknown: list[str] = Field(description="What the API cannot tell, and who can.")


class Answer(View):
    """What became of a button."""

    job: str = Field(description="The job.")
    request: str = Field(description="The annotation as it was set.")
    done: bool = Field(description="Whether the operator did it.")
    message: str = Field(description="The operator's answer, in a sentence.")


class Edit(View):
    """An edit of a spec, made here or to be made in Git."""

    name: str = Field(description="The object.")
    applied: bool = Field(description="Whether it was made here.")
    managed_by: str = Field(default="", description="Who applies the object from Git; or empty.")
    patch: dict[str, Any] = Field(description="The edit, as a merge patch.")
    message: str = Field(description="What it does and what comes next.")


class Check(Model):
    """One line of the doctor."""

    name: str = Field(description="What was looked at.")
    ok: bool = Field(description="Whether it is well.")
    found: str = Field(description="What was found.")
    remedy: str = Field(default="", description="What to do about it.")

    @classmethod
    def unseen(cls, name: str, fault: Fault) -> Check:
        """Of what could not be looked at; not to be allowed to is no problem of the fleet's."""
        ok = fault.code is not Exit.NOT_DONE
        remedy = "" if ok else "mend that first: what it hides was not checked"
        return cls(name=name, ok=ok, found=f"not looked at: {fault}", remedy=remedy)


class Checkup(View):
    """What the doctor says."""

    ok: bool = Field(description="Whether every check is well.")
    checks: list[Check] = Field(description="In the order in which one depends on the other.")


class Enrolled(View):
    """A robot that was enrolled, and what its program needs."""

    robot: str = Field(description="Its name.")
    job: str = Field(description="The job.")
    environment: dict[str, str] = Field(description="Variables of its program.")
    trust: dict[str, str] = Field(
        description="Files of the folder FLEET_TRUST_DIR: the public keys whose word it takes."
    )
    credentials: str = Field(
        default="",
        description="The file FLEET_NATS_CREDENTIALS: who it is to NATS. Empty: NATS asks nobody. "
        "Keep it secret: whoever has it is this robot.",
    )
    authorities: str = Field(
        default="",
        description="The file FLEET_NATS_CA: who may sign the certificate of NATS. Empty: whom "
        "the robot's machine knows.",
    )
    missing: list[str] = Field(description="Variables that could not be told, and why.")


class Rotation(View):
    """A key that another one follows."""

    role: str = Field(description="learner or operator.")
    key: str = Field(description="Name of the new key.")
    public: str = Field(description="Its public half, a line of the file of this role.")
    old: list[str] = Field(description="Names of the keys that are believed beside it.")
    outside: list[str] = Field(
        description="Robots outside the cluster: whoever owns them adds the line there."
    )
    next: list[str] = Field(description="What happens now, and what is left to people.")


class LintFault(Model):
    """One fault of a file."""

    file: str = Field(description="The file.")
    line: int = Field(description="Its line, from 1.")
    where: str = Field(description="The field.")
    what: str = Field(description="What is wrong, and often what was meant.")
    hint: bool = Field(description="Whether it may be well all the same.")


class Uplink(Model):
    """What each robot of a job will send while it acts, reckoned."""

    file: str = Field(description="The file.")
    job: str = Field(description="The job.")
    mbits_per_second: float | None = Field(description="Of one robot; absent: not known.")
    robots: int | None = Field(description="Robots that the operator makes and that send so much.")
    spool_hours: float | None = Field(description="How long its spool lasts without the learner.")
    assumed: list[str] = Field(description="What the figures assume, or why there are none.")

    @classmethod
    def of(cls, file: str, job: str, found: uplink.Uplink | str) -> Uplink:
        """Of what was reckoned."""
        if isinstance(found, str):
            return cls(
                file=file,
                job=job,
                mbits_per_second=None,
                robots=None,
                spool_hours=None,
                assumed=[found],
            )
        return cls(
            file=file,
            job=job,
            mbits_per_second=round(found.mbits, 6),
            robots=found.robots,
            spool_hours=round(found.hours, 3),
            assumed=list(found.assumed),
        )


class Lint(View):
    """What `fleet lint` found."""

    ok: bool = Field(description="Whether there are hints at most.")
    items: list[LintFault] = Field(description="By file and line.")
    robots: list[Uplink] = Field(description="By job, where there are hints at most.")


class Program(View):
    """This program."""

    version: str = Field(description="Its version.")
    api: str = Field(description="API version of the kinds it speaks.")
