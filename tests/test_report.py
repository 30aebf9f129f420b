"""report.html and front.png: complete, self-contained, escaped, and there for unfinished runs too."""

import builtins
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from evaluators.synthetic import SyntheticEvaluator, synthetic_space
from search.figures import Pick
from search.front_file import FrontFile
from search.loop import Meter
from search.loop import run as loop
from search.page import certificate
from search.record import Record
from search.report import write_report
from search.runners.inline import InlineRunner
from search.samplers.auto import AutoSampler
from spaces.errors import ConfigError, RunError
from spaces.objectives import KL, LATENCY, SIZE
from tests.example_run import write_front, write_run

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

VOID = {"meta", "link", "br", "input"}


class Reader(HTMLParser):
    """Checks that tags nest, and collects text and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def words(path: Path) -> str:
    return " ".join(" ".join(read(path).text).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a finished run with its report, and the content of its front.json."""
    folder = tmp_path_factory.mktemp("results") / "run"
    found = write_run(folder)
    assert write_report(folder) == [folder / "report.html", folder / "front.png"]
    return folder, found


def test_a_run_becomes_a_page_and_a_picture(run: tuple[Path, dict[str, Any]]) -> None:
    folder, found = run
    html, png = folder / "report.html", folder / "front.png"
    assert png.read_bytes().startswith(b"\x89PNG")
    text = words(html)
    for pick in found["picks"]:
        assert pick["key"][:8] in text
    assert all(member["key"][:8] in text for member in found["members"])
    assert all(split["sha256"] in text for split in found["splits"].values())
    assert "read once" in text
    assert "certified at 95 %: loses at most 1pt" in text
    assert "not certified: about 4,500 confirm rows would be needed" in text
    assert "6 unverified members" in text
    assert "OutOfMemory (3)" in text
    assert "mean error 2.7%" in text
    assert f"paretoformer select {folder} --prefer knee --no-limits --export model" in text


def test_the_drops_of_a_pick_stand_beside_each_other(run: tuple[Path, dict[str, Any]]) -> None:
    folder, found = run
    key = found["picks"][0]["key"]
    accuracy = next(member["accuracy"] for member in found["members"] if member["key"] == key)
    text = words(folder / "report.html")
    drops = [f"{split} {accuracy[split]['drop']['value'] * 100:.2f}" for split in ("search", "confirm", "test")]
    places = [text.index(drop) for drop in drops]
    assert places == sorted(places)


def test_an_interval_beside_its_estimate_is_drawn_as_far_as_it_goes(tmp_path: Path) -> None:
    found = write_run(tmp_path / "run")
    drop = found["members"][0]["accuracy"]["confirm"]["drop"]
    drop.update(value=1e-16, ci95=[2e-15, 3e-15])  # what rounding leaves where nothing is lost
    (tmp_path / "run" / "front.json").write_text(json.dumps(found))
    assert write_report(tmp_path / "run")


def test_latency_is_said_for_short_and_for_long_inputs(run: tuple[Path, dict[str, Any]]) -> None:
    folder, found = run
    text = words(folder / "report.html")
    assert "key picked as 3-14 tokens (25) 15-22 tokens (25) 23-31 tokens (25) 32-60 tokens (25)" in text
    key = found["picks"][0]["key"]
    *_, longest = next(member["latency"]["bands"] for member in found["members"] if member["key"] == key)
    over = [longest["speedup"][name][0] for name in ("fair", "one_liner")]
    assert f"{longest['mean_ms']:.2f} ({over[0]:.2f}x, {over[1]:.2f}x)" in text


def test_the_page_needs_nothing_from_elsewhere(run: tuple[Path, dict[str, Any]]) -> None:
    """No address but places in itself; and a policy by which a browser would fetch nothing anyway."""
    page = read(run[0] / "report.html")
    assert page.addresses
    assert all(address.startswith("#") for address in page.addresses)
    assert not {"link", "iframe", "img"} & set(page.tags)
    assert "default-src 'none'" in (run[0] / "report.html").read_text()


def test_the_growth_of_the_front_and_the_knobs_that_matter_are_shown(tmp_path: Path) -> None:
    write_run(tmp_path)
    record, space = Record.create(tmp_path, objectives=(KL, LATENCY, SIZE), bounds=()), synthetic_space(4)
    assert "Which knobs matter" not in words(write_report(tmp_path)[0])
    sampler = AutoSampler(record, space, seeds=space.seeds(), seed=0, trials=20)
    loop(space, sampler, InlineRunner(SyntheticEvaluator), record, rows=None, meter=Meter(20))
    text = words(write_report(tmp_path)[0])
    assert "Which knobs matter" in text
    assert re.search(r"size x\.\d \d+ %", text)
    assert re.search(r"\d designs Hypervolume of the search's own figures", text)


def test_a_record_out_of_reach_costs_no_more_than_its_knobs(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "config.resolved.yaml").write_text("search: {storage: 'sqlite:////nowhere/at/all.db'}\n")
    assert "What to take" in words(write_report(tmp_path)[0])


