"""A folder on a store, as the dataset that it is."""

from __future__ import annotations

from fleet_runtime.datasets import folder as ours
from fleet_runtime.datasets.features import Defaults
from fleet_runtime.datasets.items import Dataset, Faulty, open_folder
from fleet_runtime.datasets.layout import INFO

EXTRA = "fleetloop[datasets]"
AS_IT_SAYS = Defaults()


def dataset(url: str, defaults: Defaults = AS_IT_SAYS) -> Dataset:
    """The dataset below a URL: LeRobot's where there is a `meta/info.json`, else ours.

    Raises:
        Faulty: what it says of itself is wrong, or a library for it is not installed.
        Absent: there is none, or not all of it.
        Retry: the store is unreachable.
        ValueError: a URL nothing here can serve.
    """
    store, folder = open_folder(url)
    keys = store.list(folder)
    if f"{folder}/{INFO}" not in keys:
        return ours.dataset(store, folder, keys, defaults.tasks)
    try:
        from fleet_runtime.datasets.lerobot import LeRobot
    except ModuleNotFoundError as missing:
        raise Faulty(
            f"{url} is a LeRobotDataset, and {missing.name} is not installed here: install "
            f"{EXTRA}, or make it a folder of episodes with `fleet dataset import` elsewhere"
        ) from missing
    return LeRobot(store, folder, defaults).dataset(keys)
