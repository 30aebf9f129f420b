// The explorer of a run: a plot of members over two objectives, limits that filter them, and one member in detail.
// Everything it shows stands in the element #run as JSON (search/explorer.py); nothing is fetched.
"use strict";

const RUN = JSON.parse(document.getElementById("run").textContent);
const $ = (id) => document.getElementById(id);
const BY_KEY = new Map(RUN.members.map((member) => [member.key, member]));
const POOLS = {
  single: RUN.members.filter((member) => member.rule && member.kind === "single"),
  cascade: RUN.members.filter((member) => member.rule && member.kind === "cascade"),
};
const AXES = new Map(RUN.axes.map((axis) => [axis.name, axis]));
const RAMP = [[68, 57, 130], [49, 104, 142], [33, 145, 140], [53, 183, 121], [180, 222, 44]]; // viridis
const STEPS = 200; // of a slider; the last one is "any"
// By name the limits in force: {text, atMost}; those of the run until they are moved.
const limits = new Map(Object.entries(RUN.limits).map(([name, limit]) => [name, { text: limit.asked, atMost: limit.at_most }]));
let selected = null, picked = null, drawn = [];

function make(name, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "text", "line", "rect", "title"].includes(name);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const short = (key) => (key.length < 16 ? key : key.slice(0, 8));
const number = (value, digits = 3) => String(Number(value.toPrecision(digits)));
const options = (axes) => axes.map((axis) => make("option", { value: axis.name }, axis.label));

// Limits and the pick

const bounds = () => [...limits].map(([name, { atMost }]) => {
  const { answers } = RUN.limits[name] ?? RUN.sliders.find((slider) => slider.name === name);
  return { name, atMost, answers };
});

function command() {
  const dropped = [...Object.keys(RUN.limits), ...RUN.unresolved].some((name) => !limits.has(name));
  const asked = [...limits].filter(([name, { text }]) => dropped || RUN.limits[name]?.asked !== text);
  const flags = asked.map(([name, { text }]) => (RUN.limits[name] ?? RUN.sliders.find((each) => each.name === name)).flag + text);
  const prefer = $("prefer").value && `--prefer ${$("prefer").value}`;
  const rest = [prefer, dropped && "--no-limits", $("kind").checked && "--cascade"];
  return ["paretoformer select", RUN.folder, ...flags, ...rest].filter(Boolean).join(" ");
}

/** A figure just above `value` in a slider's unit, so that a limit on it lets the value through. */
function roundedUp(value, { log, factor }) {
  if (!log) return Math.max(Math.ceil(value * 1e4) / 100, 0);
  const step = 10 ** (Math.floor(Math.log10(value / factor)) - 2);
  return Number((Math.ceil(value / factor / step - 1e-9) * step).toPrecision(6));
}

function setLimit(slider, value) {
  if (value === null || !Number.isFinite(value)) limits.delete(slider.name);
  else limits.set(slider.name, { text: value + slider.unit, atMost: value * slider.factor });
  showSlider(slider);
}

const lowest = (slider) => (slider.log ? slider.low * 0.8 : 0);
function atStep(slider, step) {
  if (step >= STEPS) return null;
  const share = step / (STEPS - 1), low = lowest(slider), high = Math.max(slider.high * 1.001, low + 0.01);
  return Number(slider.log ? number(low * (high / low) ** share) : (share ** 2 * high).toFixed(2)); // finer near 0
}
function toStep(slider, value) {
  const low = lowest(slider), high = Math.max(slider.high * 1.001, low + 0.01);
  const share = slider.log ? Math.log(value / low) / Math.log(high / low) : Math.sqrt(value / high);
  return Math.round(Math.min(Math.max(share, 0), 1) * (STEPS - 1));
}

function showSlider(slider) {
  const limit = limits.get(slider.name), value = limit && Number(number(limit.atMost / slider.factor, 6));
  const range = $(`range-${slider.name}`), field = $(`field-${slider.name}`);
  range.value = limit ? toStep(slider, value) : STEPS;
  range.setAttribute("aria-valuetext", limit ? `at most ${limit.text}` : "any");
  if (document.activeElement !== field) field.value = limit ? value : "";
}

