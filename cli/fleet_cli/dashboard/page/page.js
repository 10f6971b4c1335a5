// One document every two seconds, drawn anew. All text goes in as text, never as markup.
"use strict";
const EVERY = 2000;
const SVG = "http://www.w3.org/2000/svg";
const MARKS = { done: "✓", now: "▶", ahead: "○" };
let shown = null;

const at = (id) => document.getElementById(id);

function make(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function draw(tag, where, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(where)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function row(...cells) {
  const made = make("tr");
  for (const cell of cells) {
    const td = make("td");
    td.append(cell ?? "");
    made.append(td);
  }
  return made;
}

const percent = (rate) => (rate === undefined || rate === "" ? "–" : `${Math.round(100 * rate)} %`);
const ago = (s) => (s === undefined ? "never" : s < 90 ? `${Math.round(s)} s ago` : s < 5400 ? `${Math.round(s / 60)} min ago` : `${Math.round(s / 3600)} h ago`);

function size(bytes) {
  let value = bytes;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (value < 1000 || unit === "GB") return `${value < 10 && unit !== "B" ? value.toFixed(1) : Math.round(value)} ${unit}`;
    value /= 1000;
  }
}

function head(status) {
  const job = status.job;
  document.title = `${job.name}: ${job.phase}`;
  at("job").textContent = `${job.namespace}/${job.name}`;
  const bad = job.phase === "Stalled" || job.ready === "False";
  const phase = `${bad ? "⚠" : "●"} ${job.phase}` + (job.candidate ? `, version ${job.candidate} on trial` : "");
  // Set only when it changes, or a screen reader would say it every two seconds.
  if (at("phase").textContent !== phase) at("phase").textContent = phase;
  at("phase").className = bad ? "bad" : "good";
  at("message").textContent = job.message || "";
}

function rollout(status) {
  at("awaits").textContent = status.awaits || "No version is on trial.";
  at("stages").replaceChildren(...status.stages.map((one) => make("li", `${MARKS[one.state] || ""} ${one.what} (${one.state})`, one.state)));
  at("next").replaceChildren(...status.next.map((one) => {
    const item = make("li");
    if (one.command) item.append(make("code", one.command), ": ");
    item.append(one.what);
    return item;
  }));
}

function bar(one) {
  if (!one.episodes) return make("span", "–", "soft");
  const range = `${Math.round(100 * one.low)} to ${percent(one.high)}`;
  const made = draw("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img", "aria-label": range });
  const line = (kind, x1, x2, y1, y2) => draw("line", { class: kind, x1, x2, y1, y2 });
  made.append(line("rail", 0, 100, 5, 5), line("range", 100 * one.low, 100 * one.high, 5, 5), line("at", 100 * one.rate, 100 * one.rate, 0, 10));
  const both = make("span", range);
  both.append(made);
  return both;
}

function cohorts(seen) {
  at("cohorts").replaceChildren(...seen.cohorts.map((one) =>
    row(`${one.version ?? "none"} (${one.name})`, one.robots, one.episodes ? `${percent(one.rate)} of ${one.episodes}` : percent(one.rate), bar(one))));
  at("tasks").replaceChildren(...seen.status.tasks.map((one) => row(one.name, one.episodes, percent(one.successRate))));
}

function mark(phase, x, y) {
  if (phase === "RolledBack") return draw("path", { class: "rolledback", d: `M${x - 4},${y - 4}l8,8m0,-8l-8,8` });
  return draw("circle", { class: phase === "Promoted" ? "promoted" : "other", cx: x, cy: y, r: 4 });
}

