"""What is shown of jobs, robots and versions: objects in, text out."""

import asyncio
import textwrap
from collections.abc import AsyncIterator, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any, cast

import pytest
from rich.console import Console

from fleet_cli.exits import Fault
from fleet_cli.oncall import lineage, listing, live, look, tables, text
from fleet_cli.oncall import status as screen
from fleet_cli.oncall.live import styled
from fleet_cli.oncall.options import Format
from fleet_cli.oncall.views import Latency, Robot, Status
from fleet_cli.oncall.world import World
from fleet_contract.names import Kind
from fleet_contract.resources import RobotActor
from helpers.oncall import NOW, READY, ago, condition, job, reference, robot, seen, version

if TYPE_CHECKING:
    from fleet_cli.kube import Kube

SPEC = {
    "rollout": {
        "steps": [
            {"robots": 1, "minEpisodes": 10},
            {"percent": 50, "minEpisodes": 20, "soak": "30s"},
        ]
    }
}
TRIAL = {
    "phase": "Staged",
    "candidate": reference(7),
    "step": 1,
    "robots": ["r1", "r2"],
    "episodes": 12,
    "successes": 9,
    "reason": "AwaitingEpisodes",
    "message": "Version 7, stage 2 of 2: 12 of 20 episodes.",
}
SILENT = [
    condition("Ready", "False", "HeartbeatMissing", "It does not send heartbeats."),
    condition("Connected", "False", "HeartbeatMissing", "It is not heard of."),
]
WORLD = seen(
    job(
        READY,
        condition("LearnerReady", "True", "LearnerRunning", "Run 1 is at work."),
        spec=SPEC,
        phase="Staged",
        rollout=TRIAL,
    ),
    robot("r1", runs=7),
    robot("r2"),
    robot("r3"),
    robot("r4", *SILENT, phase="Offline", lastSeen=ago(600), runs=5),
    version(
        6,
        "Promoted",
        condition("Promoted", "True", "CanaryPassed"),
        parent=5,
        cohort={"robots": 2, "episodes": 20},
        successRate="0.95",
        message="Promoted: 19 of 20.",
    ),
    version(7, "Staged", parent=6, cohort={"interventions": 1, "guardTrips": 0}),
)
"""Four robots, of which two try version 7 and one is away."""


def assert_shows(lines: Sequence[str], expected: str) -> None:
    assert "\n".join(lines) == textwrap.dedent(expected).strip("\n")


def test_a_job_on_trial_is_one_screen() -> None:
    assert_shows(
        text.status(screen.status(WORLD, Latency(count=37, median=5.0))),
        """
        staged in namespace lab: Staged
          Learner, streams and fleet are at work.

        ROLLOUT  Auto, Staged
          version 7 is under trial, the fleet runs version 6, promoted 9m after it was made
          ✓ 1 robot, 10 episodes
          ▸ 50 % of the fleet, 20 episodes, at least 30s
          · the whole fleet
          Version 7, stage 2 of 2: 12 of 20 episodes.

        NEXT
          fleet skip staged 7   let it go on without this stage's evidence
          fleet abort staged 7  take it back for good

        ROBOTS  4 of 4 connected, 4 on their version
          VERSION   ROLE        ROBOTS   ON IT   CONNECTED   EPISODES   SUCCESS   TAKEOVERS   GUARD
          7         candidate   2        1       2           12         0.75      1           0
          6         stable      1        1       1           -          0.90      -           -
          5         other       1        1       0           -          0.90      -           -
          ! r4 (Offline, seen 10m ago): It does not send heartbeats.

        LEARNER  run 1: online, step 1200
          Run 1 is at work.

        LATENCY  version made → acting: half within 5s, 95 % beyond measure (37 measured)

        TASKS
          TASK   SUCCESS   EPISODES
          push   0.95      50
        """,
    )