def test_names_from_outside_are_escaped(tmp_path: Path) -> None:
    found = write_run(tmp_path)
    hostile = "<script>alert(1)</script>"
    found["run"] = hostile
    found["picks"][0]["reason"] = found["members"][0]["note"] = found["targets"][0]["label"] = hostile
    found["picks"][1]["name"] = hostile
    write_front(tmp_path, found)
    page = read(write_report(tmp_path)[0])
    assert page.tags.count("script") == 2  # the page's own: what is shown, and what shows it
    assert hostile in "".join(page.text)


def without_verified(found: dict[str, Any]) -> None:
    found["members"] = [member for member in found["members"] if not member["verified"]]
    found.update(picks=[], hypervolume=None)


def without_baselines(found: dict[str, Any]) -> None:
    without_verified(found)
    found["baselines"] = {}


def without_anything(found: dict[str, Any]) -> None:
    found.update(members=[], picks=[], baselines={}, splits={}, hypervolume=None, targets=[], latency_model={})


def without_latency(found: dict[str, Any]) -> None:
    found["limits"] = {"size": "30%"}
    for member in [*found["members"], *found["baselines"].values()]:
        member["latency"] = None


def without_bands(found: dict[str, Any]) -> None:
    for member in [*found["members"], *found["baselines"].values()]:
        member["latency"].pop("bands", None)


def without_size(found: dict[str, Any]) -> None:
    found["limits"] = {}
    for member in [*found["members"], *found["baselines"].values()]:
        member["size"] = None


def without_test(found: dict[str, Any]) -> None:
    for member in found["members"]:
        member["accuracy"]["test"] = None


def without_drops(found: dict[str, Any]) -> None:
    for member in [*found["members"], *found["baselines"].values()]:
        for scored in filter(None, member["accuracy"].values()):
            scored["drop"] = None


def without_pipeline(found: dict[str, Any]) -> None:
    del found["baselines"]["pipeline"]


def without_a_pick(found: dict[str, Any]) -> None:
    found["picks"] = [
        {"name": "limits", "key": None, "certified": False, "reason": "none is small enough", "rows_needed": None}
    ]


@pytest.mark.parametrize(
    ("remove", "said"),
    [
        (without_verified, "Nothing is verified yet."),
        (without_baselines, "No baseline was measured yet."),
        (without_anything, "No member yet."),
        (without_latency, "that is 27.3 MB"),
        (without_bands, "What to compare with"),
        (without_size, "none asked"),
        (without_test, "test -"),
        (without_drops, "What to take"),
        (without_pipeline, "What to compare with"),
        (without_a_pick, "none is small enough"),
    ],
)
def test_missing_parts_are_said_and_break_nothing(
    tmp_path: Path, remove: Callable[[dict[str, Any]], None], said: str
) -> None:
    found = write_run(tmp_path)
    remove(found)
    write_front(tmp_path, found)
    for name in ("trials.csv", "env.json", "config.resolved.yaml"):
        (tmp_path / name).unlink()
    html, png = write_report(tmp_path)
    assert said in words(html)
    assert png.stat().st_size > 0


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        write_report(tmp_path)


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_a_missing_library_is_named_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    write_run(tmp_path)
    found = builtins.__import__

    def imported(name: str, *rest: Any, **others: Any) -> Any:
        if name.partition(".")[0] == library:
            raise ModuleNotFoundError(f"No module named {library!r}", name=library)
        return found(name, *rest, **others)

    monkeypatch.setattr(builtins, "__import__", imported)
    with pytest.raises(ConfigError, match=rf"{library}.*pip install 'paretoformer\[report\]'"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("limits", "certified", "rows", "said"),
    [
        ({"accuracy_drop": "1pt"}, True, None, "certified at 90 %: loses at most 1pt"),
        ({"accuracy_drop": "1pt"}, False, 14049, "not certified: about 14,000 confirm rows would be needed"),
        ({"accuracy_drop": "1pt"}, False, None, "not certified to lose at most 1pt"),
        ({"latency": "5ms"}, False, None, "not certified: no limit on the accuracy drop was asked"),
    ],
)
def test_certificates_in_words(limits: dict[str, str], certified: bool, rows: int | None, said: str) -> None:
    front = FrontFile("example", 0, limits=limits, confidence=0.9)
    assert certificate(Pick("limits", "a", certified, "", rows), front) == said


def test_the_example_is_json_that_a_run_could_have_written(run: tuple[Path, dict[str, Any]]) -> None:
    """The fixture goes through the reader and the writer of front.json unchanged in what both know."""
    _, found = run
    document = FrontFile.from_json(json.loads(json.dumps(found))).to_json()
    assert {name: document[name] for name in ("run", "limits", "splits", "trials", "picks")} == {
        name: found[name] for name in ("run", "limits", "splits", "trials", "picks")
    }
