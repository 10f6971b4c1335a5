"""Episodes in parts, from message to replay: some at once, the rest at the end, never twice."""

from __future__ import annotations

import dataclasses
import itertools
import secrets
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet_contract.errors import Reject, RejectCode
from fleet_contract.messages import Outcome, Receipt, Record
from fleet_runtime.algorithms import find
from fleet_runtime.artifacts import Store
from fleet_runtime.experience.batch import EVERYTHING, SOURCES, SampleSpec, Side, Source
from fleet_runtime.experience.spaces import Spaces
from fleet_runtime.learner import intake, retention
from fleet_runtime.learner.admission import Rules
from fleet_runtime.learner.handoff import Handoff
from fleet_runtime.learner.intake import Intake, News
from fleet_runtime.learner.journal import Journal
from fleet_runtime.learner.loop import Training
from fleet_runtime.learner.progress import Progress
from fleet_runtime.learner.recall import Experience
from fleet_runtime.learner.receipts import spool_of
from fleet_runtime.learner.retention import Base
from fleet_runtime.metrics import LearnerMetrics
from fleet_runtime.replay.index import ReplayIndex
from fleet_runtime.replay.sampler import AdaptiveSampler
from helpers.learner import (
    ACTION,
    JOB_UID,
    OBSERVATION,
    TASKS,
    closing,
    episode,
    experience_subject,
    message,
    parts,
)

if TYPE_CHECKING:
    from fleet_runtime.experience.types import Episode
    from fleet_runtime.learner.handoff import Admitted
    from fleet_runtime.wire import Delivery

SPACES = Spaces(
    tasks=TASKS,
    observation_size=OBSERVATION,
    action_low=(-1.0,) * ACTION,
    action_high=(1.0,) * ACTION,
)
DAGGER = SampleSpec(4, 8, unfinished=True)
"""As HG-DAgger's: what humans did, and what went well without them."""
CRITIC = SampleSpec(4, 8, EVERYTHING, EVERYTHING, windows=(4, 12))
"""As any that looks at outcomes."""
HELPED = np.arange(20) % 10 >= 5
"""A human in control of steps 5 to 9 and 15 to 19."""


@dataclasses.dataclass
class Sent:
    """What judging needs of a delivery."""

    data: bytes
    sequence: int = 1
    subject: str = experience_subject()


class Life:
    """One learner from its journal on, without network and training."""

    def __init__(
        self, store: Store, spec: SampleSpec, base: Base | None = None, **limits: Any
    ) -> None:
        self.experience = Experience.since(base or Base(), store, JOB_UID, 1)
        self.journal, self.ledger, self.library = self.experience
        self.index = ReplayIndex(
            SPACES,
            spec,
            self.experience.load,
            load_part=self.experience.load_part,
            **limits,
        )
        self.rules = Rules(JOB_UID, frozenset(TASKS), OBSERVATION, ACTION)
        self.intake = Intake(self.rules, store, self.ledger, self.library)
        self.refused: dict[int, RejectCode] = {}
        self.told: list[Admitted] = []
        self.enter(self.experience.admitted(self.journal.replay()))

    def enter(self, news: Any) -> None:
        for one in news:
            one.enter(self.index)
            self.told.append(one)

    def take(self, *entries: tuple[Record, bytes]) -> None:
        """One message, judged, journaled and indexed."""
        found = self.intake.judge([cast("Delivery", Sent(message(*entries)))])
        for entry in found.entries:
            if entry.refusal:
                self.refused[entry.record.n] = entry.refusal.code
        if found.entries:
            segments = self.journal.append(found.entries)
            self.enter(self.experience.admitted(segments))

    def receipt(self, record: Record) -> Receipt:
        return self.ledger.receipt(spool_of(record), job_uid=JOB_UID, epoch=1, position=1)

    @property
    def drawable(self) -> int:
        return int(self.index.eligible().sum())

    @property
    def view(self) -> tuple[object, ...]:
        """All that training can see."""
        held = sorted((e.id, e.part, e.steps, e.outcome, e.eligible) for e in self.index)
        return held, self.index.unfinished, self.index.eligible().tolist()


