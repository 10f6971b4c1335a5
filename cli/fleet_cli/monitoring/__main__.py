"""``python -m fleet_cli.monitoring FOLDER``: everything a monitoring stack wants of us, as files.

``--runbooks URL`` has alerts point to where you publish docs/runbooks.md.
"""

import argparse
from pathlib import Path
from typing import Any

import yaml

from fleet_cli.monitoring import grafana, rules, scraping
from fleet_contract.dashboards import DASHBOARDS

HEAD = "# Made by `make generate` from crds/fleet_contract; edit that.\n"


def files(runbooks: str = rules.RUNBOOKS) -> dict[str, str]:
    """Path below the folder → content."""
    return {
        "alerts.yaml": _yaml(rules.prometheus_rule(runbooks)),
        "monitors.yaml": _yaml(*scraping.monitors()),
        "prometheus/alerts.yaml": _yaml(rules.group(runbooks)),
        "grafana/alerts.yaml": _yaml(rules.grafana(runbooks)),
        **{f"dashboards/{one.name}.json": grafana.text(one) for one in DASHBOARDS},
    }


def _yaml(*documents: dict[str, Any]) -> str:
    return HEAD + yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=100)


class _Dumper(yaml.SafeDumper):
    """Several lines are written as such."""


def _words(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _words)
_Dumper.ignore_aliases = lambda *_: True  # type: ignore[method-assign]


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(prog="python -m fleet_cli.monitoring")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runbooks", default=rules.RUNBOOKS)
    asked = parser.parse_args()
    for path, text in files(asked.runbooks).items():
        target = asked.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        print(target)


if __name__ == "__main__":
    main()