def test_a_version_that_computes_beside_another_is_told_with_its_figures() -> None:
    figures = "Version 7 computes beside version 6 on r1 and moves nothing: 3 of 5 episodes."
    beside = {"name": "shadow", "phase": "Running", "run": 4, "robots": ["r1"]}
    gated = {
        "phase": "Gated",
        "candidate": reference(7),
        "gates": [beside | {"message": figures}],
        "reason": "GateRunning",
        "message": figures,
    }
    spec = {"rollout": SPEC["rollout"] | {"gates": {"shadow": {"maxDisagreement": 0.4}}}}
    shown = text.status(screen.status(seen(job(READY, spec=spec, rollout=gated), robot("r1"))))
    first = shown.index("  ▸ the shadow gate on 1 robot, 5 episodes, at most 0.4 apart")
    assert shown[first + 1] == "  · 1 robot, 10 episodes"
    assert f"  {figures}" in shown
    assert "  fleet skip staged 7   let it go on without this gate" in shown


def test_a_job_nobody_has_looked_at_is_a_screen_too() -> None:
    fresh = job()
    fresh["status"] = {"observedGeneration": -1}
    assert_shows(
        text.status(screen.status(seen(fresh))),
        """
        staged in namespace lab: Unknown
          No operator has looked at it yet.

        ROLLOUT  Auto, Staged
          no version is under trial, the fleet has no version yet

        NEXT
          fleet doctor  the operator has not looked at the newest edit; if that lasts, see why

        ROBOTS  0 of 0 connected, 0 on their version

        LEARNER  run 0: not heard of yet
        """,
    )


STALLED = condition("Stalled", "True", "StorageFailed", "The store is full: free room.")
PINNED = {"rollout": {"mode": "Pinned", "pinnedVersion": 5}}
NEXT: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing is to be done": (job(), []),
    "a stalled job says why and where to read on": (
        job(STALLED),
        ["The store is full: free room. (docs/troubleshooting.md, StorageFailed)"],
    ),
    "a pinned fleet is let go by unpin": (job(spec=PINNED), ["fleet unpin staged"]),
    "a version that passed waits to be promoted": (
        job(rollout=TRIAL | {"reason": "AwaitingPromotion"}),
        ["fleet promote staged 7", "fleet abort staged 7"],
    ),
    "a version waits for its approval": (
        job(rollout={"candidate": reference(7), "reason": "AwaitingApproval"}),
        ["fleet approve staged 7", "fleet abort staged 7"],
    ),
    "a stage ran out of time": (
        job(rollout=TRIAL | {"reason": "DeadlinePassed"}),
        ["fleet skip staged 7", "fleet resume staged 7", "fleet abort staged 7"],
    ),
    "a version is at its gate": (
        job(rollout={"candidate": reference(7), "reason": "GateRunning"}),
        ["fleet skip staged 7", "fleet abort staged 7"],
    ),
    "its gate cannot be run": (
        job(rollout={"candidate": reference(7), "reason": "GateBlocked"}),
        ["fleet retry staged 7", "fleet skip staged 7", "fleet abort staged 7"],
    ),
    "a window is closed": (
        job(rollout=TRIAL | {"reason": "OutsideWindow"}),
        ["fleet abort staged 7"],
    ),
    "the stable version has one before it": (
        job(lastKnownGood=[reference(4), reference(5)]),
        ["fleet rollback staged 6"],
    ),
    "what was paused by request is resumed by request": (
        job(rollout={"paused": True}),
        ["fleet resume staged"],
    ),
    "what Git paused, Git resumes": (
        job(spec={"rollout": {"paused": True}}),
        ["set spec.rollout.paused to false where the job is written, to go on"],
    ),
}


@pytest.mark.parametrize(("found", "steps"), NEXT.values(), ids=NEXT.keys())
def test_what_to_do_next_follows_from_the_state(found: dict[str, Any], steps: list[str]) -> None:
    told = screen.status(seen(found)).next
    assert [one.command or one.what for one in told] == steps


def test_a_stage_is_said_in_words() -> None:
    steps = [
        {"robots": 3, "selector": {"sites": ["lab"], "groups": ["left"]}, "deadline": "2h"},
        {"percent": 20, "minEpisodes": 5},
    ]
    stages = screen.status(seen(job(spec={"rollout": {"steps": steps}}, rollout=TRIAL))).stages
    assert [one.what for one in stages] == [
        "3 robots of site lab or group left, 10 episodes, within 2h",
        "20 % of the fleet, 5 episodes",
        "the whole fleet",
    ]


