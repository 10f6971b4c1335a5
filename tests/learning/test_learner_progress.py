"""What a learner tells of itself each second, in its heartbeat and on its endpoint."""

import time

import numpy as np
import pytest

from fleet_contract import metrics as m
from fleet_contract.names import Traffic
from fleet_runtime.learner.progress import Progress, Reporter
from fleet_runtime.metrics import LearnerMetrics

WHOSE = {"namespace": "lab", "job": "kitchen"}


def test_what_happened_since_the_last_second_is_told_once() -> None:
    metrics, progress = LearnerMetrics("lab", "kitchen"), Progress(loads=1)
    reporter = Reporter(progress, metrics, "uid", lambda: "no room")

    def served(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, WHOSE | labels)

    progress.step, progress.loads = 30, 3
    progress.moved.received[Traffic.EXPERIENCE] += 70
    progress.moved.sent[Traffic.POLICY] += 9
    progress.frames = {("push", "online"): 5, ("push", "offline"): 2}
    progress.latencies.append(0.2)
    progress.ages.append(np.array([3.2, 0.2]))
    started = time.monotonic()
    beat = reporter.beat(started + 1)
    assert beat.fault == "no room"
    assert beat.undemonstrated == []
    assert (beat.frames, beat.bytes_received, beat.bytes_published) == (7, 70, 9)
    assert beat.experience_latency == pytest.approx(0.2)
    for later in (1, 2):
        reporter.beat(started + 1 + later)
        latency = m.EXPERIENCE_LATENCY.name
        assert served(f"{latency}_sum", since="episode") == pytest.approx(0.2)
        assert served(f"{latency}_count", since="step") == 2
        assert served(f"{latency}_sum", since="step") == pytest.approx(3.4)
        assert served(m.REPLAY_LOADS.name) == 2
        assert served(m.REPLAY_FRAMES.name, task="push", side="online") == 5
        assert served(m.LEARNER_BYTES.name, direction="received", kind="experience") == 70
        assert served(m.LEARNER_BYTES.name, direction="sent", kind="policy") == 9
        assert served(m.LEARNER_BYTES.name, direction="sent", kind="experience") == 0


@pytest.mark.parametrize(
    ("shown", "lacking"),
    [({"push": 5, "reach": 0, "door": 0}, ["door", "reach"]), ({"push": 0, "reach": 0}, [])],
    ids=["others have some", "there are no demonstrations at all"],
)
def test_tasks_without_a_demonstration_are_told(shown: dict[str, int], lacking: list[str]) -> None:
    frames = {(task, "offline"): steps for task, steps in shown.items()}
    progress = Progress(frames=frames | {(task, "online"): 9 for task in shown})
    reporter = Reporter(progress, LearnerMetrics("lab", "kitchen"), "uid", str)
    assert reporter.beat(time.monotonic() + 1).undemonstrated == lacking


def test_steps_a_checkpoint_brought_back_are_no_speed() -> None:
    progress = Progress()
    reporter = Reporter(progress, LearnerMetrics("lab", "kitchen"), "uid", str)
    progress.step = 9_000
    assert reporter.beat(time.monotonic() + 1).steps_per_second == 0
    progress.step, progress.updates = 9_030, 30
    assert reporter.beat(time.monotonic() + 2).steps_per_second == pytest.approx(30, rel=0.5)
