// The plot of members over two objectives, drawn anew whenever something changes.

const RAMP = [
  [68, 57, 130],
  [49, 104, 142],
  [33, 145, 140],
  [53, 183, 121],
  [180, 222, 44],
]; // viridis

const FAR = 3; // times beyond the members, baselines stand on the edge, with their figure
const [LEFT, RIGHT, TOP, BOTTOM] = [46, 14, 14, 42]; // of the axes, for what stands beside them

/** `room` leaves some beyond the outermost values, and a loss of no and of one point always in sight. */
function scale(axis, values, from, to, room = false) {
  const at = axis.log ? Math.log : Math.asinh; // asinh: linear near 0, logarithmic beyond, losses may be negative
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (room && axis.log) [low, high] = [low / 1.2, high * 1.25];
  else if (room) [low, high] = [Math.min(-0.5, low * 1.2), Math.max(1, high * 1.2)];
  const place = (value) => from + ((at(value) - at(low)) / (at(high) - at(low) || 1)) * (to - from);
  const clamped = (value) => place(Math.min(Math.max(value, low), high));
  return { axis, low, high, to, place, clamped, ticks: ticks(axis, low, high) };
}

function ticks({ log }, low, high) {
  const powers = Array.from({ length: 14 }, (_, i) => 10 ** (i - 5));
  const steps = powers.flatMap((power) => [1, 2, 5].map((step) => Number((step * power).toPrecision(1))));
  const all = log ? steps : [0, ...steps.filter((step) => step >= 0.5).flatMap((step) => [step, -step])];
  return all.filter((step) => step >= low && step <= high);
}

/** Colour of a value on the third axis, as a share of its range. */
function ramp(share) {
  const place = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1),
    i = Math.min(Math.floor(place), RAMP.length - 2);
  return `rgb(${RAMP[i].map((from, c) => Math.round(from + (RAMP[i + 1][c] - from) * (place - i)))})`;
}

