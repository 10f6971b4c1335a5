"""What travels between learner, robots and operator: signed documents, plain messages, batches.

Documents (manifest, assignment, receipt) are canonical JSON in an envelope that has room for an
Ed25519 signature; their bodies hold no floats, so two programs always sign the same bytes. Plain
messages (heartbeats, events, announcements) are JSON. Unknown fields are ignored, an unknown
version is refused, and every digest reads ``sha256:<hex>``.
"""

from fleet_contract.messages.envelope import (
    Digest,
    Document,
    Message,
    Signer,
    Verifier,
    Wire,
    canonical,
    digest_of,
)
from fleet_contract.messages.experience import (
    INLINE_MAX,
    Batch,
    EpisodeMode,
    Outcome,
    Receipt,
    Record,
    RejectedRecord,
    Spoiled,
    decode_batch,
    encode_batch,
    read_batch,
)
from fleet_contract.messages.gate import GateReport
from fleet_contract.messages.policy import (
    Announcement,
    Assignment,
    AssignmentRole,
    AssignmentState,
    Delta,
    FileRef,
    Interface,
    Lineage,
    Manifest,
    PolicyRef,
    Rule,
    TensorRef,
)
from fleet_contract.messages.telemetry import (
    Event,
    EventKind,
    Heartbeat,
    LearnerHeartbeat,
    LearnerStage,
    RobotState,
    TaskTally,
    TaskTraining,
    Uptake,
)

__all__ = [
    "INLINE_MAX",
    "Announcement",
    "Assignment",
    "AssignmentRole",
    "AssignmentState",
    "Batch",
    "Delta",
    "Digest",
    "Document",
    "EpisodeMode",
    "Event",
    "EventKind",
    "FileRef",
    "GateReport",
    "Heartbeat",
    "Interface",
    "LearnerHeartbeat",
    "LearnerStage",
    "Lineage",
    "Manifest",
    "Message",
    "Outcome",
    "PolicyRef",
    "Receipt",
    "Record",
    "RejectedRecord",
    "RobotState",
    "Rule",
    "Signer",
    "Spoiled",
    "TaskTally",
    "TaskTraining",
    "TensorRef",
    "Uptake",
    "Verifier",
    "Wire",
    "canonical",
    "decode_batch",
    "digest_of",
    "encode_batch",
    "read_batch",
]
