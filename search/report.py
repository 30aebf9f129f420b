"""report.html and front.png of a run. Knows its folder's files and how they are drawn; measures and decides nothing."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.config import read_yaml
from search.explorer import explorer
from search.growth import grown
from search.labels import Box, place
from search.page import Page, Sources, page
from search.picture import AXES, Panel, Point, panel
from search.present import load
from search.trials import read_trials, statistics
from spaces.errors import ConfigError, RunError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("rule", "run", "limits", "plot", "member", "explorer")  # in their order
_HISTORY_POINTS = 80
# Of an objective's knobs, the first so many are shown; of fewer designs than these, nothing can be said.
_KNOBS, _FEWEST_FOR_KNOBS = 8, 20


@dataclass(frozen=True)
class Theme:
    """Colours of the picture; those of data are Okabe and Ito's, told apart by every kind of eye."""

    paper: str
    ink: str
    faint: str
    members: str
    interval: str
    picks: str
    limit: str
    baselines: Mapping[str, str]


_THEME = Theme(
    paper="#ffffff",
    ink="#1b1f24",
    faint="#9aa3ad",
    members="#0072b2",
    interval="#a6cde6",
    picks="#d55e00",
    limit="#9a5b86",
    baselines={"fair": "#1b1f24", "one_liner": "#009e73", "pipeline": "#b87a00", "linear": "#cc79a7"},
)
_MARKERS = {"fair": "s", "one_liner": "^", "pipeline": "D", "linear": "p"}
_LABELS = {"latency": "mean latency, ms per call", "size": "size, MB"}


def write_report(run: Path) -> list[Path]:
    """Write report.html and front.png of the run in folder `run`, an interrupted one as far as it has come.

    Raises:
        RunError: the folder is not a run, or one of another schema.
        ConfigError: the libraries of the extra `report` are not installed.
    """
    front, trials = load(run), read_trials(run / "trials.csv")
    config, env = run / "config.resolved.yaml", run / "env.json"
    asked = read_yaml(config) if config.exists() else {}
    sources = Sources(
        found=statistics(trials),
        history=grown(trials).curve(_HISTORY_POINTS),
        knobs=_knobs(run, asked),
        config=asked,
        env=json.loads(env.read_text(encoding="utf-8")) if env.exists() else {},
    )
    with _report_extra():
        html = _html(page(run, front, sources), explorer(run, front, trials))
        picture = _png(draw([panel(axis, front, trials) for axis in AXES], _THEME))
    (run / "front.png").write_bytes(picture)
    (run / "report.html").write_text(html, encoding="utf-8")
    return [run / "report.html", run / "front.png"]


