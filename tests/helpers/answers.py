"""docs/dashboards.md: what a real Prometheus answered to each panel of a ring at work.

``FLEET_ANSWERS=docs/dashboards.md .venv/bin/python -m pytest tests/ring/test_seen.py`` writes it.
"""

from collections.abc import Iterator, Mapping

from fleet_contract.dashboards import Dashboard, Panel
from helpers.prometheus import Series

Answers = Mapping[Dashboard, Mapping[Panel, list[Series]]]

INTRODUCTION = """\
<!-- Made by tests/helpers/answers.py, which says how; edit that. -->
# Dashboards

`fleet dashboard JOB` shows one job as a page on this machine, read with your own rights and changed
by nobody: its trial, cohorts with success and interval, versions, robots, latency and bytes. It
needs nothing but this program, asks the cluster once a second at most and says when it is stale.
Everything is reached by keyboard, no meaning hangs on a colour alone. It is tested in a real
Chromium (`make page`), which drew this picture of a made-up fleet:

![The page: rollout, cohorts, learning, latency and bytes, robots](pictures/dashboard.png)

## For Grafana

`manifests/components/monitoring/dashboards` holds four for Grafana, printed from
crds/fleet_contract/dashboards.py by `make generate`. Import them, or let Grafana's sidecar find
them in the ConfigMap that the component makes ([alerts.md](alerts.md)). Above the panels one
chooses data source, namespace and job.

**Grafana itself was not run.** The JSON is built with Grafana's own typed library; each panel's
query was put to a real Prometheus that scraped a ring at work: a job of two simulated robots, some
seconds to minutes old, with `$__rate_interval` as one minute and a scrape each second. Below is
what it answered, the first series of each by name: figures of a test
on a busy machine, no benchmark.
"""


def page(found: Answers) -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(line for board in found for line in _board(board, found))])


def _board(board: Dashboard, found: Answers) -> Iterator[str]:
    yield from (
        f"### {board.title}",
        "",
        "| panel | series | one of them | value |",
        "|---|---|---|---|",
    )
    for panel, series in found[board].items():
        first = min(series, key=lambda one: sorted(one.labels.items()), default=None)
        if first is None:
            yield f"| {panel.title} | 0 | | |"
            continue
        yield f"| {panel.title} | {len(series)} | {_legend(panel, first)} | {first.value:.4g} |"
    yield ""


def _legend(panel: Panel, series: Series) -> str:
    text = panel.legend.replace("{{namespace}}/", "")
    for label, value in series.labels.items():
        text = text.replace("{{" + label + "}}", value)
    return f"`{text}`"