@pytest.fixture
def store() -> Store:
    return Store(f"memory://{secrets.token_hex(8)}")


def helped(name: str = "e", **over: Any) -> Episode:
    return episode(name, intervention=HELPED, scheduled=np.zeros(20, bool), **over)


def test_a_humans_steps_are_drawn_while_the_episode_runs_and_once_when_it_has_ended(
    store: Store,
) -> None:
    life, made = Life(store, DAGGER), helped()
    first, second, last = parts(made, 8, 12)
    life.take(first)
    assert (life.drawable, life.index.unfinished, len(life.index)) == (3, 1, 0)
    batch = life.index.sample(np.array([[0, 50], [0, 0]]), np.random.default_rng(0))
    shown = {
        int(np.flatnonzero((made.observation == row).all(axis=1))[0]) for row in batch.observation
    }
    assert shown == {5, 6, 7}
    assert set(batch.source) == {SOURCES.index(Source.HUMAN)}
    reach = {
        (int(s), int(v.sum()))
        for s, v in zip(batch.observation[:, 0] * 0, batch.valid, strict=True)
    }
    assert max(size for _, size in reach) == 3  # chunks end with the part
    life.take(second)
    assert life.drawable == 5
    life.take(last)
    assert (life.drawable, life.index.unfinished, len(life.index)) == (10, 0, 1)
    assert life.index.steps == 20
    assert life.receipt(first[0]).through == 3


def test_who_looks_at_outcomes_draws_nothing_of_it_before_its_end(store: Store) -> None:
    life, made = Life(store, CRITIC), helped()
    first, second, last = parts(made, 8, 12)
    life.take(first, second)
    assert (life.drawable, life.index.unfinished) == (0, 1)
    life.take(last)
    assert (life.drawable, life.index.unfinished) == (20, 0)
    batch = life.index.sample(np.array([[0, 99], [0, 0]]), np.random.default_rng(0))
    assert batch.success.all()
    at = 20 - batch.remaining
    np.testing.assert_array_equal(batch.observation, made.observation[at])
    np.testing.assert_array_equal(
        batch.later[:, 1], made.observation[np.minimum(at + batch.ahead[:, 1], 19)]
    )


@pytest.mark.parametrize(
    ("name", "early"),
    [("bc", True), ("hg-dagger", True), ("recap", False), ("fql", False), ("divl-qam", False)],
)
def test_imitation_takes_what_is_unfinished_and_nobody_else_does(name: str, early: bool) -> None:
    made = find(name).create(SPACES, {"hidden": 16, "layers": 1})
    assert made.sample_spec.unfinished is early


