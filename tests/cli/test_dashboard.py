"""The page of one job: what it is made of, and who may have it."""

import asyncio

import aiohttp
import pytest

from fleet_cli.dashboard.overview import interval
from fleet_cli.dashboard.serve import FILES, serving
from fleet_cli.exits import Fault
from fleet_cli.oncall.views import Overview
from helpers.overviews import page


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    # Of Wilson's formula, worked out by hand for 0 of 10 and 5 of 10: z²/(n+z²) and ½ ± ….
    [(0, 0, 0, 1), (0, 10, 0, 0.2775), (10, 10, 0.7225, 1), (5, 10, 0.2366, 0.7634)],
)
def test_an_interval_is_wilsons(successes: int, episodes: int, low: float, high: float) -> None:
    assert interval(successes, episodes) == pytest.approx((low, high), abs=1e-4)


def test_the_page_tells_of_trial_versions_robots_and_bytes() -> None:
    shown = page()
    candidate, stable = shown.cohorts[:2]
    assert (candidate.name, candidate.version, candidate.robots) == ("candidate", 12, 2)
    assert (candidate.rate, candidate.low, candidate.high) == ("0.93", "0.69", "0.99")
    assert (stable.name, stable.rate, stable.low) == ("stable", "0.90", "")  # its robots' mean
    assert [one.version for one in shown.versions] == list(range(4, 13))
    assert [one.name for one in shown.robots[:2]] == ["cell-a", "cell-b"]
    assert not any(one.trouble for one in shown.robots[2:])
    moved = {(one.direction, one.kind): one.total for one in shown.moved}
    assert moved["sent", "experience"] == 96_000_000  # two robots'; another job's are not ours
    assert shown.status.latency is not None
    assert shown.status.latency.median == 2.5


async def test_the_page_is_had_by_its_own_address_only_and_lets_nothing_in() -> None:
    looks = 0

    async def look() -> Overview:
        nonlocal looks
        looks += 1
        return page()

    async with serving(look) as url, aiohttp.ClientSession() as session:
        for path in FILES:
            async with session.get(url + path[1:]) as answer:
                assert answer.status == 200
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                text = await answer.text()
                assert "//" not in text.replace("http://www.w3.org/2000/svg", "").replace("// ", "")
        for _ in range(3):
            async with session.get(url + "overview.json") as answer:
                found = await answer.json()
        assert found["kind"] == "Overview"
        assert looks == 1  # however many pages ask
        async with session.get(url, headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403
        async with session.post(url + "overview.json") as answer:
            assert answer.status == 405


async def test_a_cluster_that_is_away_is_told_on_the_page() -> None:
    async def look() -> Overview:
        raise Fault("the API server does not answer")

    async with serving(look) as url, aiohttp.ClientSession() as session:
        async with session.get(url + "overview.json") as answer:
            assert answer.status == 503
            assert await answer.json() == {"error": "the API server does not answer"}
        with pytest.raises(Fault, match="name another"):
            async with serving(look, int(url.rsplit(":", 1)[1].strip("/"))):
                pass


async def test_a_cluster_that_does_not_answer_holds_no_end_up() -> None:
    asked = asyncio.Event()

    async def look() -> Overview:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with aiohttp.ClientSession() as session:
        async with asyncio.timeout(30), serving(look) as url:
            waiting = asyncio.create_task(session.get(url + "overview.json"))
            await asked.wait()
        with pytest.raises(aiohttp.ClientError):
            await waiting