function showPick() {
  const pool = POOLS[$("kind").checked ? "cascade" : "single"], asked = bounds();
  picked = pool.length ? pick(pool, asked, $("prefer").value, RUN.knee_depth) : null;
  const out = $("pick");
  out.dataset.key = picked?.key ?? "";
  if (picked) {
    const fitting = within(pool, asked).length;
    out.replaceChildren(
      make("strong", {}, "Your pick: ", link(picked.key)), ` ${picked.design}. `,
      `${summary(picked)}; ${fitting} of ${pool.length} fit${picked.verified ? "" : "; not verified yet"}.`,
    );
  } else if (!pool.length) out.replaceChildren("No sound member to pick from yet.");
  else out.replaceChildren(make("strong", {}, "Nothing fits. "), "What would have to give, the least change first: ", ...reliefs(pool, asked).flatMap(relief));
  $("command").textContent = command();
}

function relief({ member, changes }, place) {
  const settable = changes.map(({ bound, value }) => [RUN.sliders.find((each) => each.name === bound.name), bound, value]);
  const text = settable.map(([slider, bound, value]) => (slider ? `${slider.label.toLowerCase()} to ${roundedUp(value, slider)} ${slider.unit}` : bound.name)).join(" and ");
  const button = make("button", { type: "button" }, text);
  button.disabled = settable.some(([slider, , value]) => !slider || !Number.isFinite(value));
  button.onclick = () => {
    for (const [slider, , value] of settable) setLimit(slider, roundedUp(value, slider));
    update();
  };
  return [place ? "; or " : "", button, " gives ", link(member.key)];
}

const fits = (axes) => {
  for (const axis of RUN.axes) {
    const limit = limits.get(axis.limit);
    if (limit && (axis.name !== "latency" || RUN.statistic === "mean") && axes[axis.name] && axes[axis.name][0] > limit.atMost * perUnit(axis)) return false;
  }
  return true;
};
/** From a limit's unit to an axis's. */
const perUnit = (axis) => ({ pt: 100, MB: 1e-6 })[axis.unit] ?? 1;
const allowed = (member) => (member.rule ? within([member], bounds()).length > 0 : fits(member.axes));

const link = (key) => make("a", { href: `#${key}` }, make("code", {}, short(key)));
function summary(member) {
  const said = { quality: (v) => `${v.toFixed(2)} pt lost`, latency: (v) => `${v.toFixed(2)} ms`, size: (v) => `${v.toFixed(1)} MB` };
  return Object.entries(said).filter(([axis]) => member.axes[axis]).map(([axis, say]) => say(member.axes[axis][0])).join(", ");
}

// The plot

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

/** `room` leaves some beyond the outermost values, and a loss of no and of one point always in sight. */
function scale(axis, values, from, to, room = false) {
  const at = axis.log ? Math.log : Math.asinh; // asinh: linear near 0, logarithmic beyond, losses may be negative
  let low = Math.min(...values), high = Math.max(...values);
  if (room && axis.log) [low, high] = [low / 1.2, high * 1.25];
  else if (room) [low, high] = [Math.min(-0.5, low * 1.2), Math.max(1, high * 1.2)];
  const place = (value) => from + ((at(value) - at(low)) / (at(high) - at(low) || 1)) * (to - from);
  const clamped = (value) => place(Math.min(Math.max(value, low), high));
  return { axis, low, high, place, clamped, ticks: ticks(axis, low, high) };
}

function ticks({ log }, low, high) {
  const powers = Array.from({ length: 14 }, (_, i) => 10 ** (i - 5));
  const steps = powers.flatMap((power) => [1, 2, 5].map((step) => Number((step * power).toPrecision(1))));
  const all = log ? steps : [0, ...steps.filter((step) => step >= 0.5).flatMap((step) => [step, -step])];
  return all.filter((step) => step >= low && step <= high);
}

/** Colour of a value on the third axis, as a share of its range. */
function ramp(share) {
  const place = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1), i = Math.min(Math.floor(place), RAMP.length - 2);
  return `rgb(${RAMP[i].map((from, c) => Math.round(from + (RAMP[i + 1][c] - from) * (place - i)))})`;
}

