"""``fleet docs metrics``: every metric as Markdown, from the contract's table."""

from collections.abc import Iterator

from fleet_contract.metrics import FAMILIES, LABELS, Family, Server
from fleet_contract.queries import QUERIES, Query

INTRODUCTION = """\
<!-- Made by `make generate` from crds/fleet_contract/metrics.py and queries.py; edit those. -->
# Metrics

Operator, learner and clerk answer scrapes at `/metrics` on port 9090, named `metrics` in their
pods. A robot is never scraped, for it may be behind NAT: it tells its figures in its heartbeat, and
the operator serves them. Each family is served by one program, so no sum counts anything twice.

Scrape with `honor_labels: true` (in a PodMonitor, `honorLabels`): `namespace` and `job` are those
of the FleetTrainingJob here, and Prometheus would otherwise rename them.

- A robot's series end when it goes: its RobotActor or its job deleted, or scaled away. While it
  exists but is silent, only `fleet_robot_connected` (0), when it was last seen and whether it is
  suspended remain.
- Counters of robots count since their agent started, those of versions since the operator did. A
  restart sets them back to 0, which `rate` and `increase` know of.
- Latencies that begin on one machine and end on another are as exact as their clocks agree:
  `fleet_policy_latency_seconds` (learner to robot), its stage `announced` (learner to operator),
  and `fleet_experience_latency_seconds` (robot to learner). The other stages are of one clock.
  What clocks would make negative counts as 0.
- The number of series is bounded: labels hold names of objects and tasks that exist, and words of
  this page; a version is a value, never a label.
"""


def render() -> str:
    """The whole page."""
    return "\n".join(
        [
            INTRODUCTION,
            *_table("Served by the operator", Server.OPERATOR),
            *_table("Served by the learner", Server.LEARNER),
            *_table("Served by the clerk, where the store is on s3://", Server.CLERK),
            "## Labels",
            "",
            "| Label | Says |",
            "|---|---|",
            *(f"| `{name}` | {text} |" for name, text in LABELS.items()),
            "",
            "## Queries",
            "",
            *(line for query in QUERIES for line in _query(query)),
        ]
    )


def _table(title: str, server: Server) -> Iterator[str]:
    yield from (
        f"## {title}",
        "",
        "| Metric | Kind | Unit | Labels | Meaning |",
        "|---|---|---|---|---|",
    )
    yield from (_row(family) for family in FAMILIES if family.server is server)
    yield ""


def _row(family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels)
    return f"| `{family.name}` | {family.kind} | {family.unit} | {labels} | {family.help} |"


def _query(query: Query) -> Iterator[str]:
    yield from (f"{query.title}:", "", "```promql", query.promql, "```", "")
