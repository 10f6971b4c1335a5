"""What `fleet dataset` runs: import, export and inspect, each with its answer as a line of JSON."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet_contract.errors import FleetError
from fleet_runtime.datasets import folder as ours
from fleet_runtime.datasets.features import Defaults
from fleet_runtime.datasets.inspection import Inspection
from fleet_runtime.datasets.items import Faulty, open_folder
from fleet_runtime.datasets.reading import EXTRA, dataset
from fleet_runtime.experience.images import QUALITY
from fleet_runtime.experience.types import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet_runtime.artifacts import Store


def url_of(place: str) -> str:
    """A folder of this machine or an fsspec URL, as the latter."""
    return place if "://" in place else f"file://{Path(place).expanduser().resolve()}"


def inspect(chosen: argparse.Namespace) -> dict[str, Any]:
    """Tell what is in it."""
    return Inspection(dataset(url_of(chosen.source))).report()


def import_(chosen: argparse.Namespace) -> dict[str, Any]:
    """LeRobot → ours. Nothing stays of a dataset that cannot be imported whole."""
    tasks = dict(pair.split("=", 1) for pair in chosen.task)
    defaults = Defaults(chosen.outcome, chosen.by, tasks, chosen.drop_images)
    source = dataset(url_of(chosen.source), defaults)
    if source.kind == ours.KIND:
        raise Faulty(f"{source.url} is a folder of {ours.SUFFIX} files already; copy it")
    with _fresh(chosen.target) as (store, folder, written):
        episodes = (item.load() for item in source.items)
        quality = None if chosen.lossless else QUALITY
        count = ours.write(store, folder, episodes, written, quality)
    return {"episodes": count, "ignored": list(source.ignored)}


def export(chosen: argparse.Namespace) -> dict[str, Any]:
    """Ours → LeRobot. Nothing stays of a dataset that cannot be exported whole."""
    from fleet_runtime.datasets.export import Exporter

    source = dataset(url_of(chosen.source))
    if source.kind != ours.KIND:
        raise Faulty(f"{source.url} is a LeRobotDataset already; copy it")
    with _fresh(chosen.target) as (store, folder, written):
        exporter = Exporter(store, folder, chosen.fps, chosen.robot_type, written)
        info = exporter.write(source.items)
    return {"episodes": info["total_episodes"], "frames": info["total_frames"], "fps": info["fps"]}


@contextlib.contextmanager
def _fresh(place: str) -> Iterator[tuple[Store, str, list[str]]]:
    """A folder with nothing in it, and again nothing when what fills it fails."""
    store, folder = open_folder(url_of(place))
    if found := store.list(folder):
        raise Faulty(f"{store.url}/{found[0]} is there already: name a folder that is empty")
    written: list[str] = []
    try:
        yield store, folder, written
    except BaseException:
        for key in written:
            store.delete(key)
        raise


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="fleet_runtime.datasets", description=__doc__)
    commands = made.add_subparsers(required=True)
    one = commands.add_parser("inspect")
    one.add_argument("source")
    one.set_defaults(run=inspect)
    one = commands.add_parser("import")
    one.add_argument("source")
    one.add_argument("target")
    one.add_argument("--outcome", choices=OUTCOMES)
    one.add_argument("--by", choices=("human", "policy"), default="human")
    one.add_argument("--task", action="append", default=[], help="WORDS=NAME")
    one.add_argument("--drop-images", action="store_true")
    one.add_argument("--lossless", action="store_true")
    one.set_defaults(run=import_)
    one = commands.add_parser("export")
    one.add_argument("source")
    one.add_argument("target")
    one.add_argument("--fps", type=int)
    one.add_argument("--robot-type")
    one.set_defaults(run=export)
    return made


def main(arguments: list[str] | None = None) -> int:
    """The exit code; 1 with a sentence on stderr for what cannot be done."""
    chosen = parser().parse_args(arguments)
    try:
        answer = chosen.run(chosen)
    except ModuleNotFoundError as missing:
        sys.stderr.write(f"error: {missing.name} is not installed: install {EXTRA}\n")
        return 1
    except (FleetError, ValueError) as fault:
        sys.stderr.write(f"error: {fault}\n")
        return 1
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0
