"""Views → text for people. Pure; the same in a terminal, a pipe and a golden file."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import TYPE_CHECKING

from fleet_cli.oncall.tables import NONE, age, size, table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet_cli.oncall import views
    from fleet_cli.oncall.keys import Begun

TROUBLED = 10  # robots on the screen; the rest are counted
MARK = {"done": "✓", "now": "▸", "ahead": "·"}


def jobs(items: Iterable[views.Job]) -> list[str]:
    head = ["JOB", "PHASE", "READY", "POLICY", "CANDIDATE", "STAGE", "ROBOTS", "SUCCESS", "AGE"]
    return table(
        head,
        (
            (
                one.name, one.phase, one.ready, one.stable, one.candidate, one.stage,
                f"{one.robots.connected}/{one.robots.desired}", one.success_rate, age(one.age),
            )
            for one in items
        ),
    )  # fmt: skip


def robots(items: Iterable[views.Robot]) -> list[str]:
    head = ["ROBOT", "JOB", "MODE", "PHASE", "POLICY", "SUCCESS", "SPOOL", "SEEN", "TROUBLE"]
    return table(
        head,
        (
            (
                one.name, one.job, one.mode, one.phase, _policy(one), one.success_rate,
                one.spool_depth, age(one.last_seen), one.trouble,
            )
            for one in items
        ),
    )  # fmt: skip


def history(view: views.History) -> list[str]:
    head = ["VERSION", "PHASE", "STEP", "ROBOTS", "EPISODES", "SUCCESS", "AGE", "WHY"]
    lines = table(
        head,
        (
            (
                f"{one.version}{' *' if one.stable else ''}", one.phase, one.step, one.robots,
                one.episodes, one.success_rate, age(one.age), one.message,
            )
            for one in view.items
        ),
    )  # fmt: skip
    kept = {one.version for one in view.items}
    gone = [str(one) for one in view.rolled_back if one not in kept]
    if gone:
        lines.append(f"taken back and no longer kept: {', '.join(gone)}")
    return [*lines, "* what the fleet runs"] if any(one.stable for one in view.items) else lines


def status(view: views.Status) -> list[str]:
    """One screen; a line that does not begin with a space is a heading."""
    job = view.job
    lines = [f"{job.name} in namespace {job.namespace}: {job.phase or 'Unknown'}"]
    lines += [f"  {job.message}"] if job.message else []
    lines += ["", f"ROLLOUT  {view.mode}, {view.strategy}", *_rollout(view)]
    if view.next:
        lines += ["", "NEXT", *(f"  {line}" for line in _steps(view.next))]
    fleet = job.robots
    counts = f"{fleet.connected} of {fleet.desired} connected, {fleet.synced} on their version"
    lines += ["", f"ROBOTS  {counts}"]
    if view.cohorts:
        lines += [f"  {line}" for line in _cohorts(view.cohorts)]
    for one in view.troubled[:TROUBLED]:
        seen = "never seen" if one.last_seen is None else f"seen {age(one.last_seen)} ago"
        lines.append(f"  ! {one.name} ({one.phase or 'new'}, {seen}): {one.trouble}")
    if (more := len(view.troubled) - TROUBLED) > 0:
        lines.append(f"  ! and {more} more: `fleet robots list --job {job.name}`")
    learner = view.learner
    goal = f" of {learner.goal_step}" if learner.step < learner.goal_step else ""
    stage = f"{learner.stage}, step {learner.step}{goal}" if learner.stage else "not heard of yet"
    lines += ["", f"LEARNER  run {learner.run}: {stage}"]
    lines += [f"  {learner.message}"] if learner.message else []
    if (known := view.latency) is not None:
        half, most = (_bound(one) for one in (known.median, known.p95))
        lines += ["", f"LATENCY  version made → acting: half {half}, 95 % {most}"]
        lines[-1] += f" ({known.count} measured)"
    if view.tasks:
        lines += ["", "TASKS"]
        rows = ((one.name, one.success_rate, one.episodes) for one in view.tasks)
        lines += [f"  {line}" for line in table(["TASK", "SUCCESS", "EPISODES"], rows)]
    return lines


def lineage(view: views.Lineage) -> list[str]:
    fresh = "" if view.fresh_episodes is None else f", {view.fresh_episodes} not behind its parent"
    data = f"journal segments {view.first_segment} to {view.last_segment}"
    lines = [
        f"{view.name}: version {view.version} of {view.job}, {size(view.size)}",
        f"  manifest  {view.uri}  {view.digest}",
        f"  learner   epoch {view.learner_epoch}, step {view.step}",
        f"  data      {data}: {view.episodes} online episodes{fresh}",
    ]
    if view.training_metrics:
        told = ", ".join(f"{name} {value:.4g}" for name, value in view.training_metrics.items())
        lines.append(f"  measured  {told}")
    if view.ancestors:
        rows = (
            (one.version, one.phase if one.kept else "not kept", one.step, one.episodes)
            for one in view.ancestors
        )
        lines += ["", "ANCESTORS"]
        lines += [f"  {line}" for line in table(["VERSION", "PHASE", "STEP", "EPISODES"], rows)]
    if view.trained is not None:
        counts = Counter((one.task, one.outcome, one.version) for one in view.trained)
        found = ((*what, count) for what, count in sorted(counts.items(), key=str))
        lines += ["", "TRAINED ON"]
        lines += [f"  {line}" for line in table(["TASK", "OUTCOME", "ACTED", "EPISODES"], found)]
        if view.forgotten:
            lines.append(f"  and {view.forgotten} whose records have left the journal")
    return [*lines, "", "NOT KNOWN HERE", *(f"  {one}" for one in view.unknown)]


def episode(view: views.EpisodeOrigin) -> list[str]:
    """One episode."""
    if view.refused:
        fate = f"refused: {view.refused}"
    elif view.evicted:
        fate = "its robot gave its payload up"
    else:
        fate = f"in the snapshots of versions {_ranges(view.learned)}"
    acted = "none" if view.version is None else f"version {view.version}  {view.manifest}"
    return [
        f"{view.id}: {view.task}, {view.outcome or 'no outcome'}, {view.mode}, of {view.job}",
        f"  robot     {view.robot}, record {view.number} of spool {view.spool}",
        f"  acted     {acted}, assignment {view.assignment_epoch}",
        f"  journal   segment {view.segment}",
        f"  learned   {fate}",
    ]


def _ranges(numbers: list[int]) -> str:
    """Runs of numbers as first-last."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) or "none"


