"""``fleet crds``: the CustomResourceDefinitions as YAML, on the screen or as checked-in files."""

from pathlib import Path
from typing import Any

import yaml

from fleet_contract.names import PLURALS, Kind
from fleet_contract.schema import crd

HEADER = "# Made by `make generate` from crds/fleet_contract/resources; edit those.\n"


class _Plain(yaml.SafeDumper):
    """Writes a repeated part again instead of pointing back at it, as people would."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is yaml's
        return True


def render(document: dict[str, Any]) -> str:
    """One document as YAML with sorted keys, so that a diff shows what changed and no more."""
    return yaml.dump(document, Dumper=_Plain, sort_keys=True, width=100, allow_unicode=True)


def files() -> dict[str, str]:
    """File name → content of every file in ``crds/``."""
    return {f"{PLURALS[kind]}.yaml": HEADER + render(crd(kind)) for kind in Kind}


def write(folder: Path) -> list[Path]:
    """Write the files, and remove the YAML of a kind that is no more."""
    folder.mkdir(parents=True, exist_ok=True)
    made = files()
    for stale in folder.glob("*.yaml"):
        if stale.name not in made and stale.read_text().startswith(HEADER):
            stale.unlink()
    for name, text in made.items():
        (folder / name).write_text(text)
    return [folder / name for name in made]
