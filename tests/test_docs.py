"""README.md and docs/: every command is run, on tiny models; configurations, links and error messages are real."""

import ast
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from evaluators import latency_model
from evaluators.ladder.steps import Settings
from search.config import RunConfig
from spaces.target import Target
from tests.hub_server import serving
from tests.test_cli import exit_code
from tests.test_targets import write_profile
from tests.tiny_files import image, write_image_model, write_images
from tests.tiny_task import SHORT, write_encoder, write_rows

ROOT = Path(__file__).parents[1]
PAGES = {page.name: page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS = re.compile(r"# needs (a foreign cluster|a GPU)")

# What is run instead, where a page names something large: .ci/run and scripts/wheel install, benchmarks search MiniLM.
_SMALLER = {
    r"^python3 -m venv .*? && \.venv/bin/paretoformer": "paretoformer",
    r"^python3 -m venv .*? scripts/test$": f"PYTHONPATH={ROOT} {ROOT}/scripts/test tests/test_size.py",
    r"minilm": "my-model",
    r"movie-reviews": "reviews.csv",
    r"--trials \d+": "--trials 8",
    r"^paretoformer search --": "paretoformer search short.yaml --",
    r"^(paretoformer recipe .*)": r"\1 --epochs 1",
}
_CONFIG = "space: {pruning: {ffn_group: 16}}\nsearch: {trials: 8, rows: 60, workers: 1}\nrecover: {epochs: 1}\n" + SHORT
# Of these an exit code of 3 is an answer, and what tiny models lose is luck.
_MAY_MISS = re.compile(r"^paretoformer (diff|reapply|select .*(--max-|--cascade))")


def blocks(page: str, language: str) -> list[str]:
    """What stands in a page's fences of one language."""
    return [text for found, text in _FENCE.findall(PAGES[page]) if found == language]


def commands(page: str) -> list[str]:
    """Every line of its shell fences."""
    return [line for block in blocks(page, "sh") for line in block.splitlines() if line and not line.startswith("#")]


def smaller(text: str) -> str:
    """The command, or the script, with what is large in it replaced."""
    for large, small in _SMALLER.items():
        text = re.sub(large, small, text)
    return text


@dataclass(frozen=True)
class Done:
    """What a command left: as written in the page, its exit code, and both streams."""

    line: str
    code: int
    out: str
    err: str

    @property
    def failed(self) -> bool:
        return self.code not in ((0, 3) if _MAY_MISS.match(self.line) else (0,))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with everything that the pages name: models, rows, texts, images; the working directory of all."""
    folder = tmp_path_factory.mktemp("desk")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PARETOFORMER_CACHE", str(folder / "cache"))
        for name, value in {"_PROCESSES": 1, "_GROUP": 25, "_INPUTS": 10}.items():
            patch.setattr(latency_model, name, value)
        patch.setattr("evaluators.profiling._ROUNDS", 3)
        patch.setattr("evaluators.profiling._PROCESSES", 1)
        quick = partial(Settings, rounds=1, processes=1, turns=1, seconds=0.05)
        patch.setattr("evaluators.ladder.steps.Settings", quick)
        _prepare(folder)
        yield folder


def _prepare(folder: Path) -> None:
    rows = [line.split(",") for line in write_rows(folder / "reviews.csv", rows=600).read_text().splitlines()]
    sources = ["source", *("paper", "web") * 300]
    lines = [",".join((*row, source)) for row, source in zip(rows, sources, strict=True)]
    (folder / "reviews.csv").write_text("\n".join(lines))
    texts = [text for text, _ in rows[1:]]
    for name in ("reviews.jsonl", "traffic.jsonl"):
        (folder / name).write_text("\n".join(json.dumps({"text": text}) for text in texts))
    for name in ("texts.txt", "more-texts.txt"):
        (folder / name).write_text("\n".join(texts))
    (folder / "short.yaml").write_text(_CONFIG)
    data = "task: {file: reviews.csv}\nlimits: {accuracy_drop: 20pt}\n"
    (folder / "my.yaml").write_text(f"model: my-model\n{data}{_CONFIG}")
    write_encoder(folder / "my-encoder")
    (folder / "encoder.yaml").write_text(f"model: my-encoder\n{data}{_CONFIG}")
    assert exit_code("search", "encoder.yaml", "--dry-run") == 0
    (finetuned,) = (folder / "cache" / "finetuned").iterdir()
    shutil.copytree(finetuned, folder / "my-model")
    write_image_model(folder / "my-vit")
    write_images(folder / "images")
    image(0, np.random.default_rng(0)).save(folder / "cat.png")
    write_profile(folder / "server.json", Target(label="server", processor="another", threads=2), scale=3.0)


@pytest.fixture(scope="module")
def first(desk: Path) -> list[Done]:
    """README.md's commands, which the other pages go on from."""
    return run("README.md")


def run(page: str) -> list[Done]:
    """All commands of a page that need nothing foreign, in their order."""
    done = []
    for line in commands(page):
        if NEEDS.search(line):
            continue
        small = smaller(line)
        words = shlex.split(small, comments=True)
        plain = words[0] == "paretoformer" and not {">", "--push-to"} & set(words)
        done.append(Done(line, *(_here(words[1:]) if plain else _in_shell(small))))
    return done


def _here(arguments: list[str]) -> tuple[int, str, str]:
    """One command of ours, in this process, which has loaded everything already."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = exit_code(*arguments)
    return code, out.getvalue(), err.getvalue()


def _in_shell(line: str) -> tuple[int, str, str]:
    """A line that is more than one command of ours, or pushes: the Hub's client reads its environment at its import."""
    with serving() as hub:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_x", "HF_HUB_OFFLINE": "0"}
        environment = {**os.environ, **(own if "--push-to" in line else {"PATH": path})}
        ended = subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, timeout=300, env=environment, check=False
        )
    return ended.returncode, ended.stdout, ended.stderr