def checkup(view: views.Checkup) -> list[str]:
    lines = []
    for one in view.checks:
        lines.append(f"{'ok     ' if one.ok else 'problem'}  {one.name}: {one.found}")
        if one.remedy:
            lines.append(f"         → {one.remedy}")
    return lines


def enrolled(view: views.Enrolled) -> list[str]:
    """A file of variables, and what is to be done with it."""
    lines = [f"# Robot {view.robot} of job {view.job}: what its program needs."]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in view.environment.items()]
    lines += [f"# missing: {one}" for one in view.missing]
    for file, keys in view.trust.items():
        lines.append(f"# The file {file} in FLEET_TRUST_DIR holds:")
        lines += [f"#   {key}" for key in keys.splitlines() if key and not key.startswith("#")]
    if view.authorities:
        lines.append("# The file FLEET_NATS_CA holds:")
        lines += [f"#   {line}" for line in view.authorities.splitlines()]
    if view.credentials:
        lines.append("# The file FLEET_NATS_CREDENTIALS holds (whoever has it is this robot):")
        lines += [f"#   {line}" for line in view.credentials.splitlines()]
    return [
        *lines,
        "# FLEET_SPOOL_DIR must lie on a disk that outlives the program.",
        "# Then, on the robot: python -m fleet_runtime.robot",
        "# Or all at once: this with --output json into a file, and there: fleet robot run FILE",
    ]


def rotating(begun: Begun) -> list[str]:
    """While both keys are believed and the old one signs."""
    lines = [
        f"The new key is known; it signs in {begun.overlap:g} s.",
        "Leave this running: ended now, the old key signs on.",
    ]
    if begun.outside:
        lines.append(f"Robots outside: {', '.join(begun.outside)}.")
        lines.append(f"Their file {begun.role} in FLEET_TRUST_DIR needs this line by then:")
        lines.append(f"  {begun.public}")
        lines.append("One without it keeps what it runs and refuses what is new.")
    return lines


def rotated(view: views.Rotation) -> list[str]:
    """What was done, and what is next."""
    lines = [f"Key {view.key} of the {view.role} follows {', '.join(view.old) or 'none'}."]
    return lines + [f"  next: {one}" for one in view.next]


def _rollout(view: views.Status) -> list[str]:
    job = view.job
    runs = f"the fleet runs version {job.stable}" if job.stable else "the fleet has no version yet"
    if job.candidate is None:
        lines = [f"  no version is under trial, {runs}"]
    else:
        lines = [f"  version {job.candidate} is under trial, {runs}"]
    if view.took is not None:
        lines[0] += f", promoted {age(view.took)} after it was made"
    lines += [f"  {MARK[stage.state]} {stage.what}" for stage in view.stages]
    return lines + ([f"  {view.awaits}"] if view.awaits else [])


def _cohorts(cohorts: Iterable[views.Cohort]) -> list[str]:
    head = ["VERSION", "ROLE", "ROBOTS", "ON IT", "CONNECTED"]
    head += ["EPISODES", "SUCCESS", "TAKEOVERS", "GUARD"]
    return table(
        head,
        (
            (
                one.version, one.role, one.robots, one.on_it, one.connected, one.episodes,
                one.success_rate, one.interventions, one.guard_trips,
            )
            for one in cohorts
        ),
    )  # fmt: skip


def _steps(steps: Iterable[views.Step]) -> list[str]:
    steps = list(steps)
    width = max(len(one.command) for one in steps)
    return [f"{one.command:<{width}}  {one.what}" if one.command else one.what for one in steps]


def _bound(seconds: float | None) -> str:
    return "beyond measure" if seconds is None else f"within {seconds:g}s"


def _policy(one: views.Robot) -> str:
    shown = NONE if one.version is None else str(one.version)
    shown += f"→{one.pending}" if one.pending not in {None, one.version} else ""
    return f"{shown} (pin {one.pin})" if one.pin else shown
