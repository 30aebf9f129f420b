// Limits that are moved, the pick they lead to, and the command that picks the same.

const STEPS = 200; // of a slider; the last one is "any"

/** What is known of a limit, be it one of the run's or one that a slider sets: its option, and whether of answers. */
const about = (name) => RUN.limits[name] ?? RUN.sliders.find((slider) => slider.name === name);
const bounds = () => [...limits].map(([name, { atMost }]) => ({ name, atMost, answers: about(name).answers }));

function command() {
  const dropped = [...Object.keys(RUN.limits), ...RUN.unresolved].some((name) => !limits.has(name));
  const asked = [...limits].filter(([name, { text }]) => dropped || RUN.limits[name]?.asked !== text);
  const flags = asked.map(([name, { text }]) => about(name).flag + text);
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
  if (value === null || !(value >= (slider.log ? 1e-6 : 0))) limits.delete(slider.name);
  else limits.set(slider.name, { text: value + slider.unit, atMost: value * slider.factor });
  showSlider(slider);
}

/** From where to where a slider goes: a little beyond what there is. */
function ends(slider) {
  const low = slider.log ? slider.low * 0.8 : 0;
  return [low, Math.max(slider.high * 1.001, low + 0.01)];
}

function atStep(slider, step) {
  if (step >= STEPS) return null;
  const [low, high] = ends(slider);
  const share = step / (STEPS - 1);
  return Number(slider.log ? number(low * (high / low) ** share) : (share ** 2 * high).toFixed(2)); // finer near 0
}

function toStep(slider, value) {
  const [low, high] = ends(slider);
  const share = slider.log ? Math.log(value / low) / Math.log(high / low) : Math.sqrt(value / high);
  return Math.round(Math.min(Math.max(share, 0), 1) * (STEPS - 1));
}

function showSlider(slider) {
  const limit = limits.get(slider.name);
  const value = limit && Number(number(limit.atMost / slider.factor, 6));
  const range = $(`range-${slider.name}`);
  const field = $(`field-${slider.name}`);
  range.value = limit ? toStep(slider, value) : STEPS;
  range.setAttribute("aria-valuetext", limit ? `at most ${limit.text}` : "any");
  if (document.activeElement !== field) field.value = limit ? value : "";
}

function showPick() {
  const pool = POOLS[$("kind").checked ? "cascade" : "single"];
  const asked = bounds();
  picked = pool.length ? pick(pool, asked, $("prefer").value, RUN.knee_depth) : null;
  const out = $("pick");
  out.dataset.key = picked?.key ?? "";
  if (picked) {
    const fitting = within(pool, asked).length;
    out.replaceChildren(
      make("strong", {}, "Your pick: ", link(picked.key)),
      ` ${picked.design}. `,
      `${summary(picked)}; ${fitting} of ${pool.length} fit${picked.verified ? "" : "; not verified yet"}.`,
    );
  } else if (!pool.length) out.replaceChildren("No sound member to pick from yet.");
  else
    out.replaceChildren(
      make("strong", {}, "Nothing fits. "),
      "What would have to give, the least change first: ",
      ...reliefs(pool, asked).flatMap(relief),
    );
  $("command").textContent = command();
}

/** A button that relaxes what stands in the way of a member. */
function relief({ member, changes }, place) {
  const moves = changes.map(({ bound, value }) => {
    const slider = RUN.sliders.find((each) => each.name === bound.name);
    const to = slider && Number.isFinite(value) ? roundedUp(value, slider) : null;
    return { slider, to, text: to === null ? bound.name : `${slider.label.toLowerCase()} to ${to} ${slider.unit}` };
  });
  const button = make("button", { type: "button" }, moves.map(({ text }) => text).join(" and "));
  button.disabled = moves.some(({ to }) => to === null); // no slider moves it
  button.onclick = () => {
    for (const { slider, to } of moves) setLimit(slider, to);
    update();
  };
  return [place ? "; or " : "", button, " gives ", link(member.key)];
}

/** The limit on an axis in its unit; none where it is on another figure, as on the 95th percentile of latency. */
function limitOn(axis) {
  const limit = axis.name === "latency" && RUN.statistic !== "mean" ? undefined : limits.get(axis.limit);
  return limit && limit.atMost * ({ pt: 100, MB: 1e-6 }[axis.unit] ?? 1);
}

const fits = (axes) => RUN.axes.every((axis) => !(axes[axis.name]?.[0] > limitOn(axis)));
const allowed = (member) => (member.rule ? within([member], bounds()).length > 0 : fits(member.axes));

const link = (key) => make("a", { href: `#${key}` }, make("code", {}, short(key)));
function summary(member) {
  const said = {
    quality: (v) => `${v.toFixed(2)} pt lost`,
    latency: (v) => `${v.toFixed(2)} ms`,
    size: (v) => `${v.toFixed(1)} MB`,
  };
  return Object.entries(said)
    .filter(([axis]) => member.axes[axis])
    .map(([axis, say]) => say(member.axes[axis][0]))
    .join(", ");
}