def test_gates_are_said_in_words_before_the_stages() -> None:
    gate = {"episodes": 50, "tasks": ["push"], "environment": {"name": "moon"}, "maxDrop": 0.1}
    steps = [{"robots": 1}]
    spec = {"rollout": {"gates": {"simulation": gate}, "steps": steps}}
    what = "the simulation gate, 50 episodes of push in moon, 0.5 succeed, at most 0.1 below stable"

    def stages(phase: str, **rollout: Any) -> list[tuple[str, str]]:
        gates = [{"name": "simulation", "phase": phase}] if phase else []
        told = {"candidate": reference(7), "gates": gates, **rollout}
        view = screen.status(seen(job(spec=spec, rollout=told)))
        return [(one.state, one.what) for one in view.stages]

    ahead = [("ahead", "1 robot, 10 episodes"), ("ahead", "the whole fleet")]
    assert stages("") == [("ahead", what), *ahead]
    assert stages("Blocked") == [("now", what), *ahead]
    assert stages("Passed") == [("done", what), *ahead]
    assert stages("Skipped") == [("done", f"{what}, skipped"), *ahead]
    on_trial = {"started_at": "2027-01-15T08:00:00Z", "robots": ["r1"]}
    assert [state for state, _ in stages("Passed", **on_trial)] == ["done", "now", "ahead"]


def test_under_watch_the_evidence_is_the_fleets() -> None:
    watch = {"phase": "Watching", "watching": True, "episodes": 20, "successes": 19}
    (cohort,) = screen.status(seen(job(rollout=watch), robot("r1"), robot("r2"))).cohorts
    assert (cohort.role, cohort.episodes, cohort.success_rate) == ("stable", 20, "0.95")


def test_jobs_are_a_table() -> None:
    assert_shows(
        text.jobs([look.job(WORLD.job, NOW)]),
        """
        JOB      PHASE    READY   POLICY   CANDIDATE   STAGE   ROBOTS   SUCCESS   AGE
        staged   Staged   True    6        7           2/2     4/4      0.95      3d
        """,
    )


def test_robots_are_a_table() -> None:
    pinned = robot("r5", spec={"pin": 4}, pending=reference(4))
    others = [WORLD.robots[0], WORLD.robots[3], *seen(job(), pinned).robots]
    assert_shows(
        text.robots([look.robot(one, NOW) for one in others]),
        """
        ROBOT   JOB      MODE       PHASE     POLICY        SUCCESS   SPOOL   SEEN   TROUBLE
        r1      staged   External   Running   7             0.90      0       3s     -
        r4      staged   External   Offline   5             0.90      0       10m    It does not send heartbeats.
        r5      staged   External   Running   6→4 (pin 4)   0.90      0       3s     -
        """,  # noqa: E501
    )


def test_a_history_is_a_table_newest_first() -> None:
    past = job(rollout=TRIAL, rolledBack=[3, 7])
    assert_shows(
        text.history(look.history(seen(past).job, WORLD.versions, NOW)),
        """
        VERSION   PHASE      STEP   ROBOTS   EPISODES   SUCCESS   AGE   WHY
        7         Staged     700    0        0          -         10m   -
        6 *       Promoted   600    2        20         0.95      10m   Promoted: 19 of 20.
        taken back and no longer kept: 3
        * what the fleet runs
        """,
    )


def test_a_lineage_goes_back_as_far_as_versions_are_kept() -> None:
    lines = text.lineage(lineage.lineage(WORLD.versions[1], WORLD.versions))
    digest = WORLD.versions[1].spec.digest
    assert_shows(
        lines[: lines.index("NOT KNOWN HERE") - 1],
        f"""
        staged-v7: version 7 of staged, 650 kB
          manifest  jobs/uid/versions/7  {digest}
          learner   epoch 2, step 700
          data      journal segments 0 to 7: 70 online episodes, 10 not behind its parent

        ANCESTORS
          VERSION   PHASE      STEP   EPISODES
          6         Promoted   600    60
          5         not kept   -      -
        """,
    )
    assert "jobs/uid/journal/, segments 0 to 7" in lines[-4]
    assert "past spec.history.versions" in lines[-1]


