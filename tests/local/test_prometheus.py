"""Which Prometheus is taken, and what is said where none can be had."""

from pathlib import Path

import pytest

from fleet_cli.local import prometheus


@pytest.fixture(autouse=True)
def nothing_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))


def programs(folder: Path, version: str) -> dict[str, Path]:
    """Both, telling a version as the real ones do."""
    folder.mkdir(parents=True)
    made = {name: folder / name for name in prometheus.PROGRAMS}
    for name, path in made.items():
        path.write_text(f'#!/bin/sh\necho "{name}, version {version} (branch: x)"\n')
        path.chmod(0o755)
    return made


@pytest.mark.parametrize("version", ["2.42.0+ds", "2.53.1", "3.0.0"])
def test_one_on_path_is_taken_where_it_is_new_enough(tmp_path: Path, version: str) -> None:
    made = programs(tmp_path / "path", version)
    assert prometheus.resolve() == made


def test_an_older_one_is_not_and_without_apt_the_error_says_what_to_do(tmp_path: Path) -> None:
    programs(tmp_path / "path", "2.41.0")
    with pytest.raises(RuntimeError, match=r"no apt-get here.*put prometheus and promtool 2\.42"):
        prometheus.resolve()
    assert list((tmp_path / "cache" / "debian").iterdir()) == []


def test_one_in_the_cache_comes_first(tmp_path: Path) -> None:
    programs(tmp_path / "path", "3.0.0")
    cached = programs(tmp_path / "cache/debian/prometheus/usr/bin", "2.42.0")
    assert prometheus.resolve() == cached