function curve(versions) {
  const tried = versions.filter((one) => one.episodes);
  const left = 38, right = 312, top = 8, bottom = 165;
  const x = (index) => (tried.length < 2 ? (left + right) / 2 : left + 8 + (index * (right - left - 16)) / (tried.length - 1));
  const y = (rate) => bottom - rate * (bottom - top);
  const parts = [0, 0.5, 1].flatMap((rate) => [
    draw("line", { class: "grid", x1: left, x2: right, y1: y(rate), y2: y(rate) }),
    draw("text", { x: 2, y: y(rate) + 3 }, percent(rate)),
  ]);
  const promoted = tried.map((one, index) => [one, index]).filter(([one]) => one.name !== "RolledBack");
  parts.push(draw("polyline", { class: "path", points: promoted.map(([one, index]) => `${x(index)},${y(one.rate)}`).join(" ") }));
  const every = Math.ceil(tried.length / 9);
  tried.forEach((one, index) => {
    const whisker = draw("line", { class: "whisker", x1: x(index), x2: x(index), y1: y(one.low), y2: y(one.high) });
    const point = mark(one.name, x(index), y(one.rate));
    point.append(draw("title", {}, `version ${one.version}, ${one.name}: ${percent(one.rate)} of ${one.episodes} episodes`));
    parts.push(whisker, point);
    if (index % every === 0) parts.push(draw("text", { x: x(index), y: bottom + 16, "text-anchor": "middle" }, `v${one.version}`));
  });
  at("curve").replaceChildren(...parts);
  const last = tried.at(-1);
  at("curve-says").textContent = last
    ? `Dot: promoted; cross: taken back; ring: neither yet. Lines: 95 % interval. The last, version ${last.version}: ${percent(last.rate)} of ${last.episodes}.`
    : "No version was judged yet.";
}

function data(seen) {
  const took = seen.status.latency;
  const within = (s) => (s === undefined ? "more than is measured" : `${s} s`);
  at("latency").textContent = took
    ? `A version acts on a robot within ${within(took.median)} of its making in half of ${took.count} cases, within ${within(took.p95)} in 95 of 100.`
    : "How long versions take is not known here: the operator's metrics cannot be read, or none was taken up yet.";
  const learner = seen.status.learner;
  at("learner").textContent = `Learner, run ${learner.run}: ${learner.stage || "not heard of"}, ${learner.step} updates.`;
  const passed = shown ? seen.at - shown.at : 0;
  const of = (from, direction, kind) => (from?.moved.find((one) => one.direction === direction && one.kind === kind)?.total ?? 0);
  const kinds = [...new Set(seen.moved.map((one) => one.kind))];
  at("moved").replaceChildren(...kinds.map((kind) => {
    const sent = of(seen, "sent", kind), received = of(seen, "received", kind);
    const more = sent + received - of(shown, "sent", kind) - of(shown, "received", kind);
    return row(kind, size(sent), size(received), passed > 0 && more >= 0 ? size(more / passed) : "–");
  }));
}

function robots(seen) {
  const wanted = at("filter").value.trim().toLowerCase();
  const by = new Map();
  for (const one of seen.robots) by.set(one.version, (by.get(one.version) ?? 0) + 1);
  const versions = [...by].sort(([a], [b]) => (b ?? 0) - (a ?? 0)).map(([version, count]) => `${count} on ${version === undefined ? "none" : `version ${version}`}`).join(", ");
  const troubled = seen.robots.filter((one) => one.trouble).length;
  at("counts").textContent = `${seen.robots.length}: ${versions}; ${troubled ? `⚠ ${troubled} in trouble` : "none in trouble"}. `;
  const chosen = seen.robots.filter((one) => !wanted || JSON.stringify(one).toLowerCase().includes(wanted));
  at("robot-rows").replaceChildren(...chosen.map((one) => row(
    one.name,
    make("span", `${one.trouble ? "⚠" : one.connected ? "●" : "○"} ${one.phase}`, one.trouble ? "bad" : one.connected ? "good" : "soft"),
    (one.version ?? "none") + (one.pending ? ` → ${one.pending}` : "") + (one.pin ? " (pinned)" : ""),
    percent(one.successRate),
    percent(one.interventionRate),
    one.spoolDepth,
    ago(one.lastSeen),
    one.trouble ?? "",
  )));
}

function show(seen) {
  head(seen.status);
  rollout(seen.status);
  cohorts(seen);
  curve(seen.versions);
  data(seen);
  robots(seen);
}

async function look() {
  try {
    const answer = await fetch("/overview.json");
    const seen = await answer.json();
    if (!answer.ok) throw new Error(seen.error);
    show(seen);
    shown = seen;
    at("stale").hidden = true;
  } catch (fault) {
    at("stale").textContent = `⚠ Not fresh: ${fault.message}`;
    at("stale").hidden = false;
  }
  setTimeout(look, EVERY);
}

at("filter").addEventListener("input", () => shown && robots(shown));
look();
