"""Every alert, once: what makes it fire, for how long, how bad that is and in which words.

``make generate`` prints them as a PrometheusRule, as rules for a plain Prometheus and for Grafana,
and as docs/alerts.md; docs/runbooks.md says of each what to do. Thresholds are numbers here.
"""

from enum import StrEnum
from typing import NamedTuple

from fleet_contract import metrics as m
from fleet_contract.messages import LearnerStage
from fleet_contract.names import ConditionType
from fleet_contract.resources import PolicyPhase, RolloutPhase

EPISODES = 20
"""Fewer episodes than this tell nothing of a rate."""
SUCCESS_DROP, TAKEOVERS_RISE = 0.2, 0.2
"""Per episode: the last half hour against the three hours before it."""
GUARD_TRIPS = 3
SPOOL_FREE = 0.2
INGEST_SECONDS = 60
STEP_SECONDS = 3600
CERTIFICATE_OLD, CERTIFICATE_OVER = 1 / 4, 1 / 20
"""Of a certificate's life, what is left. Ours are followed at a half, cert-manager's at a third."""
BYTES_BUDGET = 500_000
"""Bytes per second that one robot may send and receive, over an hour."""


class Severity(StrEnum):
    """Who should look, and when."""

    CRITICAL = "critical"
    """Somebody, now."""
    WARNING = "warning"
    """Somebody, today."""
    INFO = "info"
    """Nobody has to; it is good to know."""


class Alert(NamedTuple):
    """One rule."""

    name: str
    severity: Severity
    lasts: str
    """How long the expression must hold before it fires."""
    expr: str
    summary: str
    """A sentence; ``{{ $labels.robot }}`` is filled in by Prometheus and by Grafana."""

    @property
    def anchor(self) -> str:
        """Of its section in docs/runbooks.md."""
        return self.name.lower()


CRITICAL, WARNING, INFO = Severity
JOB = ", ".join(m.JOB)
WHO = "{{ $labels.namespace }}/{{ $labels.job }}"
ROBOT = WHO + ": robot {{ $labels.robot }}"

OVER = f"{ConditionType.SUSPENDED}|{ConditionType.COMPLETE}"
UNLESS_OVER = f'\nunless on ({JOB}) {m.JOB_CONDITION.name}{{condition=~"{OVER}"}}'

# The newest version is always a little ahead of a fleet that follows it: behind is who stays where
# it was.
BEHIND = f"{m.ROBOT_ASSIGNED.name} != {m.ROBOT_POLICY.name}\n"
BEHIND += f"  and changes({m.ROBOT_POLICY.name}[15m]) == 0"

LATELY, BEFORE = "[30m]", "[3h] offset 30m"


def _count(family: m.Family, when: str, which: str = "") -> str:
    return f"sum by ({JOB}, task) (increase({family.name}{which}{when}))"


def _share(part: m.Family, which: str, whole: m.Family, when: str) -> str:
    return f"{_count(part, when, which)}\n    / {_count(whole, when)}"


def _worse(more: str, less: str, by: float, whole: m.Family) -> str:
    """``more`` exceeds ``less`` by that much, both measured well enough."""
    enough = (f"  and {_count(whole, when)} >= {EPISODES}" for when in (LATELY, BEFORE))
    return "\n".join((f"{more}\n  - {less} > {by}", *enough))


def _judged(when: str) -> str:
    return _share(m.ROBOT_JUDGED, '{verdict="success"}', m.ROBOT_JUDGED, when)


def _takeovers(when: str) -> str:
    return _share(m.ROBOT_INTERVENTIONS, '{cause="needed"}', m.ROBOT_EPISODES, when)


def _left(share: float) -> str:
    """Less of a certificate's life than that."""
    begin, end = m.CERTIFICATE_BEGIN.name, m.CERTIFICATE_END.name
    return f"{end} - time()\n  < {share:g} * ({end} - {begin})"


