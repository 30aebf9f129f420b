"""The page's explorer in Chromium: its rule is that of `select`, and it needs nothing but its own file."""

import json
import random
import re
import statistics
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest

from search import cli
from search.front_file import FrontFile
from search.report import write_report
from search.select import Preference, select
from spaces.errors import InfeasibleError
from tests.benchmarks.browser import PAINTED, PHONE, REACTIONS, Opened, chromium, opened
from tests.example_run import member, trials, write_front, write_run, write_trials

pytestmark = pytest.mark.slow
Browser = Any


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a cascade, a distilled member, one that is not sound, and its report."""
    folder = tmp_path_factory.mktemp("a run") / "first"
    found = write_run(folder)
    first, second, third, *_ = found["members"]
    first.update(ties=[second["key"]])
    second.update(recipe="recovered", parents=[first["key"]])
    third.update(note="answers one class only")
    cascade = member("c" * 16, None, 0.861, 1.4, 31_000_000)
    stages = [{"key": each["key"], "threshold": 0.9} for each in (first, second)]
    found["members"].append({**cascade, "kind": "cascade", "stages": stages, "parents": [first["key"], second["key"]]})
    write_front(folder, found)
    write_report(folder)
    return folder


@pytest.fixture
def page(browser: Browser, run: Path) -> Iterator[Opened]:
    """The report on a desktop; whatever a test does, the page stays silent and fetches nothing."""
    found = opened(browser, run / "report.html")
    yield found
    assert found.errors == []
    assert {url.partition("#")[0] for url in found.requests} == {(run / "report.html").as_uri()}
    found.page.close()


def selected(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The key that the command answers with; empty where nothing fits."""
    capsys.readouterr()
    try:
        cli.app([*arguments, "--format", "json"], standalone_mode=False)
    except InfeasibleError:
        return ""
    return str(json.loads(capsys.readouterr().out)["key"])


def agreed(page: Opened, capsys: pytest.CaptureFixture[str]) -> str:
    """What the page picks, which has to be what its command answers."""
    key, arguments = page.select()
    assert selected(arguments, capsys) == key
    return key


