"""One of everything that travels, with every field set, and the bytes it must always become.

``python tests/contract/examples.py`` writes ``golden/`` anew: do it only with a new version of the
message, or when the change is one that programs of the day before can read.
"""

import hashlib
from pathlib import Path

from fleet_contract import messages as m
from fleet_contract.agents import GateConfig, LearnerConfig, RobotConfig
from fleet_contract.errors import RejectCode, Untrusted
from fleet_contract.resources import Task
from fleet_contract.resources.simulation import SimulatedWorld

GOLDEN = Path(__file__).parent / "golden"


def digest(word: str) -> str:
    return m.digest_of(word.encode())


def sign(data: bytes) -> tuple[str, str]:
    """Stands for a key pair: whoever holds the bytes can compute it, and no test minds."""
    return "test-key", hashlib.sha256(b"secret" + data).hexdigest()


def verify(key_id: str, data: bytes, signature: str) -> None:
    if (key_id, signature) != sign(data):
        raise Untrusted(f"signature of {key_id!r} does not fit")


POLICY = m.PolicyRef(
    sequence=7, digest=digest("manifest-7"), uri="jobs/job-uid/versions/000000000007.json"
)
PARENT = m.PolicyRef(
    sequence=6, digest=digest("manifest-6"), uri="jobs/job-uid/versions/000000000006.json"
)
LINEAGE = m.Lineage(first=1, through=12, episodes=340)
FILE = m.FileRef(name="model.safetensors", digest=digest("weights"), size=1_048_576)

DOCUMENTS: dict[str, m.Document] = {
    "manifest": m.Manifest(
        job_uid="job-uid",
        learner_epoch=2,
        sequence=7,
        parent=PARENT.digest,
        step=2_175,
        interface=m.Interface(
            observation=39, action=2, low=("-1.0", "-0.5"), high=("1.0", "0.5"), control_hz="20"
        ),
        architecture="flow",
        tasks=("push", "reach"),
        files=(FILE,),
        tensors=(
            m.TensorRef(name="trunk.0.weight", dtype="F32", shape=(256, 39), digest=digest("t0")),
        ),
        deltas=(m.Delta(base=PARENT, encoding="ulp-zstd-1", files=(FILE,)),),
        lineage=LINEAGE,
        created_at_ms=1_795_000_000_123,
    ),
    "assignment": m.Assignment(
        job_uid="job-uid",
        term=3,
        generation=1,
        epoch=42,
        issued_at_ms=1_795_000_001_000,
        expires_at_ms=1_795_000_601_000,
        state=m.AssignmentState.ACTIVE,
        rules=(
            m.Rule(robots=("arm-1", "arm-2"), manifest=POLICY),
            m.Rule(robots=("arm-3",), manifest=POLICY, role=m.AssignmentRole.SHADOW),
        ),
        default=PARENT,
        fallback=PARENT,
        denied=(digest("manifest-5"),),
    ),
    "kept": m.Kept(
        job_uid="job-uid", before=12, versions=(3, 7, 12), specs=('{"job":"job","sequence":7}',)
    ),
    "receipt": m.Receipt(
        robot_uid="robot-uid",
        job_uid="job-uid",
        spool_id="spool-1",
        learner_epoch=2,
        through=128,
        extras=(130, 131),
        rejects=(
            m.RejectedRecord(n=127, code=RejectCode.NON_FINITE, message="action[3] is infinite"),
        ),
        stream_position=4_711,
    ),
}