def _knobs(run: Path, config: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """By objective the knobs that explain most of it; nothing where the record is not at hand or holds too little."""
    from search.record import Record

    try:
        record = Record.open(run, storage=(config.get("search") or {}).get("storage"))
    except RunError:
        return {}
    if sum(trial.state == "complete" for trial in record.finished()) < _FEWEST_FOR_KNOBS:
        return {}
    found = {each.name: record.knob_importances(each.name) for each in record.objectives}
    return {name: dict(list(shares.items())[:_KNOBS]) for name, shares in found.items() if shares}


def draw(panels: Sequence[Panel], theme: Theme) -> "Figure":
    """The panels side by side, on a figure of their own."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5.6), dpi=144, facecolor=theme.paper, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, shown in zip(axes, panels, strict=True):
        _style(ax, shown, theme)
        if shown.points:
            _frame(ax, shown)
            _draw_limits(ax, shown, theme)
            _draw_members(ax, shown, theme)
        else:
            ax.set_axis_off()
            text = f"no {shown.words.metric} lost with a {shown.axis} yet"
            ax.text(0.5, 0.5, text, ha="center", color=theme.ink, transform=ax.transAxes)
    named = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    if named:
        style: dict[str, Any] = {"ncols": len(named), "frameon": False, "labelcolor": theme.ink, "fontsize": 9}
        figure.legend(named.values(), named.keys(), loc="outside lower center", **style)
    figure.draw_without_rendering()
    for ax, shown in zip(axes, panels, strict=True):
        _draw_names(ax, shown, theme)
    return figure


def _style(ax: "Axes", shown: Panel, theme: Theme) -> None:
    ax.set_facecolor(theme.paper)
    ax.set_xscale("log")
    ax.set_yscale("symlog", linthresh=2, linscale=0.9)
    split = "confirm" if shown.verified else "search"
    ax.set_xlabel(_LABELS[shown.axis], color=theme.ink)
    ax.set_ylabel(f"{shown.words.metric} lost against fair, points ({split} rows)", color=theme.ink)
    title = f"{shown.words.metric.capitalize()} against {shown.axis}: lower left is better"
    ax.set_title(title, color=theme.ink, loc="left", fontsize=11, fontweight="bold")
    ax.grid(True, which="major", color=theme.faint, alpha=0.25, linewidth=0.7)
    ax.tick_params(colors=theme.ink, which="both", labelsize=9)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.faint)


def _frame(ax: "Axes", shown: Panel) -> None:
    """Ends that leave far-off dominated designs outside, and plain numbers instead of powers of ten."""
    from matplotlib.ticker import FixedLocator, FuncFormatter

    framed = [*shown.members, *shown.baselines] or list(shown.others)
    costs, drops = [point.cost for point in framed], [end for point in framed for end in (point.low, point.high)]
    left, right = min(costs) / 1.35, max(costs) * 1.6
    bottom, top = min(-1.0, min(drops) * 1.2), max(2.0, max(drops) * 1.25)
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    steps = [step * 10.0**power for power in range(-4, 6) for step in (1, 2, 5)]
    ax.xaxis.set_major_locator(FixedLocator([step for step in steps if left <= step <= right]))
    levels = [0.0, *(sign * level for level in (0.5, 1, 2, 5, 10, 20, 50, 100) for sign in (-1, 1))]
    ax.yaxis.set_major_locator(FixedLocator([level for level in levels if bottom <= level <= top]))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(FixedLocator([]))


def _draw_limits(ax: "Axes", shown: Panel, theme: Theme) -> None:
    style: dict[str, Any] = {"color": theme.limit, "linestyle": (0, (5, 3)), "linewidth": 1.3, "label": "limit"}
    if shown.cost_limit is not None:
        ax.axvline(shown.cost_limit, **style)
    if shown.drop_limit is not None:
        ax.axhline(shown.drop_limit, **style)


def _draw_members(ax: "Axes", shown: Panel, theme: Theme) -> None:
    members, others, picks = shown.members, shown.others, shown.picks
    if others:
        ax.scatter(*_xy(others), s=12, color=theme.faint, alpha=0.55, linewidths=0, label="other designs (search rows)")
    if shown.steps:
        corners = [*shown.steps, (ax.get_xlim()[1], shown.steps[-1][1])]
        style: dict[str, Any] = {"where": "post", "alpha": 0.8, "linewidth": 1.6, "zorder": 3}
        ax.step(*zip(*corners, strict=True), color=theme.members, label="front of this panel", **style)
    if members:
        errors = [[max(0.0, p.drop - p.low) for p in members], [max(0.0, p.high - p.drop) for p in members]]
        ax.errorbar(*_xy(members), yerr=errors, fmt="none", ecolor=theme.interval, elinewidth=0.9, zorder=2.5)
        label = "verified members, 95 % interval" if shown.verified else "members, not verified yet"
        ax.scatter(
            *_xy(members), s=30, color=theme.members, edgecolors=theme.paper, linewidths=0.6, zorder=4, label=label
        )
    for point in shown.baselines:
        marker, colour = _MARKERS.get(point.name, "X"), theme.baselines.get(point.name, theme.ink)
        ax.scatter([point.cost], [point.drop], s=75, marker=marker, color=colour, edgecolors=theme.paper, zorder=5)
    if picks:
        ax.scatter(*_xy(picks), s=130, facecolors="none", edgecolors=theme.picks, linewidths=2, zorder=6, label="picks")


def _draw_names(ax: "Axes", shown: Panel, theme: Theme) -> None:
    """A name beside each pick and baseline, joined to it by a thin line; needs the final layout."""
    from matplotlib.patheffects import withStroke

    named = [*shown.picks, *shown.baselines]
    colours = [theme.picks] * len(shown.picks) + [theme.baselines.get(p.name, theme.ink) for p in shown.baselines]
    pixel, dots = ax.figure.get_figure(root=True).dpi / 72, (*shown.members, *shown.baselines)
    height = 12 * pixel
    marks = [Box.around(*_pixels(ax, point), height) for point in dots]
    widths = [6.2 * pixel * len(point.name) for point in named]
    boxes = place([_pixels(ax, point) for point in named], widths, height, marks, Box(*ax.bbox.extents))
    for point, colour, box in zip(named, colours, boxes, strict=True):
        x, y = _pixels(ax, point)
        right = box.left > x
        ax.annotate(
            point.name,
            (point.cost, point.drop),
            xytext=(((box.left if right else box.right) - x) / pixel, ((box.bottom + box.top) / 2 - y) / pixel),
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
            color=colour,
            fontsize=9,
            fontweight="bold",
            path_effects=[withStroke(linewidth=2.5, foreground=theme.paper)],
            arrowprops={"arrowstyle": "-", "color": theme.faint, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 6},
            zorder=7,
        ).set_in_layout(False)


def _pixels(ax: "Axes", point: Point) -> tuple[float, float]:
    x, y = ax.transData.transform((point.cost, point.drop))
    return float(x), float(y)


def _xy(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.cost for point in points], [point.drop for point in points]


def _png(figure: "Figure") -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi="figure")
    return file.getvalue()


def _html(shown: Page, explored: Mapping[str, Any]) -> str:
    """The page with its scripts and what they show; nothing in the data can end their elements."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = "\n".join(_template(f"{name}.js") for name in _SCRIPTS)
    data = json.dumps(explored, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return environment.get_template("report.html.j2").render(
        page=shown, header=shown.header, css=_template("report.css"), script=scripts, data=data
    )


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


@contextmanager
def _report_extra() -> Iterator[None]:
    """Turns a missing library of the extra into an error that names the cure."""
    try:
        yield
    except ModuleNotFoundError as missing:
        if missing.name not in ("jinja2", "matplotlib"):
            raise
        cure = "pip install 'paretoformer[report]'"
        raise ConfigError(f"A report needs {missing.name}, which is not installed. Cure: {cure}") from None