const SHAPES = {
  circle: (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
  diamond: (r) => `M0 ${-1.3 * r}L${1.3 * r} 0L0 ${1.3 * r}L${-1.3 * r} 0z`,
  triangle: (r) => `M0 ${-1.3 * r}L${1.2 * r} ${0.9 * r}L${-1.2 * r} ${0.9 * r}z`,
  square: (r) => `M${-r} ${-r}h${2 * r}v${2 * r}h${-2 * r}z`,
  cross: (r) => `M${-r} ${-r}L${r} ${r}M${-r} ${r}L${r} ${-r}`,
};
const shape = (member) => (member.note ? "cross" : member.kind === "cascade" ? "diamond" : member.recipe === "search" ? "circle" : "triangle");

function draw() {
  const svg = $("plot"), width = svg.clientWidth || 640, height = Math.max(320, Math.min(560, width * 0.62));
  const [x, y, third] = ["x", "y", "colour"].map((id) => AXES.get($(id).value));
  const shown = RUN.members.filter((member) => (member.verified || $("all").checked || !POOLS.single.some((m) => m.verified)) && member.axes[x.name] && member.axes[y.name]);
  const baselines = RUN.baselines.filter(({ axes }) => axes[x.name] && axes[y.name]).sort((a, b) => a.axes[x.name][0] - b.axes[x.name][0]);
  const trials = $("all").checked ? RUN.trials.map(([key, study, quality, latency, size]) => ({ key, study, trial: true, axes: { quality: [quality], latency: [latency], size: [size] } })).filter(({ axes }) => axes[x.name] && axes[y.name]) : [];
  const framed = shown.length + baselines.length ? [...shown, ...baselines] : trials;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.style.height = `${height}px`;
  if (!framed.length) return svg.replaceChildren(make("text", { x: 16, y: 32 }, "Nothing with both figures yet."));
  const across = scale(x, framed.map((m) => m.axes[x.name][0]), 46, width - 14, true), up = scale(y, framed.map((m) => m.axes[y.name][0]), height - 42, 14, true);
  const at = (point) => [across.clamped(point.axes[x.name][0]), up.clamped(point.axes[y.name][0])];
  drawn = [...shown, ...trials].map((point) => ({ point, at: at(point) }));
  const layers = [grid(across, up, width, height), ...limitLines(across, up, width, height), ...cloud(drawn.filter(({ point }) => point.trial))];
  const colours = shown.map((member) => member.axes[third.name]?.[0]).filter((value) => value !== undefined);
  const shade = third && colours.length ? scale(third, colours, 0, 1) : null;
  const order = [...shown].sort((a, b) => (a === picked) - (b === picked) || (a.key === selected) - (b.key === selected) || a.verified - b.verified);
  svg.replaceChildren(...layers, ...order.map((member) => marker(member, at(member), across, up, shade)), ...baselines.map((each, i) => baseline(each, at(each), width, i % 2 ? 18 : -10))); // names above and below in turn
  legend(shade);
}

function grid(across, up, width, height) {
  const group = make("g", { class: "grid" });
  for (const tick of across.ticks.filter((_, i, all) => width > 500 || i % Math.ceil(all.length / 5) === 0)) {
    group.append(make("line", { x1: across.place(tick), x2: across.place(tick), y1: 14, y2: height - 42 }), make("text", { x: across.place(tick), y: height - 26, "text-anchor": "middle" }, String(tick)));
  }
  for (const tick of up.ticks) {
    group.append(make("line", { x1: 46, x2: width - 14, y1: up.place(tick), y2: up.place(tick) }), make("text", { x: 40, y: up.place(tick) + 4, "text-anchor": "end" }, String(tick)));
  }
  group.append(make("text", { x: width - 14, y: height - 6, "text-anchor": "end" }, across.axis.label), make("text", { x: 50, y: 12 }, up.axis.label));
  return group;
}

function limitLines(across, up, width, height) {
  const line = ({ axis, low, high, place }, attributes) => {
    const limit = limits.get(axis.limit), value = limit && limit.atMost * perUnit(axis);
    if (!limit || value < low || value > high || (axis.name === "latency" && RUN.statistic !== "mean")) return [];
    return [make("line", { class: "limit", ...attributes(place(value)) })];
  };
  return [...line(across, (v) => ({ x1: v, x2: v, y1: 14, y2: height - 42 })), ...line(up, (v) => ({ x1: 46, x2: width - 14, y1: v, y2: v }))];
}

/** Thousands of dominated designs as two paths of dots: within the limits, and not. */
function cloud(points) {
  const path = (kept, name) => make("path", { class: name, d: points.filter(({ point }) => fits(point.axes) === kept).map(({ at }) => `M${at[0].toFixed(1)} ${at[1].toFixed(1)}h0`).join("") });
  return [path(false, "cloud out"), path(true, "cloud")];
}

function marker(member, [left, top], across, up, shade) {
  const kind = shape(member), value = shade && member.axes[shade.axis.name]?.[0], group = make("g", { "data-key": member.key });
  group.setAttribute("class", ["member", !member.verified && "unverified", member.beaten_by.length && "beaten", !allowed(member) && "out", member.key === selected && "selected", member === picked && "picked"].filter(Boolean).join(" "));
  for (const [one, horizontal] of [[across, true], [up, false]]) {
    const [middle, low, high] = member.axes[one.axis.name];
    if (!member.verified || low === undefined || low === high || !Number.isFinite(middle)) continue;
    const [from, to] = [one.clamped(low), one.clamped(high)];
    group.append(make("line", { class: "interval", ...(horizontal ? { x1: from, x2: to, y1: top, y2: top } : { x1: left, x2: left, y1: from, y2: to }) }));
  }
  const place = `translate(${left.toFixed(1)} ${top.toFixed(1)})`, tied = BY_KEY.get(selected)?.ties.includes(member.key);
  if (member === picked || tied || member.key === selected) group.append(make("path", { class: tied && member !== picked ? "ring tied" : "ring", d: SHAPES.circle(member === picked ? 12 : 10), transform: place }));
  const colour = value === undefined || value === null ? style("--soft") : ramp(shade.clamped(value));
  group.append(make("path", { class: "mark", d: SHAPES[kind](member.verified ? 6 : 3.5), transform: place, style: member.beaten_by.length ? `stroke:${colour}` : `fill:${colour}` }));
  return group;
}

function baseline({ name }, [left, top], width, rise) {
  const right = left < width - 60;
  return make("g", { class: "baseline" }, make("path", { d: SHAPES.square(5), transform: `translate(${left} ${top})` }), make("text", { x: left + (right ? -5 : 5), y: top + rise, "text-anchor": right ? "start" : "end" }, name));
}

function legend(shade) {
  const key = (name, kind, text) => make("span", {}, make("svg", { width: 16, height: 16, viewBox: "-8 -8 16 16", "aria-hidden": "true" }, make("g", { class: name }, make("path", { class: "mark", d: SHAPES[kind](5) }))), text);
  const some = (rule) => RUN.members.some(rule), parts = [];
  if (some((m) => m.verified && !m.beaten_by.length)) parts.push(key("member", "circle", "measured"));
  if (some((m) => m.beaten_by.length)) parts.push(key("member beaten", "circle", "beaten by another"));
  if (some((m) => m.kind === "cascade")) parts.push(key("member", "diamond", "cascade"));
  if (some((m) => m.recipe !== "search" && m.kind !== "cascade")) parts.push(key("member", "triangle", "recipe or distilled"));
  if (some((m) => m.note)) parts.push(key("member", "cross", "not sound"));
  if (RUN.baselines.length) parts.push(key("baseline", "square", "baseline"));
  parts.push(make("span", {}, make("i", { class: "dash" }), "limit"), make("span", {}, make("i", { class: "circle" }), "pick"), make("span", {}, make("i", { class: "circle dashed" }), "cannot be told from the open member"));
  if (shade) {
    const stops = RAMP.map((_, i) => ramp(i / (RAMP.length - 1)));
    parts.push(make("span", {}, number(shade.low), make("i", { class: "ramp", style: `background:linear-gradient(90deg,${stops})` }), `${number(shade.high)} ${shade.axis.label}`));
  }
  $("legend").replaceChildren(...parts);
}

/** What is drawn within reach of the pointer; members win over dominated designs. */
function near(event, reach = 18) {
  const box = $("plot").getBoundingClientRect(), [x, y] = [event.clientX - box.left, event.clientY - box.top];
  const found = drawn.map(({ point, at }) => ({ point, at, far: Math.hypot(at[0] - x, at[1] - y) + (point.trial ? 6 : 0) })).filter(({ far }) => far < reach);
  return found.length ? found.reduce((a, b) => (b.far < a.far ? b : a)) : null;
}

function hover(event) {
  const found = event && near(event), tip = $("tip");
  tip.hidden = !found;
  if (!found) return;
  tip.textContent = `${short(found.point.key)}: ${summary(found.point)}${found.point.picks?.length ? ` (${found.point.picks.join(", ")})` : ""}`;
  tip.style.left = `${Math.min(found.at[0], $("plot").clientWidth - tip.offsetWidth - 4)}px`;
  tip.style.top = `${found.at[1] + 14}px`;
}

/** The next member along the horizontal axis, for the arrow keys. */
function walk(step) {
  const order = drawn.filter(({ point }) => !point.trial).sort((a, b) => a.at[0] - b.at[0] || a.at[1] - b.at[1]);
  const now = order.findIndex(({ point }) => point.key === selected);
  const next = order[Math.min(Math.max(now < 0 ? 0 : now + step, 0), order.length - 1)];
  if (next) open(next.point.key);
}

// One member

/** The member that loses least among those at least a notch cheaper on `axis`. */
function notch(member, axis) {
  const cheaper = (POOLS[member.kind] ?? []).filter((other) => other.rule[axis] * (1 + RUN.same_time) < member.rule[axis]);
  return cheaper.length ? first(cheaper, ({ rule, key }) => [rule.drop, -rule[axis], key]) : null;
}

function notches(member) {
  if (!member.rule) return [];
  return [["latency", "faster"], ["size", "smaller"]].map(([axis, word]) => {
    const other = notch(member, axis);
    if (!other) return make("li", {}, `Nothing measured is ${word}.`);
    const ratio = (name, more, less, same) => {
      const percent = Math.round((other.rule[name] / member.rule[name] - 1) * 100);
      return percent ? `${Math.abs(percent)} % ${percent > 0 ? more : less}` : same;
    };
    const points = (other.rule.drop - member.rule.drop) * 100;
    return make("li", {}, `One notch ${word}: `, link(other.key), ` is ${ratio("latency", "slower", "faster", "as fast")} and ${ratio("size", "larger", "smaller", "as large")}, and loses ${Math.abs(points).toFixed(2)} points ${points < 0 ? "less" : "more"}.`);
  });
}

function strip(layers) {
  const rows = [["heads", (l) => l[0] === null ? null : [`${l[0]}/${l[1]}`, l[0] / l[1]]], ["neurons", (l) => l[2] === null ? null : [String(l[2]), l[2] / (l[3] || l[2])]], ["attention", (l) => [l[4]]], ["bits, attention", (l) => l[5] && [String(l[5]), l[5] / 32]], ["bits, neurons", (l) => l[6] && [String(l[6]), l[6] / 32]]];
  const head = make("tr", {}, make("th", { scope: "col" }, "layer"), ...layers.map((_, i) => make("th", { scope: "col" }, String(i + 1))));
  const body = rows.filter(([, cell]) => layers.some((layer) => layer && cell(layer))).map(([name, cell]) => make("tr", {}, make("th", { scope: "row" }, name), ...layers.map((layer) => {
    const [text, share] = (layer && cell(layer)) || ["–", 0];
    return make("td", layer && share !== undefined ? { style: `--share:${(share * 100).toFixed(0)}%` } : layer ? {} : { class: "gone" }, text);
  })));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "What is left of each layer" }, make("table", { class: "strip" }, make("caption", {}, "What is left of each layer; – is a layer that is gone"), head, ...body));
}