def failures(done: list[Done]) -> list[str]:
    return [f"{each.line}\nexit code {each.code}\n{each.err[-1500:]}" for each in done if each.failed]


@pytest.mark.slow
def test_the_readme_s_commands_run_and_say_what_it_promises(first: list[Done]) -> None:
    assert not failures(first), "\n\n".join(failures(first))
    said = {smaller(each.line).partition(" #")[0].strip(): each.out for each in first}
    assert Path("results/first/report.html").is_file()
    assert json.loads(said['paretoformer predict model/ --text "A charming, funny film."'])["label"] in ("good", "bad")
    assert "one_liner" in said["paretoformer front results/first"]
    assert json.loads(Path("results/mine/front.json").read_text())["trials"]["complete"] == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(name, marks=pytest.mark.long if name == "recipes.md" else ())
        for name in PAGES
        if name not in ("README.md", "clusters.md") and commands(name)
    ],
)
def test_a_page_s_commands_run(page: str, first: list[Done]) -> None:
    done = run(page)
    assert not failures(done), "\n\n".join(failures(done))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.ray
def test_the_commands_about_clusters_run(first: list[Done], monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 * 2**20})
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)  # what `--address auto` finds
    try:
        done = run("clusters.md")
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert not failures(done), "\n\n".join(failures(done))


@pytest.mark.slow
def test_the_python_of_the_readme_runs(first: list[Done]) -> None:
    (script,) = blocks("README.md", "python")
    whole = '"search": {"trials": 80, "seed": 0}'
    assert whole in script
    small = smaller(script).replace(whole, "**short")
    exec(compile(small, "README.md", "exec"), {"short": yaml.safe_load(_CONFIG)})
    assert Path("results/python/front.json").is_file()


def test_nearly_every_command_is_run_and_the_others_say_what_they_need() -> None:
    lines = [line for page in PAGES for line in commands(page)]
    run_here = [line for line in lines if not NEEDS.search(line)]
    assert len(lines) > 40
    assert len(run_here) / len(lines) >= 0.85
    fenced = {language for text in PAGES.values() for language, _ in _FENCE.findall(text)}
    assert fenced <= {"sh", "bash", "yaml", "python"}  # no command hides in a fence of another name


def test_configurations_are_read_and_scripts_are_sound() -> None:
    for page in PAGES:
        for block in blocks(page, "yaml"):
            content = yaml.safe_load(block)
            if "cluster_name" in content:
                _assert_ray_takes(content)
            else:
                RunConfig.parse(content)
        for block in blocks(page, "bash"):
            subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def _assert_ray_takes(content: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(content))


def test_links_lead_somewhere() -> None:
    for page, text in PAGES.items():
        folder = ROOT if page == "README.md" else ROOT / "docs"
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
            name, _, anchor = target.partition("#")
            path = folder / name if name else folder / page
            assert path.exists(), f"{page}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
                assert anchor in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}, target


def test_messages_of_the_table_are_those_of_the_code() -> None:
    keys = re.findall(r"^\| `([^`]+)` \|", PAGES["troubleshooting.md"].partition("A trial that fails")[0], re.MULTILINE)
    said = [text for folder in ("spaces", "evaluators", "search") for text in _texts(ROOT / folder)]
    assert len(keys) > 30
    for key in keys:
        pattern = re.compile(re.sub(r"\\?\b[A-Z]{2,}\b", ".+?", re.escape(key)))
        assert any(pattern.search(text) for text in said), key


def _texts(folder: Path) -> Iterator[str]:
    """Every string of the code, with a mark where a value is put in."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
