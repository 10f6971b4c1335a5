"""What the dashboards show: rows of panels, each one question in PromQL.

``$namespace`` and ``$job`` are what somebody chose above the panels, ``$__rate_interval`` is what
Grafana makes of the scrape interval.
"""

from typing import NamedTuple

from fleet_contract import metrics as m

JOB = ", ".join(m.JOB)


class Panel(NamedTuple):
    """One picture."""

    title: str
    promql: str
    legend: str = "{{namespace}}/{{job}}"
    unit: str = "short"
    """As Grafana names it."""
    quiet: bool = False
    """Whether a healthy fleet may give no answer."""
    says: str = ""
    """What the title does not."""


class Dashboard(NamedTuple):
    """One screen."""

    name: str
    title: str
    panels: tuple[Panel, ...]


def of(family: m.Family, which: str = "", part: str = "") -> str:
    """The family's series of the jobs chosen."""
    chosen = 'namespace=~"$namespace", job=~"$job"'
    return f"{family.name}{part}{{{chosen}{', ' if which else ''}{which}}}"


def rate(family: m.Family, which: str = "", part: str = "") -> str:
    return f"rate({of(family, which, part)}[$__rate_interval])"


def total(inner: str, *by: str) -> str:
    """Summed over everything but the job and ``by``."""
    return f"sum by ({', '.join((*m.JOB, *by))}) ({inner})"


def quantile(share: float, family: m.Family, *by: str) -> str:
    return f"histogram_quantile({share}, {total(rate(family, part='_bucket'), *by, 'le')})"


WON, NEEDED = 'verdict="success"', 'cause="needed"'
SUCCESS = f"{total(rate(m.ROBOT_JUDGED, WON), 'task')} / {total(rate(m.ROBOT_JUDGED), 'task')}"
TAKEOVERS = total(rate(m.ROBOT_INTERVENTIONS, NEEDED), "task")
TAKEOVERS += f" / {total(rate(m.ROBOT_EPISODES), 'task')}"
BY_TASK, BY_ROBOT = "{{job}} {{task}}", "{{robot}}"

HEALTH = Dashboard(
    "fleet-health",
    "Fleet health",
    (
        Panel(
            "Robots that are there", f"avg by ({JOB}) ({of(m.ROBOT_CONNECTED)})", unit="percentunit"
        ),
        Panel("Robots by what they do", total(of(m.ROBOT_STATE), "state"), "{{state}}"),
        Panel("Success without help", SUCCESS, BY_TASK, "percentunit"),
        Panel("Takeovers that the policy needed, per episode", TAKEOVERS, BY_TASK, "percentunit"),
        Panel(
            "Guard trips per second",
            total(rate(m.GUARD_TRIPS), "robot"),
            BY_ROBOT,
            "cps",
            says="Actions and chunks that the guard held back.",
        ),
        Panel("Versions that robots stopped by themselves", of(m.FALLBACKS), BY_ROBOT),
        Panel(
            "Since a robot was last heard of", f"time() - {of(m.ROBOT_LAST_SEEN)}", BY_ROBOT, "s"
        ),
        Panel("Control rate", of(m.ROBOT_RATE), BY_ROBOT, "hertz"),
        Panel("What is true of the job", of(m.JOB_CONDITION), "{{job}} {{condition}} {{reason}}"),
        Panel("Refusals", of(m.ROBOT_REFUSALS), BY_ROBOT),
    ),
)

LEARNING = Dashboard(
    "learning",
    "Learning",
    (
        Panel("Success without help", SUCCESS, BY_TASK, "percentunit"),
        Panel("Loss by task", of(m.LEARNER_LOSS), "{{job}} {{task}} {{side}}"),
        Panel("Updates per second", of(m.LEARNER_STEP_RATE)),
        Panel("Updates", of(m.LEARNER_STEPS)),
        Panel("What the learner does", of(m.LEARNER_STAGE), "{{job}} {{stage}}"),
        Panel("Time that it waits for data", rate(m.DATA_WAIT), unit="percentunit"),
        Panel("Steps that can be drawn", of(m.REPLAY_FRAMES), "{{task}} {{side}}"),
        Panel(
            "Episodes that became sampleable, per second",
            total(rate(m.LEARNER_EPISODES), "task", "outcome"),
            "{{task}} {{outcome}}",
            "cps",
        ),
        Panel("Learners that are there", of(m.LEARNER_CONNECTED)),
        Panel("Starts of the learner", of(m.LEARNER_EPOCH)),
    ),
)