STORED = {
    "manifest": {"digest": WORLD.versions[1].spec.digest, "uri": "jobs/uid/versions/7"},
    "forgotten": 40,
    "episodes": [
        {"id": f"e{n}", "robot": "r", "task": "push", "outcome": outcome, "segment": n, **acted}
        for n, (outcome, acted) in enumerate(
            [("success", {"version": 6}), ("failure", {"version": 6}), ("success", {"version": 6})]
        )
    ],
}


def test_a_lineage_with_its_episodes_counts_them_by_what_acted() -> None:
    view = lineage.lineage(WORLD.versions[1], WORLD.versions)
    lines = text.lineage(lineage.with_episodes(view, STORED))
    assert_shows(
        lines[lines.index("TRAINED ON") : lines.index("NOT KNOWN HERE") - 1],
        """
        TRAINED ON
          TASK   OUTCOME   ACTED   EPISODES
          push   failure   6       1
          push   success   6       2
          and 40 whose records have left the journal
        """,
    )
    assert not any("which episodes" in line for line in lines)
    other = STORED | {"manifest": {"digest": "sha256:0", "uri": "there"}}
    with pytest.raises(Fault, match="another digest"):
        lineage.with_episodes(view, other)


def test_an_episode_is_told_with_what_acted_and_what_learned() -> None:
    told = {
        "id": "e" * 32, "robot": "arm", "robotUid": "uid", "task": "push", "outcome": "success",
        "mode": "live", "trains": True, "version": 6, "manifest": "sha256:m", "spool": "s",
        "number": 9, "segment": 3, "assignmentEpoch": 4, "startedAt": 1.0, "endedAt": 2.0,
        "evicted": False, "refused": "", "learned": [7, 8, 9, 12],
    }  # fmt: skip
    assert_shows(
        text.episode(lineage.episode("staged", told)),
        """
        eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee: push, success, live, of staged
          robot     arm, record 9 of spool s
          acted     version 6  sha256:m, assignment 4
          journal   segment 3
          learned   in the snapshots of versions 7-9, 12
        """,
    )
    refused = lineage.episode("staged", told | {"refused": "Shape: a third finger"})
    assert text.episode(refused)[-1] == "  learned   refused: Shape: a third finger"


TROUBLE: dict[str, tuple[dict[str, Any], str]] = {
    "none": (robot("r"), ""),
    "suspended on purpose": (robot("r", *SILENT, spec={"suspend": True}), ""),
    "silent": (robot("r", *SILENT), "It does not send heartbeats."),
    "stalled": (robot("r", *SILENT, STALLED), "The store is full: free room."),
    "its disk is full": (
        robot("r", READY, condition("SpoolFailing", "True", "SpoolFailed", "No room.")),
        "No room.",
    ),
    "it refuses its version": (
        robot("r", READY, condition("PolicySynced", "False", "PolicyRefused", "It is broken.")),
        "It is broken.",
    ),
    "it waits for its episode's end": (
        robot("r", READY, condition("PolicySynced", "False", "AwaitingEpisodeEnd", "Soon.")),
        "",
    ),
    "nobody has looked at it": (
        robot("r") | {"status": {"observedGeneration": -1}},
        "No operator has looked at it yet.",
    ),
}


@pytest.mark.parametrize(("found", "words"), TROUBLE.values(), ids=TROUBLE.keys())
def test_trouble_of_a_robot_is_told_in_a_sentence(found: dict[str, Any], words: str) -> None:
    (one,) = seen(job(), found).robots
    assert look.trouble(one) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "-"), (0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172_800, "2d")],
)
def test_ages_are_short(seconds: float | None, words: str) -> None:
    assert tables.age(seconds) == words


@pytest.mark.parametrize(("count", "words"), [(7, "7 B"), (650_000, "650 kB"), (4e9, "4 GB")])
def test_sizes_are_short(count: int, words: str) -> None:
    assert tables.size(count) == words


def test_trouble_is_red_on_a_terminal_and_headings_are_bold() -> None:
    spans = styled(["NEXT", "  fleet doctor", "  ! r4 is away"]).spans
    assert [(one.start, one.style) for one in spans] == [(0, "bold"), (20, "red")]