function detail(member) {
  const facts = make("dl", { class: "facts" }, ...member.facts.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]));
  const standing = [member.note, member.beaten_by.length && `beaten by ${member.beaten_by.map(short).join(", ")}`, member.ties.length && `cannot be told from ${member.ties.map(short).join(", ")}`].filter(Boolean).join("; ");
  const head = make("tr", {}, ...["split", "rows", `${RUN.metric} [95 %]`, "points lost [95 %]"].map((text) => make("th", { scope: "col" }, text)));
  const splits = make("table", {}, head, ...member.splits.map(([split, ...cells]) => make("tr", {}, make("th", { scope: "row" }, split), ...cells.map((text) => make("td", {}, text)))));
  return [
    make("h3", {}, make("code", {}, member.key), member.picks.length ? ` (${member.picks.join(", ")})` : ""),
    make("p", {}, `${member.design}.${member.verified ? "" : " Not verified: figures are those of the search."}`),
    ...(standing ? [make("p", { class: "soft" }, standing)] : []),
    ...(member.layers.length ? [strip(member.layers)] : []),
    make("ul", {}, ...notches(member)),
    make("div", { class: "scroll" }, splits),
    facts,
  ];
}

function open(key) {
  const member = BY_KEY.get(key), trial = RUN.trials.find((row) => row[0] === key);
  if (!member && !trial) return;
  selected = key;
  const box = $("member");
  box.hidden = false;
  box.dataset.key = key;
  if (member) box.replaceChildren(...detail(member));
  else box.replaceChildren(make("h3", {}, make("code", {}, key)), make("p", {}, `Dominated, from the study ${trial[1]}: ${trial[2].toFixed(2)} pt lost on search rows, ${trial[3].toFixed(2)} ms, ${trial[4].toFixed(1)} MB. Its knobs stand in trials.csv.`));
  draw();
}