ROLLOUT = Dashboard(
    "rollout",
    "Rollout",
    (
        Panel("Versions", of(m.POLICY_SEQUENCE), "{{job}} {{role}}"),
        Panel("Where the rollout stands", of(m.ROLLOUT_PHASE), "{{job}} {{phase}}"),
        Panel(
            "Robots by the version they run",
            f'count_values by ({JOB}) ("version", {of(m.ROBOT_POLICY)})',
            "{{job}} version {{version}}",
        ),
        Panel("Robots that try the candidate", of(m.ROLLOUT_ROBOTS)),
        Panel("The candidate's judged episodes", of(m.ROLLOUT_EPISODES), "{{job}} {{verdict}}"),
        Panel("Age of the step", f"time() - {of(m.ROLLOUT_STEP_START)}", unit="s"),
        Panel("Rollouts that ended", of(m.ROLLOUTS), "{{job}} {{outcome}}"),
        Panel("Gates", of(m.GATES), "{{gate}} {{outcome}}"),
        Panel("Until a version acts, median", quantile(0.5, m.POLICY_LATENCY), unit="s"),
        Panel("Until a version acts, 99 of 100", quantile(0.99, m.POLICY_LATENCY), unit="s"),
        Panel(
            "Where that time goes, median", quantile(0.5, m.POLICY_STAGE, "stage"), "{{stage}}", "s"
        ),
        Panel(
            "Robots that do not run what they are assigned",
            f"count by ({JOB}) ({of(m.ROBOT_ASSIGNED)} != {of(m.ROBOT_POLICY)})",
            quiet=True,
        ),
    ),
)

DATA = Dashboard(
    "data-plane",
    "Data plane",
    (
        Panel(
            "What the fleet moves",
            total(rate(m.ROBOT_BYTES), "direction", "kind"),
            "{{direction}} {{kind}}",
            "Bps",
        ),
        Panel(
            "What the learner moves",
            total(rate(m.LEARNER_BYTES), "direction", "kind"),
            "{{direction}} {{kind}}",
            "Bps",
        ),
        Panel(
            "Until experience is sampleable, median",
            quantile(0.5, m.EXPERIENCE_LATENCY, "since"),
            "since {{since}}",
            "s",
        ),
        Panel(
            "Until experience is sampleable, 99 of 100",
            quantile(0.99, m.EXPERIENCE_LATENCY, "since"),
            "since {{since}}",
            "s",
        ),
        Panel("Records on robots' disks", of(m.ROBOT_SPOOL), BY_ROBOT),
        Panel("Room in the spool", of(m.ROBOT_SPOOL_FREE), BY_ROBOT, "percentunit"),
        Panel(
            "What becomes of records, per second",
            total(rate(m.ROBOT_RECORDS), "state"),
            "{{state}}",
        ),
        Panel("Records in quarantine", of(m.LEARNER_REJECTED), "{{reason}}"),
        Panel(
            "Requests to the store that robots asked for, per second",
            total(rate(m.GRANTS), "verb", "result"),
            "{{verb}} {{result}}",
            "cps",
            quiet=True,
            says="On s3:// only; elsewhere robots hold keys.",
        ),
        Panel("Journal that a restart would read", of(m.JOURNAL_SEGMENTS)),
        Panel("Objects removed", of(m.COLLECTED), "{{kind}}"),
        Panel(
            "What the operator writes, per second",
            f"sum by (verb, resource) (rate({m.API_REQUESTS.name}"
            '{verb=~"create|apply|delete"}[$__rate_interval]))',
            "{{verb}} {{resource}}",
            "cps",
        ),
        Panel(
            "How long the operator looks at an object, 99 of 100",
            f"histogram_quantile(0.99, sum by (kind, le) (rate({m.RECONCILE_SECONDS.name}_bucket"
            "[$__rate_interval])))",
            "{{kind}}",
            "s",
            quiet=True,  # no number of a kind that was not looked at meanwhile
        ),
        Panel("What waits for the operator", m.QUEUE_DEPTH.name, "operator"),
        Panel("Watches that are dead", m.DEAD_WATCHES.name, "operator"),
    ),
)

DASHBOARDS = (HEALTH, LEARNING, ROLLOUT, DATA)


def asked(promql: str, within: str, namespace: str = ".+", job: str = ".+") -> str:
    """The question as a Prometheus takes it."""
    filled = promql.replace("$__rate_interval", within)
    return filled.replace("$namespace", namespace).replace("$job", job)