def test_versions_of_an_earlier_job_of_that_name_are_not_shown() -> None:
    old = version(3, "Promoted", spec={"jobUid": "another"})
    assert seen(job(), old, version(4, "Staged")).versions[0].spec.sequence == 4


async def test_a_terminal_is_drawn_anew_for_as_long_as_the_job_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "REDRAWN", 0.02)
    drawn: list[float] = []
    again = asyncio.Event()

    def view(world: World) -> Status:
        drawn.append(world.now)
        if len(drawn) == 3:
            again.set()
        return screen.status(world)

    async def worlds() -> AsyncIterator[World]:
        yield seen(job())
        await again.wait()  # nothing happens, and ages go on
        yield WORLD

    paper = StringIO()
    console = Console(file=paper, force_terminal=True, width=100, height=60)
    await live.screen(worlds(), view, text.status, console, as_json=False)
    assert drawn[0] < drawn[1] < drawn[2]
    assert "version 7 is under trial" in paper.getvalue()


async def test_a_pipe_gets_a_block_for_each_change() -> None:
    async def worlds() -> AsyncIterator[World]:
        yield WORLD
        yield WORLD

    paper = StringIO()
    await live.screen(
        worlds(), screen.status, text.status, Console(file=paper, width=20), as_json=False
    )
    block = "\n".join(text.status(screen.status(WORLD)))
    assert paper.getvalue() == f"{block}\n\n" * 2


@pytest.mark.parametrize("as_json", [True, False])
async def test_brackets_and_colons_of_a_message_are_no_style(as_json: bool) -> None:
    said = "Mount [/var/lib] of [learner] failed :warning:"

    async def worlds() -> AsyncIterator[World]:
        yield seen(job(condition("Ready", "False", "LearnerFailing", said)))

    paper = StringIO()
    await live.screen(
        worlds(), screen.status, text.status, Console(file=paper, width=20), as_json=as_json
    )
    assert said in paper.getvalue()


def test_what_to_do_next_is_pasted_where_it_was_asked() -> None:
    told = screen.status(WORLD._replace(asked=" --namespace lab --context far")).next
    commands = [one.command for one in told]
    assert commands[-1] == "fleet abort staged 7 --namespace lab --context far"
    assert all(one.endswith(" --namespace lab --context far") for one in commands)


def test_a_screen_of_many_troubled_robots_stays_one_screen() -> None:
    silent = [robot(f"arm-{one}", *SILENT, phase="Offline") for one in range(2000)]
    shown = screen.status(seen(job(), *silent))
    lines = text.status(shown)
    assert "  ! and 1990 more: `fleet robots list --job staged`" in lines
    assert len(lines) < 40
    assert len(shown.troubled) == 2000


def test_an_object_of_another_version_is_told_in_a_sentence() -> None:
    old = job(spec={"rollout": {"gates": {"simulation": True}}})
    with pytest.raises(Fault, match="FleetTrainingJob staged is not as this program knows"):
        seen(old)


async def test_a_watched_list_tells_each_change_once_and_reads_only_what_changed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0
    whole = look.robot

    def counted(found: RobotActor, now: float) -> Robot:
        nonlocal read
        read += 1
        return whole(found, now)

    monkeypatch.setattr(look, "robot", counted)
    first = {name: robot(name) for name in ("r1", "r2", "r3")}
    changed = first | {"r2": robot("r2", runs=7)}
    without = {name: one for name, one in changed.items() if name != "r1"}

    class Changes:
        async def follow(self, kind: Kind) -> AsyncIterator[dict[str, Any]]:
            for known in ({}, first, changed, without, without | {"r1": robot("r1")}):
                yield known

    await listing.robots(cast("Kube", Changes()), "", Format.TEXT, watch=True)
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["ROBOT", "r1", "r2", "r3", "r2", "r1"]
    assert read == 5


def test_what_a_robot_says_is_nothing_that_a_terminal_obeys() -> None:
    wrong = condition("SpoolFailing", "True", "DiskFull", "full\x1b[2J\x07\nof it")
    shown = screen.status(seen(job(), robot("r1", wrong)))
    (line,) = [one for one in styled(text.status(shown)).plain.splitlines() if "r1" in one]
    assert line.endswith(r"full\x1b[2J\x07 of it")