const SHAPES = {
  circle: (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
  diamond: (r) => `M0 ${-1.3 * r}L${1.3 * r} 0L0 ${1.3 * r}L${-1.3 * r} 0z`,
  triangle: (r) => `M0 ${-1.3 * r}L${1.2 * r} ${0.9 * r}L${-1.2 * r} ${0.9 * r}z`,
  square: (r) => `M${-r} ${-r}h${2 * r}v${2 * r}h${-2 * r}z`,
  cross: (r) => `M${-r} ${-r}L${r} ${r}M${-r} ${r}L${r} ${-r}`,
};
function shape(member) {
  if (member.note) return "cross";
  if (member.kind === "cascade") return "diamond";
  return member.recipe === "search" ? "circle" : "triangle";
}

function draw() {
  const svg = $("plot");
  const width = svg.clientWidth || 640;
  const height = Math.max(320, Math.min(560, width * 0.62));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.style.height = `${height}px`;
  const [x, y, third] = ["x", "y", "colour"].map((id) => AXES.get($(id).value));
  const both = ({ axes }) => axes[x.name] && axes[y.name];
  const everything = $("all").checked || !POOLS.single.some((member) => member.verified);
  const members = RUN.members.filter((member) => both(member) && (member.verified || everything));
  const baselines = RUN.baselines.filter(both).sort((a, b) => a.axes[x.name][0] - b.axes[x.name][0]);
  const trials = $("all").checked ? TRIALS.filter(both) : [];
  const framed = [members, baselines, trials].find((points) => points.length);
  if (!framed) return svg.replaceChildren(make("text", { x: 16, y: 32 }, "Nothing with both figures yet."));
  const values = (axis, points) => points.flatMap(({ axes }) => axes[axis.name]?.[0] ?? []);
  const frame = (axis, from, to) => {
    const own = values(axis, framed);
    const near = (value) => !axis.log || (value > Math.min(...own) / FAR && value < Math.max(...own) * FAR);
    return scale(axis, [...own, ...values(axis, baselines).filter(near)], from, to, true);
  };
  const across = frame(x, LEFT, width - RIGHT);
  const up = frame(y, height - BOTTOM, TOP);
  const colours = values(third, members);
  const shade = colours.length ? scale(third, colours, 0, 1) : null;
  const at = ({ axes }) => [across.clamped(axes[x.name][0]), up.clamped(axes[y.name][0])];
  drawn = [...members, ...trials].map((point) => ({ point, at: at(point) }));
  const rank = (member) => 4 * (member === picked) + 2 * (member.key === selected) + member.verified; // later is above
  svg.replaceChildren(
    grid(across, up, width, height),
    ...limitLines(across, up, width, height),
    ...cloud(drawn.filter(({ point }) => point.trial)),
    ...members.toSorted((a, b) => rank(a) - rank(b)).map((member) => marker(member, at(member), across, up, shade)),
    // Names of neighbours stand above and below in turn.
    ...baselines.map((each, i) => baseline(each, at(each), [across, up], i % 2 ? 18 : -10)),
  );
  legend(shade);
}

function grid(across, up, width, height) {
  const line = (x1, y1, x2, y2) => make("line", { x1, y1, x2, y2 });
  const text = (x, y, anchor, said) => make("text", { x, y, "text-anchor": anchor }, String(said));
  const [right, bottom] = [width - RIGHT, height - BOTTOM];
  const sparse = (ticks) => (width > 500 ? ticks : ticks.filter((_, i) => i % Math.ceil(ticks.length / 5) === 0));
  return make(
    "g",
    { class: "grid" },
    ...sparse(across.ticks).map((tick) => line(across.place(tick), TOP, across.place(tick), bottom)),
    ...sparse(across.ticks).map((tick) => text(across.place(tick), bottom + 16, "middle", tick)),
    ...up.ticks.map((tick) => line(LEFT, up.place(tick), right, up.place(tick))),
    ...up.ticks.map((tick) => text(LEFT - 6, up.place(tick) + 4, "end", tick)),
    text(right, height - 6, "end", across.axis.label),
    text(LEFT + 4, TOP - 2, "start", up.axis.label),
  );
}

function limitLines(across, up, width, height) {
  const line = ({ axis, low, high, place }, ends) => {
    const limit = limitOn(axis);
    return limit >= low && limit <= high ? [make("line", { class: "limit", ...ends(place(limit)) })] : [];
  };
  return [
    ...line(across, (v) => ({ x1: v, x2: v, y1: TOP, y2: height - BOTTOM })),
    ...line(up, (v) => ({ x1: LEFT, x2: width - RIGHT, y1: v, y2: v })),
  ];
}

/** Thousands of dominated designs as two paths of dots: within the limits, and not. */
function cloud(points) {
  const kept = [];
  const out = [];
  for (const { point, at } of points) {
    (fits(point.axes) ? kept : out).push(`M${at[0].toFixed(1)} ${at[1].toFixed(1)}h0`);
  }
  return [make("path", { class: "cloud out", d: out.join("") }), make("path", { class: "cloud", d: kept.join("") })];
}

function marker(member, [left, top], across, up, shade) {
  const tied = BY_KEY.get(selected)?.ties.includes(member.key);
  const states = {
    unverified: !member.verified,
    beaten: member.beaten_by.length,
    out: !allowed(member),
    selected: member.key === selected,
    picked: member === picked,
    tied,
  };
  const group = make("g", { class: ["member", ...Object.keys(states).filter((name) => states[name])].join(" ") });
  group.dataset.key = member.key;
  if (member.verified) {
    const [from, to] = member.axes[across.axis.name].slice(1).map(across.clamped);
    const [low, high] = member.axes[up.axis.name].slice(1).map(up.clamped);
    group.append(make("path", { class: "interval", d: `M${from} ${top}H${to}M${left} ${low}V${high}` }));
  }
  const transform = `translate(${left.toFixed(1)} ${top.toFixed(1)})`;
  if (states.picked || states.selected || tied) {
    group.append(make("path", { class: "ring", d: SHAPES.circle(states.picked ? 12 : 10), transform }));
  }
  const value = shade && member.axes[shade.axis.name]?.[0];
  const colour = value == null ? "var(--soft)" : ramp(shade.clamped(value));
  const paint = `${member.beaten_by.length ? "stroke" : "fill"}: ${colour}`;
  group.append(
    make("path", { class: "mark", d: SHAPES[shape(member)](member.verified ? 6 : 3.5), transform, style: paint }),
  );
  return group;
}

function baseline({ name, axes }, [left, top], scales, rise) {
  const right = left < (LEFT + scales[0].to) / 2;
  const beyond = scales.filter(({ axis, low, high }) => axes[axis.name][0] < low || axes[axis.name][0] > high);
  const figures = beyond.map(({ axis }) => `${number(axes[axis.name][0])} ${axis.unit}`);
  const y = top + (top < 3 * TOP ? 18 : rise);
  const place = { x: left + (right ? -5 : 5), y, "text-anchor": right ? "start" : "end" };
  return make(
    "g",
    { class: "baseline" },
    make("path", { d: SHAPES.square(5), transform: `translate(${left} ${top})` }),
    make("text", place, [name, ...figures].join(", ")),
  );
}

function legend(shade) {
  const has = (rule) => RUN.members.some(rule);
  const drawings = [
    [has((m) => m.verified && !m.beaten_by.length), "member", "circle", "measured"],
    [has((m) => m.beaten_by.length), "member beaten", "circle", "beaten by another"],
    [has((m) => m.kind === "cascade"), "member", "diamond", "cascade"],
    [has((m) => m.recipe !== "search" && m.kind !== "cascade"), "member", "triangle", "recipe or distilled"],
    [has((m) => m.note), "member", "cross", "not sound"],
    [RUN.baselines.length, "baseline", "square", "baseline"],
  ];
  const lines = [
    [limits.size, "dash", "limit"],
    [picked, "circle", "pick"],
    [has((m) => m.ties.length), "circle dashed", "cannot be told from the open member"],
  ];
  const parts = drawings
    .filter(([shown]) => shown)
    .map(([, name, kind, text]) => {
      const mark = make("g", { class: name }, make("path", { class: "mark", d: SHAPES[kind](5) }));
      const svg = make("svg", { width: 16, height: 16, viewBox: "-8 -8 16 16", "aria-hidden": "true" }, mark);
      return make("span", {}, svg, text);
    });
  parts.push(
    ...lines.filter(([shown]) => shown).map(([, name, text]) => make("span", {}, make("i", { class: name }), text)),
  );
  if (shade) {
    const stops = RAMP.map((_, i) => ramp(i / (RAMP.length - 1)));
    const bar = make("i", { class: "ramp", style: `background: linear-gradient(90deg, ${stops})` });
    parts.push(make("span", {}, number(shade.low), bar, `${number(shade.high)} ${shade.axis.label}`));
  }
  $("legend").replaceChildren(...parts);
}

/** What is drawn within reach of the pointer; members win over dominated designs. */
function near(event, reach = 18) {
  const box = $("plot").getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  const found = drawn
    .map(({ point, at }) => ({ point, at, far: Math.hypot(at[0] - x, at[1] - y) + (point.trial ? 6 : 0) }))
    .filter(({ far }) => far < reach);
  return found.length ? found.reduce((a, b) => (b.far < a.far ? b : a)) : null;
}

function hover(event) {
  const found = event && near(event);
  const tip = $("tip");
  tip.hidden = !found;
  if (!found) return;
  const picks = found.point.picks?.length ? ` (${found.point.picks.join(", ")})` : "";
  tip.textContent = `${short(found.point.key)}: ${summary(found.point)}${picks}`;
  tip.style.left = `${Math.min(found.at[0], $("plot").clientWidth - tip.offsetWidth - 4)}px`;
  tip.style.top = `${found.at[1] + 14}px`;
}

/** The next member along the horizontal axis, for the arrow keys. */
function walk(step) {
  const order = drawn.filter(({ point }) => !point.trial).sort((a, b) => a.at[0] - b.at[0] || a.at[1] - b.at[1]);
  const now = order.findIndex(({ point }) => point.key === selected);
  const next = order[Math.min(Math.max(now < 0 ? 0 : now + step, 0), order.length - 1)];
  if (next) openMember(next.point.key);
}
