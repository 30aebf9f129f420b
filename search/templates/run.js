// What the explorer shows, as search/explorer.py wrote it into the element #run, and what is chosen of it.

const RUN = JSON.parse(document.getElementById("run").textContent);
const $ = (id) => document.getElementById(id);
const BY_KEY = new Map(RUN.members.map((member) => [member.key, member]));
const POOLS = {
  single: RUN.members.filter((member) => member.rule && member.kind === "single"),
  cascade: RUN.members.filter((member) => member.rule && member.kind === "cascade"),
};
const AXES = new Map(RUN.axes.map((axis) => [axis.name, axis]));
// Designs that are no members, as points.
const TRIALS = RUN.trials.map(([key, study, quality, latency, size]) => ({
  key,
  study,
  trial: true,
  axes: { quality: [quality], latency: [latency], size: [size] },
}));
// By name the limits in force: {text, atMost}; those of the run until they are moved.
const limits = new Map(
  Object.entries(RUN.limits).map(([name, limit]) => [name, { text: limit.asked, atMost: limit.at_most }]),
);
let selected = null; // key of the open member
let picked = null; // member that the limits lead to
let drawn = []; // points with their places, for the pointer

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
