// What the page does when something is moved, typed or clicked.

function update() {
  showPick();
  draw();
}

function addSlider(slider) {
  const range = make("input", {
    type: "range",
    id: `range-${slider.name}`,
    min: 0,
    max: STEPS,
    "aria-label": `${slider.label}, at most`,
  });
  const field = make("input", {
    type: "number",
    id: `field-${slider.name}`,
    min: 0,
    step: "any",
    placeholder: "any",
    inputmode: "decimal",
  });
  range.oninput = () => {
    setLimit(slider, atStep(slider, Number(range.value)));
    update();
  };
  field.oninput = () => {
    setLimit(slider, field.value === "" ? null : Number(field.value));
    update();
  };
  const label = slider.name === "latency" && RUN.statistic === "p95" ? "p95 latency" : slider.label;
  $("sliders").append(
    make(
      "div",
      { class: "slider" },
      make("label", { for: `field-${slider.name}` }, `${label} ≤`),
      range,
      field,
      make("span", {}, slider.unit),
    ),
  );
  showSlider(slider);
}

function start() {
  RUN.sliders.forEach(addSlider);
  const names = RUN.axes.map((axis) => axis.name);
  for (const [id, name] of [
    ["x", "latency"],
    ["y", "quality"],
    ["colour", "size"],
  ]) {
    $(id).append(...options(RUN.axes));
    $(id).value = names.includes(name) ? name : names[0];
    $(id).onchange = draw;
  }
  $("kind").parentElement.hidden = !POOLS.cascade.length;
  $("prefer").onchange = $("kind").onchange = update;
  $("all").onchange = draw;
  $("plot").onclick = (event) => {
    const found = near(event);
    if (found) location.hash = found.point.key;
  };
  $("plot").onpointermove = hover;
  $("plot").onpointerleave = () => hover(null);
  $("plot").onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) {
      event.preventDefault();
      walk(step);
    }
  };
  $("copy").onclick = () => {
    getSelection().selectAllChildren($("command"));
    $("copy").textContent = document.execCommand("copy") ? "Copied" : "Selected";
  };
  addEventListener("hashchange", () => {
    openMember(decodeURIComponent(location.hash.slice(1)));
    const { top, bottom } = $("plot").getBoundingClientRect();
    if (bottom < 0 || top > innerHeight) $("member").scrollIntoView(); // a link from far away
  });
  new ResizeObserver(draw).observe($("plot").parentElement);
  update();
  openMember(decodeURIComponent(location.hash.slice(1)));
}

start();
performance.mark("drawn");
