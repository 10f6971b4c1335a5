"""Which watch is dead, told from what it brought and what lists show."""

from fleet_operator.decide.deliveries import Deliveries

PATIENCE = 10.0


def held(brought: dict[str, int], listed: dict[str, int], at: int = 100) -> Deliveries:
    """What the watch of Pods brought, then one list of them at second 0."""
    found = Deliveries(PATIENCE)
    for uid, version in brought.items():
        found.brought("Pod", uid, version)
    found.listed("Pod", at, listed, now=0.0)
    return found


def test_a_watch_that_brought_what_the_list_shows_lives_however_long_nothing_comes() -> None:
    assert held({"a": 5, "b": 7}, {"a": 5, "b": 7}).dead(1e9) == []


def test_a_watch_that_is_ahead_of_the_list_lives() -> None:
    assert held({"a": 6}, {"a": 5}).dead(1e9) == []


def test_a_watch_behind_a_list_has_its_patience_and_is_dead_then() -> None:
    found = held({"a": 5}, {"a": 6})
    assert found.dead(PATIENCE - 0.1) == []
    assert found.dead(PATIENCE) == ["Pod"]


def test_an_object_that_no_watch_ever_told_of_counts_too() -> None:
    assert held({}, {"a": 1}).dead(PATIENCE) == ["Pod"]


def test_what_comes_late_still_comes_and_a_later_version_stands_for_all_before() -> None:
    found = held({"a": 5}, {"a": 6})
    found.brought("Pod", "a", 8)
    assert found.dead(1e9) == []


def test_a_list_tells_what_the_watch_has_not_brought() -> None:
    found = held({"a": 5, "b": 7}, {"a": 5, "b": 7})
    assert found.listed("Pod", 101, {"a": 6, "b": 7, "c": 1}, now=1.0) == {"a", "c"}


def test_further_lists_do_not_renew_the_patience() -> None:
    found = held({"a": 5}, {"a": 6})
    found.listed("Pod", 101, {"a": 7}, now=9.0)
    assert found.dead(PATIENCE) == ["Pod"]
    found.brought("Pod", "a", 6)  # the watch lives, as it brought what was missed first
    assert found.dead(PATIENCE) == []


def test_news_in_flight_at_every_list_do_not_add_up_to_a_dead_watch() -> None:
    found = Deliveries(PATIENCE)
    for turn in range(1, 20):
        found.listed("Pod", turn, {"a": turn}, now=9.0 * turn)
        assert found.dead(9.0 * turn) == []
        found.brought("Pod", "a", turn)


def test_what_was_deleted_is_not_waited_for() -> None:
    found = held({}, {"a": 6})
    found.listed("Pod", 101, {}, now=5.0)
    assert found.dead(1e9) == []


def test_a_list_read_before_a_deletion_and_looked_at_after_it_misses_nothing() -> None:
    found = held({"a": 5}, {})
    found.brought("Pod", "a", 101)  # DELETED carries a version of its own
    found.listed("Pod", 100, {"a": 5}, now=0.0)
    assert found.dead(1e9) == []


def test_an_object_newer_than_the_list_is_not_forgotten() -> None:
    found = held({"a": 101}, {}, at=100)
    found.listed("Pod", 102, {"a": 101}, now=0.0)
    assert found.dead(1e9) == []


def test_what_is_gone_is_forgotten() -> None:
    assert held({"a": 5}, {})._brought == {"Pod": {}}


def test_each_kind_is_told_of_by_name() -> None:
    found = held({}, {"a": 1})
    found.listed("Job", 1, {"b": 1}, now=0.0)
    found.listed("RobotActor", 1, {"c": 1}, now=5.0)
    assert found.dead(PATIENCE) == ["Job", "Pod"]
