// Shows /status, again every two seconds while the page is visible. Whatever comes from outside is set as text.
// FIGURES stands above this when it is served: the words of figures that have no place of their own here.
"use strict";

const EVERY_MS = 2000;
const TIMEOUT_MS = 5000;
const MOST_STREAMS = 40;
const number = new Intl.NumberFormat();
const $ = (id) => document.getElementById(id);
let seenAt = null;

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) { bytes /= 1024; unit += 1; }
  return `${unit ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}

function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  for (const [unit, length] of [["d", 86400], ["h", 3600]]) {
    if (seconds >= length) return `${(seconds / length).toFixed(1)} ${unit}`;
  }
  return `${Math.round(seconds / 60)} min`;
}

function until(ms) {
  return ms === null ? "–" : ms <= Date.now() ? "now" : `in ${duration((ms - Date.now()) / 1000)}`;
}

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function figures(id, pairs) {
  $(id).replaceChildren(...pairs.map(([name, value]) => {
    const pair = document.createElement("div");
    pair.append(element("dt", name), element("dd", value));
    return pair;
  }));
}

// Each cell is [text, class]; the first one names the row.
function rows(id, lines) {
  $(id).replaceChildren(...lines.map((cells) => {
    const row = document.createElement("tr");
    cells.forEach(([text, className], index) => {
      const cell = element(index ? "td" : "th", text, className);
      if (!index) cell.scope = "row";
      row.append(cell);
    });
    return row;
  }));
}

function state(text, className) {
  const badge = $("state");
  if (badge.textContent !== text) badge.textContent = text;  // or a screen reader would say it again and again
  badge.className = `badge ${className}`;
  document.title = `${text} · bkmonitor-sidecar`;
}

function show(s) {
  last = s;
  seenAt = Date.now();
  state(s.state, s.state);
  $("about").textContent = `version ${s.version}, process ${s.pid}, up ${duration((Date.now() - s.started_at) / 1000)}`;
  reasons(s.reasons);
  $("seen").hidden = !s.streams.some((t) => t.dead_unseen > t.damaged);

  const b = s.books;
  $("balance").textContent = b.balanced
    ? "accepted = queued + delivered + dead + dropped: balanced"
    : "accepted = queued + delivered + dead + dropped: NOT BALANCED, please report this bug";
  $("balance").className = b.balanced ? "ok" : "failing";
  figures("books", ["accepted", "queued", "delivered", "dead", "dropped"].map((k) => [k, number.format(b[k])]));

  const q = s.queue;
  const full = q.max_bytes > 0 ? q.bytes / q.max_bytes : 1;
  $("fill").value = full;
  $("fill").textContent = `${Math.round(100 * full)} % full`;
  figures("queue", [
    ["in use", `${size(q.bytes)} of ${size(q.max_bytes)}`],
    ["oldest event", b.queued ? `${duration(q.oldest_age_s)} old` : "–"],
    ["grows by", `${size(Math.max(0, q.fill_per_s))}/s`],
    ["full in", q.full_in_s === null ? "–" : duration(q.full_in_s)],
    ["through in about", q.through_in_s === null ? "–" : duration(q.through_in_s)],
    ["also", more(q, FIGURES.queue) || "–"],
  ]);

  const streams = interesting(s.streams);
  $("more").hidden = s.streams.length <= MOST_STREAMS;
  $("more").textContent = streams.length < s.streams.length
    ? `Show all ${number.format(s.streams.length)} streams` : "Show those in which most is going on";
  rows("streams", streams.map((t) => [
    [t.name === String(t.data_id) ? t.name : `${t.name} (${t.data_id})`], [t.state + aside(t.lanes), t.state],
    ...["accepted", "queued", "delivered", "dead", "dropped"].map((k) => [number.format(t[k]), "n"]),
    [t.queued ? duration(t.oldest_age_s) : "–", "n"], [number.format(t.rate_per_min), "n"],
    [until(t.next_attempt_at), "n"], [t.last_error ?? (t.waits_for ? `waits: ${t.waits_for}` : "")],
  ]));
  rows("proxies", s.proxies.map((p) => [[p.url], [p.state, p.state], [until(p.retry_at), "n"], [p.last_error ?? ""]]));
  rows("inputs", s.inputs.map((i) => [
    [i.name], [i.kind], [number.format(i.events), "n"], [size(i.bytes), "n"], [number.format(i.rejected), "n"],
    [more(i, FIGURES.inputs)],
  ]));
}

let all = false;
let last = null;

// What has trouble first, then what waits, then what does most; as `sidecar status` has it.
function interesting(streams) {
  if (all || streams.length <= MOST_STREAMS) return streams;
  const order = (t) => [t.last_error === null ? 1 : 0, -t.queued, -t.dead, -t.accepted];
  return streams.map((t) => [order(t), t]).sort(([a], [b]) => {
    const i = a.findIndex((value, place) => value !== b[place]);
    return i < 0 ? 0 : a[i] - b[i];
  }).slice(0, MOST_STREAMS).map(([, t]) => t);
}

// Figures that are not zero, in words, as `sidecar status` has them.
function more(part, figures) {
  return Object.entries(figures).flatMap(([name, figure]) => {
    const field = part[name];
    const numbers = field !== null && typeof field === "object" ? Object.entries(field) : [["", field]];
    return numbers.filter(([, n]) => n).map(([key, n]) => {
      const name = key ? `${figure.words} (${key})` : figure.words;
      return `${name}: ${figure.size ? size(n) : number.format(n)}`;
    });
  }).join(", ");
}

function aside(lanes) {
  const others = lanes.filter((lane) => lane.name !== "fresh").map((lane) => `${number.format(lane.queued)} ${lane.name}`);
  return others.length ? ` (${others.join(", ")})` : "";
}

function reasons(list) {
  $("reasons-section").hidden = list.length === 0;
  $("reasons").replaceChildren(...list.map((reason) => element("li", reason)));
}

function gone() {
  state("not reachable", "gone");
  $("seen").hidden = true;
  reasons([seenAt === null
    ? "The sidecar does not answer."
    : `The sidecar does not answer; what stands below is from ${new Date(seenAt).toLocaleTimeString()}.`]);
}

async function look() {
  if (!document.hidden) {
    try {
      const answer = await fetch("status", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      show(await answer.json());
    } catch {
      gone();
    }
  }
  setTimeout(look, EVERY_MS);
}

$("seen").addEventListener("click", async () => {
  $("seen").hidden = true;
  await fetch("dead/seen", { method: "POST", body: JSON.stringify({ through_id: last.queue.last_dead }) });
});
$("more").addEventListener("click", () => {
  all = !all;
  if (last !== null) show(last);
});
look();
