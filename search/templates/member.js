// One member in detail.

/** The member that loses least among those at least a notch cheaper on `axis`. */
function notch(member, axis) {
  const cheaper = (POOLS[member.kind] ?? []).filter(
    (other) => other.rule[axis] * (1 + RUN.same_time) < member.rule[axis],
  );
  return cheaper.length ? first(cheaper, ({ rule, key }) => [rule.drop, -rule[axis], key]) : null;
}

function notches(member) {
  const steps = { latency: "faster", size: "smaller" };
  return member.rule ? Object.entries(steps).map(([axis, word]) => cost(member, notch(member, axis), word)) : [];
}

/** What going from a member to another one costs. */
function cost(member, other, word) {
  if (!other) return make("li", {}, `Nothing measured is ${word}.`);
  const change = (name, more, less, same) => {
    const percent = Math.round((other.rule[name] / member.rule[name] - 1) * 100);
    return percent ? `${Math.abs(percent)} % ${percent > 0 ? more : less}` : same;
  };
  const speed = change("latency", "slower", "faster", "as fast");
  const size = change("size", "larger", "smaller", "as large");
  const points = (other.rule.drop - member.rule.drop) * 100;
  const loss = `loses ${Math.abs(points).toFixed(2)} points ${points < 0 ? "less" : "more"}`;
  return make("li", {}, `One notch ${word}: `, link(other.key), ` is ${speed} and ${size}, and ${loss}.`);
}

/** What is left of each layer: rows of cells [text, share of a full bar], null where the layer is gone. */
function strip(rows) {
  const cell = (known) => {
    if (!known) return make("td", { class: "gone" }, "–");
    const [text, share] = known;
    return make("td", { style: `--share: ${Math.round(100 * share)}%` }, text);
  };
  const title = "What is left of each layer; – where nothing is";
  const numbers = rows[0].cells.map((_, i) => make("th", { scope: "col" }, String(i + 1)));
  const table = make(
    "table",
    { class: "strip" },
    make("caption", {}, title),
    make("tr", {}, make("th", { scope: "col" }, "layer"), ...numbers),
    ...rows.map(({ name, cells }) => make("tr", {}, make("th", { scope: "row" }, name), ...cells.map(cell))),
  );
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, table);
}

function detail(member) {
  const facts = member.facts.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]);
  const standing = [
    member.note,
    member.beaten_by.length && `beaten by ${member.beaten_by.map(short).join(", ")}`,
    member.ties.length && `cannot be told from ${member.ties.map(short).join(", ")}`,
  ]
    .filter(Boolean)
    .join("; ");
  const head = make(
    "tr",
    {},
    ...["split", "rows", `${RUN.metric} [95 %]`, "points lost [95 %]"].map((text) =>
      make("th", { scope: "col" }, text),
    ),
  );
  const splits = make(
    "table",
    {},
    head,
    ...member.splits.map(([split, ...cells]) =>
      make("tr", {}, make("th", { scope: "row" }, split), ...cells.map((text) => make("td", {}, text))),
    ),
  );
  return [
    make("h3", {}, make("code", {}, member.key), member.picks.length ? ` (${member.picks.join(", ")})` : ""),
    make("p", {}, `${member.design}.${member.verified ? "" : " Not verified: figures are those of the search."}`),
    ...(standing ? [make("p", { class: "soft" }, standing)] : []),
    ...(member.strip.length ? [strip(member.strip)] : []),
    make("ul", {}, ...notches(member)),
    make("div", { class: "scroll" }, splits),
    make("dl", { class: "facts" }, ...facts),
  ];
}

function openMember(key) {
  const member = BY_KEY.get(key);
  const trial = TRIALS.find((each) => each.key === key);
  if (!member && !trial) return;
  selected = key;
  const box = $("member");
  box.hidden = false;
  box.dataset.key = key;
  box.replaceChildren(...(member ? detail(member) : dominated(trial)));
  draw();
}

function dominated(trial) {
  const told = `Dominated, of the study ${trial.study}, by the search's figures: ${summary(trial)}.`;
  return [make("h3", {}, make("code", {}, trial.key)), make("p", {}, `${told} Its knobs stand in trials.csv.`)];
}
