"""How long a version takes from its making to a robot's hands, stage by stage."""

import time

from fleet_contract.messages import Assignment
from fleet_operator import metrics
from fleet_operator.feed import Heard
from fleet_operator.subscription import Subscription


class Stages:
    """Fills the histograms of policy latency; what was not lived through is not measured."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def announced(self, known: Subscription, now: float) -> None:
        """One heard as it was made; what a stream kept for us says nothing of the way here."""
        if (found := known.feed.announcement) is not None:
            known.announced_at = (found.policy.sequence, now)
            self._observe(known, "announced", time.time() - found.published_at)

    def assigned(self, known: Subscription, document: Assignment, now: float) -> None:
        """The version announced last, when it is assigned for the first time."""
        if known.announced_at is None:
            return
        refs = [document.default, *(rule.manifest for rule in document.rules)]
        sequence, at = known.announced_at
        if any(ref is not None and ref.sequence == sequence for ref in refs):
            known.announced_at = None
            self._observe(known, "assigned", now - at)

    def taken_up(self, known: Subscription, robot: str, before: Heard | None) -> None:
        """Once for each version a robot took up while we listened."""
        heard, enrolled = known.feed.heard.get(robot), known.robots.get(robot)
        if heard is None or before is None or enrolled is None:
            return
        uptake = heard.beat.uptake
        if uptake is None or uptake == before.beat.uptake or heard.beat.robot_uid != enrolled.uid:
            return
        self._observe(known, "fetched", uptake.fetch)
        self._observe(known, "applied", uptake.wait)
        metrics.POLICY_LATENCY.labels(self._namespace, known.job).observe(max(0.0, uptake.total))

    def _observe(self, known: Subscription, stage: str, seconds: float) -> None:
        labels = (self._namespace, known.job, stage)
        metrics.POLICY_STAGE.labels(*labels).observe(max(0.0, seconds))  # clocks differ