MESSAGES: dict[str, m.Message] = {
    "announcement": m.Announcement(
        job_uid="job-uid",
        learner_epoch=2,
        policy=POLICY,
        parent=6,
        step=2_175,
        size=1_049_000,
        delta_size=31_000,
        metrics={"loss": 0.125, "success": 0.75},
        lineage=LINEAGE,
        published_at=1_795_000_000.5,
        key_id="0123456789abcdef",
        sig="ab" * 64,
    ),
    "event": m.Event(
        kind=m.EventKind.OUTCOME,
        robot="arm-1",
        robot_uid="robot-uid",
        job_uid="job-uid",
        episode_id="episode-9",
        policy=POLICY,
        assignment_epoch=42,
        role=m.AssignmentRole.LIVE,
        task="push",
        outcome=m.Outcome.SUCCESS,
        judged=True,
        human_frames=3,
        frames=120,
        duration=6.0,
        latency=0.04,
        detail="first try",
        shadow=None,
        at=1_795_000_010.25,
    ),
    "gate_report": m.GateReport(
        job_uid="job-uid",
        run=3,
        digest=POLICY.digest,
        seed=2**31,
        episodes=20,
        done=31,
        successes={"push": 9, "reach": 15},
        fault="its actions are not finite",
        waits="the store does not answer",
    ),
    "shadow_event": m.Event(
        kind=m.EventKind.SHADOW,
        robot="arm-3",
        robot_uid="robot-uid",
        job_uid="job-uid",
        episode_id="episode-12",
        policy=POLICY,
        assignment_epoch=42,
        role=m.AssignmentRole.SHADOW,
        task="push",
        outcome=m.Outcome.SUCCESS,
        judged=True,
        human_frames=8,
        frames=120,
        duration=6.0,
        latency=0.06,
        detail="an action 0.25 out of bounds",
        shadow=m.Shadowed(
            acted=PARENT,
            chunks=13,
            skipped=2,
            disagreement=0.125,
            most=0.5,
            trips={m.Trip.BOUNDS: 1},
            human_frames=2,
            human_disagreement=0.25,
        ),
        at=1_795_000_010.5,
    ),
    "ask": m.Ask(
        id="5f2e",
        job_uid="job-uid",
        key="jobs/job-uid/versions/000000000007.json",
        digest=digest("payload"),
        size=7,
    ),
    "grant": m.Grant(
        id="5f2e",
        key="jobs/job-uid/versions/000000000007.json",
        url="https://store/fleet/jobs/job-uid/versions/000000000007.json?X-Amz-Signature=00",
        headers={"If-None-Match": "*"},
        fault="refused",
    ),
    "heartbeat": m.Heartbeat(
        robot="arm-1",
        robot_uid="robot-uid",
        job_uid="job-uid",
        state=m.RobotState.RUNNING,
        task="push",
        active=PARENT,
        pending=POLICY,
        assignment_epoch=42,
        episodes=50,
        successes=30,
        interventions=10,
        spool_depth=2,
        spool_free=0.75,
        unreceipted=1,
        bytes_sent=5_000_000,
        bytes_received=2_000_000,
        policy_latency=3.5,
        control_hz=19.75,
        tasks={
            "push": m.TaskTally(
                outcomes={"success": 30, "timeout": 20},
                successes=25,
                failures=15,
                scheduled=7,
                needed=3,
                policy_steps=5_000,
                human_steps=1_000,
            )
        },
        guard_trips=4,
        refusals=1,
        records={"stored": 50, "settled": 48},
        sent={"experience": 5_000_000, "telemetry": 20_000},
        received={"policy": 2_000_000, "control": 9_000},
        uptake=m.Uptake(sequence=6, fetch=0.25, wait=3.0, total=3.5),
        spool_fault="no room left on the disk",
        policy_fault="version 8 is not there yet",
        document_fault="it carries no signature of the operator",
        good=PARENT,
        probation=True,
        fallback=m.Fallback(policy=POLICY, why="taken back by the guard"),
        fallbacks=1,
        at=1_795_000_011.0,
    ),
    "learner_heartbeat": m.LearnerHeartbeat(
        job_uid="job-uid",
        epoch=2,
        stage=m.LearnerStage.ONLINE,
        step=2_175,
        goal_step=2_000,
        steps_per_second=31.5,
        data_wait=0.25,
        episodes=340,
        frames=40_800,
        rejected=1,
        published=7,
        journal_position=12,
        bytes_received=90_000_000,
        bytes_published=7_000_000,
        experience_latency=1.5,
        tasks={
            "push": m.TaskTraining(
                loss_online=0.5, loss_offline=0.25, online_weight=0.625, episodes=170
            )
        },
        undemonstrated=["reach"],
        fault="create jobs/x: no room left",
        at=1_795_000_012.0,
    ),
}

INLINE = b"\x00an episode\xff"
BATCH: list[tuple[m.Record, bytes]] = [
    (
        m.Record(
            robot="arm-1",
            robot_uid="robot-uid",
            job_uid="job-uid",
            spool_id="spool-1",
            n=129,
            episode_id="episode-9",
            segment=1,
            last=False,
            manifest=POLICY.digest,
            sequence=7,
            assignment_epoch=42,
            mode=m.EpisodeMode.LIVE,
            task="push",
            outcome=m.Outcome.SUCCESS,
            digest=m.digest_of(INLINE),
            size=len(INLINE),
            started_at=1_795_000_004.0,
            ended_at=1_795_000_010.0,
        ),
        INLINE,
    ),
    (
        m.Record(
            robot="arm-1",
            robot_uid="robot-uid",
            job_uid="job-uid",
            spool_id="spool-1",
            n=130,
            episode_id="episode-10",
            task="reach",
            digest=digest("large"),
            size=9_000_000,
            uri="jobs/job-uid/payload/sha256-large",
            started_at=1_795_000_011.0,
            ended_at=1_795_000_020.0,
        ),
        b"",
    ),
    (
        m.Record(
            robot="arm-1",
            robot_uid="robot-uid",
            job_uid="job-uid",
            spool_id="spool-1",
            n=131,
            episode_id="episode-11",
            task="reach",
            evicted=True,
            digest=digest("gone"),
            size=500,
            started_at=1_795_000_021.0,
            ended_at=1_795_000_030.0,
        ),
        b"",
    ),
]

CONFIGS = {
    "robot_config": RobotConfig(tasks=[Task(name="push")], seed=3),
    "gate_config": GateConfig(
        run=3,
        policy=POLICY,
        tasks=[Task(name="push")],
        world=SimulatedWorld(name="metaworld", parameters={"horizon": 100}),
        episodes=20,
    ),
    "learner_config": LearnerConfig(tasks=[Task(name="push", weight=2.0)], batch_size=64),
}


def golden() -> dict[str, bytes]:
    """File name → content."""
    return {
        **{f"{name}.json": body.seal(sign) for name, body in DOCUMENTS.items()},
        **{f"{name}.json": message.encode() for name, message in MESSAGES.items()},
        **{
            f"{name}.json": config.model_dump_json(by_alias=True).encode()
            for name, config in CONFIGS.items()
        },
        "batch.bin": m.encode_batch(BATCH),
    }


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for file, content in golden().items():
        (GOLDEN / file).write_bytes(content)