// Wiring

function update() {
  showPick();
  draw();
}

function addSlider(slider) {
  const range = make("input", { type: "range", id: `range-${slider.name}`, min: 0, max: STEPS, "aria-label": `${slider.label}, at most` });
  const field = make("input", { type: "number", id: `field-${slider.name}`, min: 0, step: "any", placeholder: "any", inputmode: "decimal" });
  range.oninput = () => { setLimit(slider, atStep(slider, Number(range.value))); update(); };
  field.oninput = () => { setLimit(slider, field.value === "" || !(Number(field.value) >= (slider.log ? 1e-6 : 0)) ? null : Number(field.value)); update(); };
  const label = slider.name === "latency" && RUN.statistic === "p95" ? "p95 latency" : slider.label;
  $("sliders").append(make("div", { class: "slider" }, make("label", { for: `field-${slider.name}` }, `${label} ≤`), range, field, make("span", {}, slider.unit)));
  showSlider(slider);
}

function start() {
  RUN.sliders.forEach(addSlider);
  const names = RUN.axes.map((axis) => axis.name);
  for (const [id, name] of [["x", "latency"], ["y", "quality"], ["colour", "size"]]) {
    $(id).append(...options(RUN.axes));
    $(id).value = names.includes(name) ? name : names[0];
    $(id).onchange = draw;
  }
  $("kind").parentElement.hidden = !POOLS.cascade.length;
  $("prefer").onchange = $("kind").onchange = update;
  $("all").onchange = draw;
  $("plot").onclick = (event) => { const found = near(event); if (found) location.hash = found.point.key; };
  $("plot").onpointermove = hover;
  $("plot").onpointerleave = () => hover(null);
  $("plot").onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) { event.preventDefault(); walk(step); }
  };
  $("copy").onclick = async () => {
    getSelection().selectAllChildren($("command"));
    $("copy").textContent = document.execCommand("copy") ? "Copied" : "Selected";
  };
  addEventListener("hashchange", () => open(decodeURIComponent(location.hash.slice(1))));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(draw).observe($("plot").parentElement);
  update();
  open(decodeURIComponent(location.hash.slice(1)));
}

start();
performance.mark("drawn");