ALERTS = (
    Alert(
        "FleetRobotSilent",
        WARNING,
        "5m",
        f"{m.ROBOT_CONNECTED.name} == 0\nunless {m.ROBOT_SUSPENDED.name} == 1",
        f"{ROBOT} has not been heard of for five minutes.",
    ),
    Alert(
        "FleetSilent",
        CRITICAL,
        "2m",
        f"avg by ({JOB}) ({m.ROBOT_CONNECTED.name} unless {m.ROBOT_SUSPENDED.name} == 1) < 0.5",
        f"{WHO}: more than half of the fleet is not heard of.",
    ),
    Alert(
        "FleetRobotBehind",
        WARNING,
        "15m",
        BEHIND,
        f"{ROBOT} runs another version than it is assigned, and does not move on.",
    ),
    Alert(
        "FleetStale",
        CRITICAL,
        "15m",
        f"count by ({JOB}) ({BEHIND})\n  / count by ({JOB}) ({m.ROBOT_POLICY.name}) >= 0.5",
        f"{WHO}: half of the fleet or more does not run what it is assigned.",
    ),
    Alert(
        "FleetSuccessFalling",
        CRITICAL,
        "5m",
        _worse(_judged(BEFORE), _judged(LATELY), SUCCESS_DROP, m.ROBOT_JUDGED),
        f"{WHO}: {{{{ $labels.task }}}} succeeds by itself far less often than before.",
    ),
    Alert(
        "FleetInterventionsRising",
        WARNING,
        "5m",
        _worse(_takeovers(LATELY), _takeovers(BEFORE), TAKEOVERS_RISE, m.ROBOT_EPISODES),
        f"{WHO}: people take {{{{ $labels.task }}}} over far more often than before.",
    ),
    Alert(
        "FleetGuardTrips",
        WARNING,
        "0m",
        f"increase({m.GUARD_TRIPS.name}[15m]) >= {GUARD_TRIPS}",
        f"{ROBOT}: its guard held actions back again and again.",
    ),
    Alert(
        "FleetRobotFellBack",
        CRITICAL,
        "0m",
        f"increase({m.FALLBACKS.name}[15m]) > 0",
        f"{ROBOT} stopped a version by itself.",
    ),
    Alert(
        "FleetSpoolFilling",
        WARNING,
        "5m",
        f"{m.ROBOT_SPOOL_FREE.name} < {SPOOL_FREE}",
        f"{ROBOT} has little room left for what the learner has not receipted.",
    ),
    Alert(
        "FleetExperienceLost",
        CRITICAL,
        "0m",
        f'increase({m.ROBOT_RECORDS.name}{{state=~"evicted|lost"}}[15m]) > 0',
        f"{ROBOT} gave experience up that nobody has ({{{{ $labels.state }}}}).",
    ),
    Alert(
        "FleetExperienceRejected",
        WARNING,
        "0m",
        f"increase({m.LEARNER_REJECTED.name}[15m]) > 0",
        f"{WHO}: the learner put experience into quarantine ({{{{ $labels.reason }}}}).",
    ),
    Alert(
        "FleetIngestLag",
        WARNING,
        "10m",
        f"(\n  histogram_quantile(0.9, sum by ({JOB}, le) (\n"
        f'    rate({m.EXPERIENCE_LATENCY.name}_bucket{{since="episode"}}[10m])\n'
        f"  )) > {INGEST_SECONDS}\nor\n"
        f"  sum by ({JOB}) ({m.ROBOT_SPOOL.name}) > 0\n"
        f'  and sum by ({JOB}) (rate({m.ROBOT_RECORDS.name}{{state="settled"}}[10m])) == 0\n)'
        f"{UNLESS_OVER}",
        f"{WHO}: experience reaches the learner late or not at all.",
    ),
    Alert(
        "FleetNotLetIn",
        WARNING,
        "10m",
        f'sum by ({JOB}) (rate({m.GRANTS.name}{{result!="{m.Letting.GRANTED}"}}[10m]))\n'
        f"  > sum by ({JOB}) (rate({m.GRANTS.name}[10m])) / 2",
        f"{WHO}: the clerk lets robots into the store less than every other time they ask.",
    ),
    Alert(
        "FleetLearnerSilent",
        CRITICAL,
        "5m",
        f"{m.LEARNER_CONNECTED.name} == 0{UNLESS_OVER}",
        f"{WHO}: the learner has not been heard of for five minutes.",
    ),
    Alert(
        "FleetPublishStalled",
        WARNING,
        "5m",
        f'{m.LEARNER_STAGE.name}{{stage="{LearnerStage.ONLINE}"}} == 1\n'
        f"  and on ({JOB}) rate({m.LEARNER_STEPS.name}[30m]) > 0\n"
        f"  and on ({JOB}) changes({m.LEARNER_PUBLISHED.name}[30m]) == 0",
        f"{WHO}: the learner trains, but has published nothing for half an hour.",
    ),
    Alert(
        "FleetRolloutStuck",
        WARNING,
        "5m",
        f"time() - {m.ROLLOUT_STEP_START.name} > {STEP_SECONDS}\n"
        f"  and on ({JOB}) {m.ROLLOUT_PHASE.name}"
        f'{{phase=~"{RolloutPhase.GATED}|{RolloutPhase.STAGED}"}} == 1\n'
        f'or {m.ROLLOUT_PHASE.name}{{phase="{RolloutPhase.FROZEN}"}} == 1',
        f"{WHO}: a version on trial does not go on.",
    ),
    Alert(
        "FleetRolledBack",
        INFO,
        "0m",
        f'increase({m.ROLLOUTS.name}{{outcome="{PolicyPhase.ROLLED_BACK}"}}[15m]) > 0',
        f"{WHO}: a version was taken back.",
    ),
    Alert(
        "FleetJobStalled",
        CRITICAL,
        "5m",
        f'{m.JOB_CONDITION.name}{{condition="{ConditionType.STALLED}"}} == 1',
        f"{WHO} is Stalled ({{{{ $labels.reason }}}}) and waits for somebody.",
    ),
    Alert(
        "FleetBytesOverBudget",
        WARNING,
        "15m",
        f"sum by ({JOB}, robot) (rate({m.ROBOT_BYTES.name}[1h])) > {BYTES_BUDGET}",
        f"{ROBOT} moves more bytes than its budget.",
    ),
    Alert(
        "FleetOperatorDown",
        CRITICAL,
        "5m",
        f"absent({m.OPERATOR_BUILD.name})",
        "No operator answers scrapes: no other alert of the fleet can fire.",
    ),
    Alert(
        "FleetCertificateOld",
        WARNING,
        "1h",
        _left(CERTIFICATE_OLD),
        "The certificate of NATS ({{ $labels.certificate }}) should have been followed by another.",
    ),
    Alert(
        "FleetCertificateOver",
        CRITICAL,
        "5m",
        _left(CERTIFICATE_OVER),
        "The certificate of NATS ({{ $labels.certificate }}) is over, or soon: then whoever comes "
        "anew is refused.",
    ),
    Alert(
        "FleetOperatorZombie",
        CRITICAL,
        "5m",
        f"{m.DEAD_WATCHES.name} > 0\n"
        f"or sum without (kind, result) (rate({m.RECONCILES.name}[5m])) == 0",
        "The operator answers scrapes, but sees or does nothing.",
    ),
)