def test_every_slider_names_the_pick_of_select(page: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    found = {agreed(page, capsys)}
    for name in ("latency", "size", "accuracy_drop"):
        for step in (150, 90, 20, 200):
            page.page.locator(f"#range-{name}").fill(str(step))
            found.add(agreed(page, capsys))
    page.page.locator("#range-accuracy_drop").fill("200")
    assert "--no-limits" in page.select()[1]
    for prefer, cascade in product(("accuracy", "latency", "size", "knee", ""), (True, False)):
        page.page.select_option("#prefer", prefer)
        page.page.set_checked("#kind", cascade)
        found.add(agreed(page, capsys))
    assert len(found) > 5


def test_a_limit_is_typed_and_moved_by_keys(page: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    page.page.fill("#field-size", "21.5")
    assert "21.5MB" in page.select()[1]
    agreed(page, capsys)
    page.page.focus("#range-size")
    page.page.keyboard.press("ArrowLeft")
    assert "21.5MB" not in page.select()[1]
    agreed(page, capsys)


def test_where_nothing_fits_the_least_change_is_one_click(page: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    page.page.fill("#field-latency", "0.001")
    page.page.fill("#field-size", "0.001")
    assert agreed(page, capsys) == ""
    assert "Nothing fits." in page.page.inner_text("#pick")
    gives = page.page.locator("#pick a").first.get_attribute("href")
    page.page.locator("#pick button").first.click()
    assert f"#{agreed(page, capsys)}" == gives


def test_the_rule_is_the_same_in_both_languages(page: Opened, run: Path) -> None:
    """Over random limits, some of which leave nothing, and every preference."""
    rng, front = random.Random(0), FrontFile.from_json(json.loads((run / "front.json").read_text()))
    cases = []
    for _ in range(600):
        asked = {
            "latency": f"{rng.uniform(0.3, 4):.3g}ms",
            "size": f"{rng.uniform(2, 60):.3g}MB",
            "accuracy_drop": f"{rng.uniform(0, 6):.2f}pt",
        }
        kept = {name: text for name, text in asked.items() if rng.random() < 0.6}
        cases.append((kept, rng.choice(["", "accuracy", "latency", "size", "knee"])))
    expected = [_picked(front, limits, prefer) for limits, prefer in cases]
    assert len({keys[0] for keys in expected}) > 8
    assert {len(keys) for keys in expected} > {1, 2}  # one that fits, or several ways to get one
    bounds = [[vars(bound) for bound in front.bounds(limits)] for limits, _ in cases]
    asked_of_page = [
        [[{"name": b["name"], "atMost": b["at_most"], "answers": b["name"] == "accuracy_drop"} for b in each], prefer]
        for each, (_, prefer) in zip(bounds, cases, strict=True)
    ]
    rule = """cases => cases.map(([bounds, prefer]) => {
        const found = pick(POOLS.single, bounds, prefer, RUN.knee_depth);
        return found ? [found.key] : ["", ...reliefs(POOLS.single, bounds).map(({ member }) => member.key)];
    })"""
    assert page.page.evaluate(rule, asked_of_page) == expected


def _picked(front: FrontFile, limits: dict[str, str], prefer: str) -> list[str]:
    """The pick; or nothing, and what could be had instead, the least change first."""
    try:
        return [select(front, front.bounds(limits), cast(Preference, prefer) if prefer else None).key]
    except InfeasibleError as error:
        return ["", *re.findall(r"would give (\w+)", str(error))]


def test_a_click_opens_a_member(page: Opened, run: Path) -> None:
    front = json.loads((run / "front.json").read_text())
    place = page.page.locator("#plot .member:not(.unverified) .mark").last
    key = page.page.locator("#plot .member:not(.unverified)").last.get_attribute("data-key")
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    assert box is not None
    page.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.page.wait_for_selector("#member:not([hidden])")
    assert page.page.locator("#member").get_attribute("data-key") == key
    found = next(each for each in front["members"] if each["key"] == key)
    text = page.page.inner_text("#member")
    for split in ("search", "confirm"):
        assert f"{found['accuracy'][split]['drop']['value'] * 100:.2f}" in text
    assert f"{found['latency']['mean_ms']:.2f} ms" in text
    assert "One notch faster" in text or "Nothing measured is faster" in text
    assert page.page.locator("#member .strip tr").count() == 6
    page.page.focus("#plot")
    page.page.keyboard.press("ArrowRight")
    assert page.page.locator("#member").get_attribute("data-key") != key


def test_tied_beaten_and_odd_members_look_different(page: Opened, run: Path) -> None:
    first, second, third = json.loads((run / "front.json").read_text())["members"][:3]
    page.page.evaluate("key => openMember(key)", first["key"])
    rings = page.page.locator("#plot .tied .ring")
    assert [rings.nth(0).locator("..").get_attribute("data-key"), rings.count()] == [second["key"], 1]
    marks = {
        page.page.locator(f"#plot [data-key='{key}'] .mark").get_attribute("d")
        for key in (first["key"], second["key"], third["key"], "c" * 16)
    }
    assert len(marks) == 4


def test_the_axes_can_be_changed(page: Opened) -> None:
    before = page.page.locator("#plot .grid").inner_html()
    page.page.select_option("#x", "size")
    assert page.page.locator("#plot .grid").inner_html() != before
    assert "size, MB" in page.page.locator("#plot .grid").text_content()  # type: ignore[operator]


def without_verified(found: dict[str, Any]) -> None:
    found["members"] = [each for each in found["members"] if not each["verified"]]
    found.update(picks=[], baselines={})


def without_size(found: dict[str, Any]) -> None:
    found["limits"] = {}
    for each in [*found["members"], *found["baselines"].values()]:
        each["size"] = None


def without_anything(found: dict[str, Any]) -> None:
    found.update(members=[], picks=[], baselines={}, targets=[])


def named_by_an_enemy(found: dict[str, Any]) -> None:
    hostile = "</script><img src=x onerror=alert(1)>"
    found["members"][0].update(note=hostile, recipe=hostile)
    found["picks"][0]["name"] = hostile


@pytest.mark.parametrize("change", [without_verified, without_size, without_anything, named_by_an_enemy])
def test_what_is_missing_or_odd_breaks_nothing(browser: Browser, tmp_path: Path, change: Any) -> None:
    found = write_run(tmp_path)
    change(found)
    write_front(tmp_path, found)
    page = opened(browser, write_report(tmp_path)[0])
    for key in [each["key"] for each in found["members"]][:2]:
        page.page.evaluate("key => openMember(key)", key)
        assert page.page.locator("#member").get_attribute("data-key") == key
    assert page.errors == []
    assert page.page.locator("img").count() == 0
    page.page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(browser: Browser, run: Path, scheme: Any) -> None:
    found = opened(browser, run / "report.html", PHONE)
    found.page.emulate_media(color_scheme=scheme)
    found.page.evaluate("openMember(RUN.members[0].key)")
    assert found.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert found.errors == []
    found.page.close()


@pytest.mark.timing
def test_the_page_of_two_thousand_trials_is_there_at_once_and_follows_a_slider(
    browser: Browser, tmp_path: Path
) -> None:
    """With room for a busy machine; benchmarks/explorer.py has the figures."""
    found = write_run(tmp_path)
    write_trials(tmp_path, trials(found, random.Random(0), 2000))
    html = write_report(tmp_path)[0]
    assert html.stat().st_size < 8e6
    page = opened(browser, html)
    assert page.page.evaluate(PAINTED) < 2000
    assert statistics.median(page.page.evaluate(REACTIONS)) < 100
    assert page.page.locator("#plot .cloud").first.get_attribute("d").count("M") > 1000  # type: ignore[union-attr]
    page.page.close()
