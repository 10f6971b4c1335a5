"""The dashboards as Grafana's JSON; the one room for grafana_foundation_sdk.

Grafana reads the JSON, so only who changes a dashboard needs the library.
"""

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh

from fleet_contract import metrics as m
from fleet_contract.dashboards import Dashboard, Panel

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH, HEIGHT = 12, 8  # of 24 columns
"""Two panels beside each other."""


def text(of: Dashboard) -> str:
    """A dashboard's file."""
    return str(JSONEncoder(sort_keys=True, indent=2).encode(_dashboard(of).build())) + "\n"


def _dashboard(of: Dashboard) -> dashboard.Dashboard:
    made = (
        dashboard.Dashboard(of.title)
        .uid(f"fleetloop-{of.name}")
        .tags(["fleetloop"])
        .readonly()
        .refresh("30s")
        .time("now-3h", "now")
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
        .with_variable(_chosen("namespace", m.ROBOT_CONNECTED.name))
        .with_variable(_chosen("job", f'{m.ROBOT_CONNECTED.name}{{namespace=~"$namespace"}}'))
    )
    for number, panel in enumerate(of.panels, 1):
        made = made.with_panel(_panel(number, panel))
    return made


def _chosen(label: str, series: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(label)
        .datasource(SOURCE)
        .query(f"label_values({series}, {label})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".+")
    )


def _panel(number: int, panel: Panel) -> timeseries.Panel:
    legend = (
        common.VizLegendOptions()
        .show_legend(show_legend=True)
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.BOTTOM)
        .calcs(["lastNotNull"])
    )
    query = prometheus.Dataquery().expr(panel.promql).legend_format(panel.legend).ref_id("A")
    made = (
        timeseries.Panel()
        .id(number)
        .title(panel.title)
        .unit(panel.unit)
        .datasource(SOURCE)
        .span(WIDTH)
        .height(HEIGHT)
        .min(0)
        .legend(legend)
        .with_target(query.range())
    )
    return made.description(panel.says) if panel.says else made
