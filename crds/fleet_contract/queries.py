"""Questions to the metrics, in PromQL; a test has a real Prometheus answer each of them."""

from typing import NamedTuple

from fleet_contract import metrics as m


class Query(NamedTuple):
    """One question."""

    title: str
    promql: str


JOB = ", ".join(m.JOB)


def _quantile(share: float, family: m.Family, *by: str) -> str:
    kept = ", ".join((*m.JOB, *by, "le"))
    return f"histogram_quantile({share}, sum by ({kept}) (rate({family.name}_bucket[10m])))"


QUERIES = (
    Query(
        "How often the policy succeeds by itself",
        f'sum by ({JOB}, task) (rate({m.ROBOT_JUDGED.name}{{verdict="success"}}[10m]))\n'
        f"  / sum by ({JOB}, task) (rate({m.ROBOT_JUDGED.name}[10m]))",
    ),
    Query(
        "Takeovers that the policy needed, per episode",
        f'sum by ({JOB}, task) (rate({m.ROBOT_INTERVENTIONS.name}{{cause="needed"}}[10m]))\n'
        f"  / sum by ({JOB}, task) (rate({m.ROBOT_EPISODES.name}[10m]))",
    ),
    Query(
        "How long experience takes to be sampleable, in 99 of 100 cases",
        _quantile(0.99, m.EXPERIENCE_LATENCY, "since"),
    ),
    Query(
        "How long a version takes to act on a robot, median",
        _quantile(0.5, m.POLICY_LATENCY),
    ),
    Query("Where that time goes, median", _quantile(0.5, m.POLICY_STAGE, "stage")),
    Query(
        "Robots by the version they run",
        f'count by ({JOB}, version) (count_values without () ("version", {m.ROBOT_POLICY.name}))',
    ),
    Query(
        "Robots that are there, as a share of those that exist",
        f"avg by ({JOB}) ({m.ROBOT_CONNECTED.name})",
    ),
    Query(
        "What the fleet moves over the network, in bytes per second",
        f"sum by ({JOB}, direction, kind) (rate({m.ROBOT_BYTES.name}[5m]))",
    ),
    Query(
        "Share of its time in which the learner waits for data",
        f"rate({m.DATA_WAIT.name}[5m])",
    ),
    Query(
        "What the operator writes to the API server, per second",
        f'sum by (verb, resource) (rate({m.API_REQUESTS.name}{{verb=~"create|apply|delete"}}[5m]))',
    ),
)
