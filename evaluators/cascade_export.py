"""Exported cascades: one folder with the exported folder of every stage. Knows files; knows nothing of answers."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluators.artifact import DESIGN
from evaluators.cascade import CASCADE, Stage, check, is_linear
from evaluators.example import FILE as EXAMPLE
from evaluators.metrics.size import TOKENIZER_FILES
from spaces.errors import ModelError

_OF_THE_LAST = ("classes", "max_length", "weights", "runtime", "target", "rows")


def write_cascade(
    folder: Path,
    stages: Sequence[Stage],
    sources: Sequence[Path],
    design: Mapping[str, Any],
    *,
    metrics: Mapping[str, Any] | None = None,
    card: str | None = None,
) -> None:
    """Write an exported cascade so that `folder` is at no time half of one; an older export in it is replaced.

    Args:
        folder: where to; its parents are made.
        stages: in order; see `numbered`.
        sources: per stage the exported folder that is copied; the first may be a linear baseline's.
        design: at least the cascade's `key`; what it does not say of classes, length, weights, runtime and target is
            the last stage's.
        metrics: figures, if there are any.
        card: the model card's text, if there is one.

    Raises:
        ModelError: these are no stages of one cascade, or `folder` holds other files.
    """
    check(stages, sources)
    if folder.exists() and not (folder / DESIGN).is_file() and any(folder.iterdir()):
        raise ModelError(f"{folder} holds files that are not an exported model. Name another folder, or empty it.")
    described = _described(stages, sources, design)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as staging:
        fresh = Path(staging) / "fresh"
        _copy(fresh, stages, sources)
        _write_json(fresh / CASCADE, {"stages": [asdict(stage) for stage in stages]})
        _write_json(fresh / DESIGN, described)
        if metrics is not None:
            _write_json(fresh / "metrics.json", metrics)
        if card is not None:
            (fresh / "README.md").write_text(card)
        if folder.exists():
            shutil.move(folder, Path(staging) / "old")
        fresh.rename(folder)


def _copy(folder: Path, stages: Sequence[Stage], sources: Sequence[Path]) -> None:
    """Every stage whole, the last one's tokenizer at the top for readers of any exported model, and an example."""
    for stage, source in zip(stages, sources, strict=True):
        shutil.copytree(source, folder / stage.folder)
    for path in sources[-1].iterdir():
        if path.name in TOKENIZER_FILES:
            shutil.copy(path, folder)
    if all(is_linear(source) or (source / "model.onnx").is_file() for source in sources):
        (folder / EXAMPLE).write_text(_HEAD + (_LINEAR_FIRST if is_linear(sources[0]) else _TRANSFORMERS) + _LOOP)


def _described(stages: Sequence[Stage], sources: Sequence[Path], design: Mapping[str, Any]) -> dict[str, Any]:
    """design.json of the cascade."""
    designs = [{"key": "linear"} if is_linear(s) else json.loads((s / DESIGN).read_text()) for s in sources]
    last = designs[-1]
    for each, source in zip(designs, sources, strict=True):
        if each.get("classes", last["classes"]) != last["classes"]:
            raise ModelError(f"{source} answers {each['classes']}, the last stage {last['classes']}. Take one task's.")
    members = [{**asdict(stage), "key": each.get("key")} for stage, each in zip(stages, designs, strict=True)]
    taken = {name: last[name] for name in _OF_THE_LAST if name in last}
    return {**taken, **design, "kind": "cascade", "filename": CASCADE, "stages": members}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


# What an exported cascade holds for those without this project: plain onnxruntime and transformers.
_HEAD = """\
import json, pathlib, sys
import numpy, onnxruntime, transformers

folder = pathlib.Path(__file__).parent
classes = json.loads((folder / "design.json").read_text())["classes"]
stages = json.loads((folder / "cascade.json").read_text())["stages"]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1

def transformer(path):
    design = json.loads((path / "design.json").read_text())
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    session = onnxruntime.InferenceSession(path / design["filename"], options, providers=["CPUExecutionProvider"])
    def logits(text):
        tokens = tokenizer(text, truncation=True, max_length=design["max_length"], return_tensors="np")
        return session.run(["logits"], {entry.name: tokens[entry.name] for entry in session.get_inputs()})[0][0]
    return logits

"""
_TRANSFORMERS = 'models = [transformer(folder / stage["folder"]) for stage in stages]\n'
_LINEAR_FIRST = r"""
import collections, itertools, re

def linear(path):
    terms = json.loads((path / "vocabulary.json").read_text(encoding="utf-8"))
    columns, weights = {term: column for column, term in enumerate(terms)}, dict(numpy.load(path / "weights.npz"))
    def logits(text):
        words = re.findall(r"\b\w\w+\b", text.lower())
        counts = collections.Counter(words + [" ".join(pair) for pair in itertools.pairwise(words)])
        known = {columns[term]: count for term, count in counts.items() if term in columns}
        rows = numpy.array(list(known), dtype=int)
        tfidf = numpy.array(list(known.values())) * weights["idf"][rows]
        return tfidf @ weights["coefficients"][rows] / (numpy.linalg.norm(tfidf) or 1) + weights["intercept"]
    return logits

models = [linear(folder / stages[0]["folder"])] + [transformer(folder / stage["folder"]) for stage in stages[1:]]
"""
_LOOP = """\
for text in sys.argv[1:] or ["A warm, funny and wise film.", "Two hours of boredom."]:
    for stage, logits in zip(stages, models):
        scaled = logits(text) / stage["temperature"]
        scores = numpy.exp(scaled - scaled.max())
        scores /= scores.sum()
        if stage["threshold"] is None or scores.max() >= stage["threshold"]:
            break
    print(classes[scores.argmax()], f"{scores.max():.4f}")
"""