ENDS: dict[str, tuple[Outcome, int, int]] = {
    # how it ends → what imitation draws then, what critics do
    "success": (Outcome.SUCCESS, 10, 20),
    "failure": (Outcome.FAILURE, 10, 20),
    "aborted": (Outcome.ABORTED, 0, 0),
    "discarded": (Outcome.DISCARDED, 0, 0),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("spec", [DAGGER, CRITIC], ids=["imitation", "critics"])
def test_in_parts_it_trains_as_the_whole_episode_does(
    store: Store, end: str, spec: SampleSpec
) -> None:
    outcome, *drawn = ENDS[end]
    life = Life(store, spec)
    life.take(*parts(helped(outcome=outcome.value), 8, 12))
    assert life.drawable == drawn[spec is CRITIC]
    assert [(one.id, one.outcome) for one in life.index] == [("e", outcome.value)]


def test_a_robot_that_died_in_the_middle_closes_its_episode_as_aborted(store: Store) -> None:
    life, (first, second, _) = Life(store, DAGGER), parts(helped(), 8, 12)
    life.take(first, second)
    assert life.drawable == 5
    life.take(closing(second[0]))
    assert (life.drawable, life.index.unfinished) == (0, 0)
    assert [(one.id, one.steps, one.outcome) for one in life.index] == [("e", 12, "aborted")]
    assert life.receipt(first[0]).through == 3


def test_of_a_robot_that_forgot_it_the_learner_closes_it_when_the_next_one_has_begun(
    store: Store,
) -> None:
    life, (first, second, _) = Life(store, DAGGER), parts(helped(), 8, 12)
    life.take(first, second)
    following = parts(helped("f"), 10, first=4)  # number 3 is yet to come: perhaps its last part
    life.take(following[0])
    assert life.drawable == 5 + 5
    life.take(*parts(helped("d", outcome="discarded"), first=3))
    assert life.drawable == 5
    assert [one.news for one in life.told if one.record.episode_id == "e"] == [
        News.PART,
        News.PART,
        News.ENDED,
    ]


def test_what_came_before_its_first_part_tells_too_that_no_more_comes(store: Store) -> None:
    life, (first, second, last) = Life(store, DAGGER), parts(helped(), 8, 12)
    rotten = last[0].model_copy(update={"task": "juggle"}), last[1]
    life.take(*parts(helped("f", outcome="discarded"), first=4))
    life.take(rotten)
    life.take(second)
    assert life.drawable == 2
    life.take(first)
    assert (life.drawable, life.index.unfinished) == (0, 0)


def test_a_wiped_disk_ends_what_its_robot_had_begun(store: Store) -> None:
    life, (first, second, last) = Life(store, DAGGER), parts(helped(), 8, 12)
    life.take(first, second)
    life.take(*parts(helped("f", outcome="failure"), spool_id="spool-2"))
    assert (life.drawable, life.index.unfinished) == (10, 0)
    life.take(last)  # it had waited in the broker after all
    assert (life.drawable, len(life.index)) == (20, 2)


def test_parts_under_a_new_spool_are_of_the_same_episode_and_none_counts_twice(
    store: Store,
) -> None:
    life, (first, second, last) = Life(store, DAGGER), parts(helped(), 8, 12)
    life.take(first, second)
    moved = {"spool_id": "spool-2"}
    again, rest = (
        (one[0].model_copy(update=moved | {"n": n}), one[1]) for n, one in ((1, second), (2, last))
    )
    life.take(again)
    assert life.refused == {1: RejectCode.CONFLICT}
    life.take(rest)
    assert (life.drawable, life.index.steps) == (10, 20)


@pytest.mark.parametrize(
    ("spec", "drawn"), [(DAGGER, 7), (CRITIC, 0)], ids=["imitation", "critics"]
)
def test_a_part_that_is_refused_costs_its_neighbours_nothing_and_is_told(
    store: Store, spec: SampleSpec, drawn: int
) -> None:
    life, made = Life(store, spec), parts(helped(), 8, 12)
    rotten = made[1][0].model_copy(update={"task": "juggle"}), made[1][1]
    life.take(made[0], rotten, made[2])
    assert life.refused == {2: RejectCode.UNKNOWN_TASK}
    told = life.receipt(made[0][0])
    assert (told.through, [(r.n, r.code) for r in told.rejects]) == (
        3,
        [(2, RejectCode.UNKNOWN_TASK)],
    )
    # The human's steps 5 to 7 and 15 to 18 … of the parts that are there; no chunk crosses the gap.
    assert life.drawable == drawn + (spec is DAGGER)
    assert {one.part for one in life.index} == {0, 2}


def test_a_part_given_up_on_a_full_disk_leaves_a_gap_as_a_refused_one_does(store: Store) -> None:
    life, made = Life(store, DAGGER), parts(helped(), 8, 12)
    gone = made[1][0].model_copy(update={"evicted": True}), b""
    life.take(made[0], gone, made[2])
    assert life.drawable == 8
    other = Life(Store(f"memory://{secrets.token_hex(8)}"), DAGGER)
    end = made[2][0].model_copy(update={"evicted": True, "outcome": Outcome.ABORTED}), b""
    other.take(made[0], made[1], end)
    assert other.drawable == 0


def test_parts_that_do_not_fit_each_other_are_never_one_episode(store: Store) -> None:
    life = Life(store, DAGGER)
    first, *_ = parts(helped(seed=1), 8, 12)
    _, *others = parts(helped(seed=2), 8, 12)
    life.take(first, *others)
    assert (len(life.index), life.drawable) == (0, 10)
    assert life.told[-1].news is News.ENDED


def test_an_episode_too_long_for_the_memory_trains_in_its_parts_or_when_aborted_not_at_all(
    store: Store,
) -> None:
    life = Life(store, DAGGER, cache_steps=12)
    life.take(*parts(helped(), 8, 12)[:2])
    with pytest.raises(Reject, match="the cache holds 12"):
        life.take(parts(helped(), 8, 12)[2])
    assert life.drawable == 10
    life.take(*parts(helped("f", outcome="aborted"), 8, 12, first=4)[:2])
    with pytest.raises(Reject, match="the cache holds 12"):
        life.take(parts(helped("f", outcome="aborted"), 8, 12, first=4)[2])
    assert life.drawable == 10


def test_one_round_takes_the_ends_of_no_more_episodes_than_memory_has_room_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them is read again as a whole."""
    life = Life(store, DAGGER)
    lasts = []
    for number in range(4):
        made = helped(f"e{number}", robot=f"r{number}", seed=number)
        *others, last = parts(made, 5, 10, 15)
        robot = experience_subject(f"r{number}")
        found = life.intake.judge([cast("Delivery", Sent(message(*others), subject=robot))])
        life.enter(life.experience.admitted(life.journal.append(found.entries)))
        lasts.append(cast("Delivery", Sent(message(last), subject=robot)))
    monkeypatch.setattr(intake, "ROUND_BYTES", 2 * made.nbytes - 1)
    life.intake.judge(lasts)
    assert len(lasts) == 2


def test_strangers_cannot_add_to_an_episode(store: Store) -> None:
    life, made = Life(store, DAGGER), parts(helped(), 8, 12)
    life.take(made[0])
    theirs = parts(helped(robot="eve"), 8, 12)
    found = life.intake.judge(
        [
            cast(
                "Delivery",
                Sent(
                    message(theirs[0], *parts(helped(robot="eve"), first=7)),
                    subject=experience_subject("eve"),
                ),
            )
        ]
    )
    refusals = [entry.refusal and entry.refusal.code for entry in found.entries]
    assert refusals == [RejectCode.CONFLICT, RejectCode.CONFLICT]


def test_a_learner_that_dies_in_the_middle_of_an_episode_has_it_again(store: Store) -> None:
    first, second, last = parts(helped(), 8, 12)
    before = Life(store, DAGGER)
    before.take(first, second)
    after = Life(store, DAGGER)
    assert after.view == before.view
    after.take(second, last)
    assert (after.drawable, after.index.steps) == (10, 20)
    assert Life(store, DAGGER).view == after.view


def test_another_rank_that_reads_up_to_where_the_first_has_come_sees_the_same(
    store: Store,
) -> None:
    other = Life(store, DAGGER)
    first = Life(store, DAGGER)
    told = [*parts(helped("e"), 8, 12), *parts(helped("f", seed=3), 10, first=4)]
    for entry in [told[0], told[2], told[1], *told[3:]]:
        first.take(entry)
        other.enter(other.experience.admitted(other.journal.read(first.journal.position)))
        assert other.view == first.view
    assert first.drawable == 20


async def test_a_step_is_measured_once_when_it_can_be_drawn_and_an_episode_counts_at_its_end(
    store: Store,
) -> None:
    life, made = Life(store, DAGGER), helped(time=np.arange(20) * 0.5)
    now = time.time()
    for told, payload in parts(made, 8, 12):
        # As a robot's clock has it: the newest step of each part is ten seconds old.
        life.take((told.model_copy(update={"ended_at": now - 10}), payload))
    nobody = cast("Any", None)
    run = Training(
        algorithm_name="hg-dagger",
        algorithm=find("hg-dagger").create(SPACES, {"hidden": 16, "layers": 1}),
        index=ReplayIndex(
            SPACES, DAGGER, life.experience.load, load_part=life.experience.load_part
        ),
        sampler=AdaptiveSampler(len(TASKS)),
        feed=nobody,
        limiter=None,
        handoff=Handoff(),
        publisher=nobody,
        checkpointer=nobody,
        progress=Progress(),
        metrics=LearnerMetrics("default", "job"),
        epoch=1,
        offline_steps=0,
        from_scratch=True,
        by_task=Counter(),
    )
    ages = []
    for admitted in life.told:
        run.handoff.put([admitted])
        run.take_in()
        ages.append(np.concatenate([run.progress.ages.popleft(), []]))
        assert run.episodes == (admitted.news is News.JOINED)
    assert len(run.progress.latencies) == 1
    assert run.through == 3
    # Every eighth of the human's three, two and five frames, then of the policy's ten.
    assert [len(one) for one in ages] == [1, 1, 1, 2]
    newest = [7, 11, 19, 19]
    oldest = [5, 8, 15, 0]
    for one, end, begin in zip(ages, newest, oldest, strict=True):
        assert one[0] == pytest.approx(10 + (end - begin) * 0.5, abs=5)


def test_steps_are_read_again_from_parts_when_they_have_left_the_memory(store: Store) -> None:
    life = Life(store, DAGGER, cache_steps=20)
    life.take(*parts(helped("e"), 8, 12)[:2])
    life.take(*parts(helped("f", seed=3), 8, first=10)[:1])
    rows = np.array([[0, 64], [0, 0]])
    for _ in range(4):
        life.index.sample(rows, np.random.default_rng(0))
    loads = life.index.loads
    life.take(*parts(helped("g", seed=4), first=20))
    found = life.index.sample(rows, np.random.default_rng(0))
    assert life.index.loads > loads
    seen = np.concatenate(
        [helped(n, seed=s).observation for n, s in (("e", 0), ("f", 3), ("g", 4))]
    )
    assert all((seen == row).all(axis=1).any() for row in found.observation)


def test_what_leaves_the_replay_leaves_with_all_its_parts_and_the_journal_waits_for_them(
    store: Store,
) -> None:
    life = Life(store, DAGGER, max_steps=50)
    first, second, last = parts(helped("long"), 8, 12)
    life.take(first)
    life.take(*parts(helped("f", seed=3), first=10))
    life.take(second)
    # As old as its first part, whenever the others came.
    assert life.index.oldest(Side.ONLINE) == "long"
    assert life.library.position("long") == 0
    life.take(*parts(helped("g", seed=4), first=11))
    assert life.index.oldest(Side.ONLINE) == "f"
    assert life.library.position("f") == 1
    life.take(last)
    assert {one.id for one in life.index} == {"f", "g"}
    assert life.index.steps == 40


def test_what_came_whole_from_parts_is_as_old_as_its_first_part(store: Store) -> None:
    life = Life(store, CRITIC)
    first, second, last = parts(helped("long"), 8, 12)
    life.take(first)
    life.take(*parts(helped("f", seed=3), first=10))
    life.take(second)
    life.take(last)
    assert [one.id for one in life.index] == ["long", "f"]
    assert life.library.position("long") == 0


def test_a_base_counts_an_episode_in_parts_once_and_the_rest_of_it_goes_on(store: Store) -> None:
    life = Life(store, DAGGER)
    first, second, last = parts(helped("long"), 8, 12)
    for entry in (first, second, last, *parts(helped("f", seed=3), 9, first=10)):
        life.take(entry)
    segments = list(Journal(store, JOB_UID, 1).replay())
    base = retention.folded(Base(), segments, 5)
    assert base.episodes == {"push": 2}
    assert sum(one.counts for one in life.told) == 2
    half = retention.folded(Base(), segments[:2], 2)
    after = Life(store, DAGGER, half)
    # Of what the base stands for nothing is there: the last part alone is, and goes on training.
    assert {(one.id, one.part) for one in after.index} == {("long", 2), ("f", -1)}
    assert after.receipt(first[0]).through == 3


STREAMS = st.lists(
    st.tuples(
        st.lists(st.integers(1, 19), unique=True, max_size=4).map(sorted),
        st.sampled_from(["success", "failure", "timeout", "aborted", "died"]),
    ),
    min_size=1,
    max_size=4,
)
FATES = st.sampled_from(["sound"] * 8 + ["refused", "given up", "unreadable"])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(STREAMS, st.data())
def test_whatever_order_repetition_loss_and_restart_it_ends_the_same(
    stream: list[tuple[list[int], str]], data: st.DataObject
) -> None:
    """Against a model that looks at each episode's parts alone."""
    spec = data.draw(st.sampled_from([DAGGER, CRITIC]))
    entries: list[tuple[Record, bytes]] = []
    fates: dict[int, str] = {}
    wanted: dict[str, int] = {}
    for number, (cuts, outcome) in enumerate(stream):
        name, died = f"e{number}", outcome == "died"
        made = helped(name, seed=number, outcome="aborted" if died else outcome)
        mine = parts(made, *cuts, first=len(entries) + 1)
        if died and cuts:
            mine = [*mine[:-1], closing(mine[-2][0])]
        drawn = {record.n: data.draw(FATES, f"fate of {record.n}") for record, _ in mine}
        for n, (record, _) in zip(drawn, mine, strict=True):
            if record.closes:
                drawn[n] = "sound"
        fates |= drawn
        entries += mine
        wanted[name] = _expected(made, mine, drawn, cuts, spec)
    sent = [_spoiled(one, fates[one[0].n]) for one in entries]
    # The robot's next life shows that nothing more comes of the last one.
    sent += parts(episode("end", outcome="discarded"), first=len(sent) + 1)
    store = Store(f"memory://{secrets.token_hex(8)}")
    life = Life(store, spec)
    numbers = range(len(sent))
    order = data.draw(st.lists(st.sampled_from(numbers), max_size=12), "some, again and again")
    order += data.draw(st.permutations(numbers), "and all of them")
    for chosen in order:
        life.take(sent[chosen])
        if data.draw(st.integers(0, 9)) == 0:
            again = Life(store, spec)
            assert again.view == life.view
            life = again
        assert life.index.steps <= 20 * (len(stream) + 1)
        assert life.drawable <= life.index.steps
    found: dict[str, int] = dict.fromkeys(wanted, 0)
    for one in life.index:
        if one.id in found:
            found[one.id] += one.eligible
    assert found == wanted
    assert life.index.unfinished == sum(
        1 for name in wanted if any(e.id == name and e.part >= 0 for e in life.index)
    )
    assert life.receipt(sent[0][0]).through == len(sent)
    assert Life(store, spec).view == life.view


def _expected(
    made: Episode,
    mine: list[tuple[Record, bytes]],
    fates: dict[int, str],
    cuts: list[int],
    spec: SampleSpec,
) -> int:
    """How many of its steps may be drawn when all is settled."""
    sound = [fates[record.n] == "sound" for record, _ in mine]
    if made.outcome == "aborted":
        return 0
    if all(sound):
        if spec is CRITIC:
            return len(made)
        return int(made.intervention.sum())
    if len(mine) == 1 or spec is CRITIC:
        return 0
    if fates[mine[-1][0].n] in {"refused", "unreadable"}:
        return 0  # nobody says how it ended
    bounds = list(itertools.pairwise([0, *cuts, len(made)]))
    return sum(
        int(made.intervention[a:b].sum()) for (a, b), ok in zip(bounds, sound, strict=True) if ok
    )


def _spoiled(entry: tuple[Record, bytes], fate: str) -> tuple[Record, bytes]:
    record, payload = entry
    if fate == "refused":
        return record.model_copy(update={"task": "juggle"}), payload
    if fate == "given up":
        return record.model_copy(update={"evicted": True}), b""
    if fate == "unreadable":  # a tombstone of which the disk gave back nothing
        lost = {"episode_id": "", "task": "", "segment": 0, "last": True, "outcome": None}
        return record.model_copy(update=lost | {"evicted": True}), b""
    return entry
