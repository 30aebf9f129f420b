"""The model card of an exported model. Knows figures and Markdown; knows nothing of models."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search import tables
from search.config import read_yaml
from search.figures import Estimate, MemberFigures
from search.front_file import FrontFile
from search.page import certificate
from search.snippets import Snippet, asking, snippets
from spaces.medium import medium_in
from spaces.objectives import AGREEMENT

_METHOD = """Latency is the mean over a fixed sample of real inputs, each the median over rounds in fresh processes that
alternate with the baselines; speed-ups carry 95 % intervals. `fair` is the untouched model in the same runtime (fp32),
`one_liner` the runtime's own dynamic int8 quantization, `pipeline` eager PyTorch. {lost} Search rows chose the model,
so their figures flatter it; confirm rows decided, test rows were read last."""
_LOST = "Accuracy lost is paired on the same rows."
_UNLABELLED = "No row has a label: agreement is with `fair`'s own answers, and nothing is known of who is right."
_UNCHECKED = """For {rows}s like those of the task. Not checked: other {kinds}, fairness between groups of
people, robustness to {rows}s made to mislead it, calibration of its probabilities, other devices and threads than those
above. It has whatever biases its original has, and compression may add to them: compare both on your own rows
(`paretoformer diff`) before it decides about anybody."""
# What the Hub calls a problem, and those of our metrics that it calls otherwise.
_PIPELINES = {"embeddings": "sentence-similarity", "token-classification": "token-classification"}
_METRIC_IDS = {
    "f1_micro": "f1",
    "f1_macro": "f1",
    "matthews": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
}


@dataclass(frozen=True)
class Shipped:
    """How a model leaves its run.

    Args:
        folder: what lies there.
        name: what loaders are given: the folder's final place, or its name in the Hub.
        command: that exported it.
        design: content of its design.json.
        limits: in force when it was picked, by name.
        pushed: whether `name` is that in the Hub.
        base: the original's id in the Hub, where that is known.
        license: the original's, likewise.
        same: of a folder of torch weights the share of confirm rows, and their number, on which it answers as the
            measured model does; None: it is the measured one.
    """

    folder: Path
    name: str
    command: str
    design: Mapping[str, Any]
    limits: Mapping[str, str] = field(default_factory=dict)
    pushed: bool = False
    base: str | None = None
    license: str | None = None
    same: tuple[float, int] | None = None


def card(run: Path, front: FrontFile, member: MemberFigures, shipped: Shipped) -> str:
    """README.md of an exported folder, but for its front matter: what it is, how it was measured, how to run it.

    Args:
        run: the run's folder, whose config.resolved.yaml and env.json are quoted.
        front: the run's answer.
        member: the model.
        shipped: where and how it is exported.
    """
    config = read_yaml(run / "config.resolved.yaml")
    environment = json.loads((run / "env.json").read_text())
    medium = medium_in(shipped.design)
    sections = [
        f"# {_called(config['model'])}, compressed: {tables.described(member, front)}",
        f"Made by paretoformer from `{shipped.base or _called(config['model'])}` {_origin(front, config)}; "
        f"key `{member.key}`.",
        *_of_torch(shipped),
        "## Figures",
        _figures(front, member),
        _METHOD.format(lost=_UNLABELLED if _unlabelled(front) else _LOST),
        "## What was removed",
        _removed(front, member),
        "## Limits and certificate",
        _claims(front, member, shipped.limits),
        "## Device",
        _device(front, environment),
        "## Run it",
        *_loaders(shipped),
        "## Intended use, and what was not checked",
        _UNCHECKED.format(rows=medium.name, kinds="sources" if medium.of_files else "languages and domains"),
        "## How it was made",
        f"```\n{shipped.command}\n```",
        "The run's configuration, for `paretoformer search`:",
        f"```yaml\n{(run / 'config.resolved.yaml').read_text()}```",
    ]
    return _without_home("\n\n".join(sections)) + "\n"


def front_data(run: Path, front: FrontFile, member: MemberFigures, shipped: Shipped) -> dict[str, Any]:
    """What the card's front matter says, as `huggingface_hub.ModelCardData` names it; None where it is not known."""
    config = read_yaml(run / "config.resolved.yaml")
    dataset = config["task"].get("dataset")
    return {
        "license": shipped.license,
        "base_model": shipped.base,
        "library_name": _library(shipped),
        "pipeline_tag": _pipeline(shipped.design),
        "tags": ["paretoformer", "compressed", *_tags(member, shipped)],
        "datasets": None if dataset is None else [dataset],
        "metrics": None if _unlabelled(front) else [_metric(front)],
        "model_name": f"{_called(config['model'])}, compressed" if _measured(front, member, shipped) else None,
    }


def results(run: Path, front: FrontFile, member: MemberFigures, shipped: Shipped) -> list[dict[str, Any]]:
    """Its measured figures on confirm and test as `huggingface_hub.EvalResult` names them; none of torch weights, which
    were not measured themselves, nor of a model that is not verified, nor where nobody knows who is right."""
    if not _measured(front, member, shipped):
        return []
    task = read_yaml(run / "config.resolved.yaml")["task"]
    source, pipeline = _source(task), _pipeline(shipped.design)
    return [
        {
            "task_type": pipeline,
            "dataset_type": source,
            "dataset_name": source,
            "dataset_split": split,
            "metric_type": _metric(front),
            "metric_name": f"{front.metric} on {figure.n:,} {split} rows",
            "metric_value": round(figure.value, 4),
        }
        for split, figure in member.accuracy.items()
        if split != "search"
    ]


def _measured(front: FrontFile, member: MemberFigures, shipped: Shipped) -> bool:
    return member.verified and shipped.same is None and not _unlabelled(front)


def _unlabelled(front: FrontFile) -> bool:
    return front.metric == AGREEMENT


def _library(shipped: Shipped) -> str:
    if shipped.same is not None:
        return "transformers"
    return "sentence-transformers" if shipped.design.get("problem") == "embeddings" else "onnx"


def _pipeline(design: Mapping[str, Any]) -> str:
    return _PIPELINES.get(str(design.get("problem")), medium_in(design).pipeline)


def _metric(front: FrontFile) -> str:
    name = front.metric.replace(":", ".").rpartition(".")[2]
    return _METRIC_IDS.get(name, name)


def _tags(member: MemberFigures, shipped: Shipped) -> list[str]:
    if shipped.same is not None:
        return ["pytorch"]
    parts = tables.Parts.of(member.decoded)
    widths = {*parts.bits, parts.embeddings} if parts is not None else set()
    return ["onnx", *(f"int{bits}" for bits in (8, 4) if bits in widths)]


def _origin(front: FrontFile, config: Mapping[str, Any]) -> str:
    if _unlabelled(front):
        return f"as it came, on the unlabelled rows of {_source(config['task'])}"
    return f"fine-tuned on {_source(config['task'])}"


def _source(task: Mapping[str, Any]) -> str:
    named = task.get("name") or task.get("dataset")
    return str(named or Path(task.get("file") or task.get("folder") or task["data"]).name)


def _called(model: str) -> str:
    """A model's name; of a folder its last part, for the rest of the path is nobody's business."""
    return Path(model).name if Path(model).expanduser().is_absolute() or model.startswith(".") else model


def _without_home(text: str) -> str:
    """With the user's own folder as ~: a card is for everybody."""
    return text.replace(f"{Path.home()}/", "~/")


def _of_torch(shipped: Shipped) -> list[str]:
    if shipped.same is None:
        return []
    share, rows = shipped.same
    return [
        "This folder holds the model's weights in 32 bits, for torch, which has no narrower ones here. The figures\n"
        "below are those of the model as it was measured, in its own runtime and widths. This folder gives the same\n"
        f"answer on {share:.2%} of {rows:,} confirm rows, and was not timed."
    ]


def _figures(front: FrontFile, member: MemberFigures) -> str:
    rows = [
        (f"{front.metric} on {split}", tables.interval(Estimate(f.value, *f.ci95)), f.n)
        for split, f in member.accuracy.items()
    ]
    lines = [
        "| figure | value [95 %] | rows |",
        "|---|---|---|",
        *(f"| {name} | {value} | {n} |" for name, value, n in rows),
    ]
    for split, figure in member.accuracy.items():
        if figure.drop is not None:
            lines.append(f"| points lost on {split} | {tables.interval(figure.drop, 100, 2)} | {figure.n} |")
        lines += [
            f"| {name.replace('_', ' ')} on {split} ({guard.group}), points | {tables.interval(guard.share, 100, 2)} | "
            f"{guard.n} |"
            for name in tables.asked_guards(front)
            if (guard := figure.guards.get(name)) is not None
        ]
    if member.latency is not None:
        p95 = "" if member.latency.p95_ms is None else f", p95 {member.latency.p95_ms:.2f}"
        lines.append(f"| latency, ms per call | {member.latency.mean_ms:.2f}{p95} | |")
        lines += [
            f"| times faster than {name} | {tables.interval(f, 1, 2)} | |" for name, f in member.latency.speedup.items()
        ]
    if member.size is not None:
        lines.append(f"| bytes | {member.size.bytes:,} (tokenizer {member.size.tokenizer_bytes:,}) | |")
    if not member.verified:
        lines.append("\nNot verified: these are figures of the search.")
    return "\n".join(lines)


def _removed(front: FrontFile, member: MemberFigures) -> str:
    """What each of the original's layers still has, and in which width."""
    if member.decoded is None or "layers" not in member.decoded:
        return f"It is {tables.described(member, front)}; its stages' own design.json say what is left of each."
    fair = front.baselines.get("fair")
    whole = (None if fair is None or fair.decoded is None else fair.decoded.get("layers")) or member.decoded["layers"]
    lines = ["| layer | heads | neurons | bits of attention, FFN | attention |", "|---|---|---|---|---|"]
    for place, (layer, original) in enumerate(zip(member.decoded["layers"], whole, strict=True)):
        lines.append(f"| {place} | {_layer(layer, original or layer)} |")
    tables_, head = member.decoded.get("embeddings", {}), member.decoded.get("head", {})
    said = [
        f"Word and position tables: {tables_.get('bits', 32)} bits",
        f"pooler and classifier: {head.get('bits', 32)}",
    ]
    if tables_.get("vocabulary") is not None:
        said.append(f"vocabulary: {tables_['vocabulary']:,} tokens")
    if tables_.get("exact_rows") is not None:
        said.append(f"rows of {tables_['exact_rows']:,} tokens are exact, the others put together from shared parts")
    if (level := member.decoded.get("compression", {}).get("level")) is not None:
        said.append(f"the most significant {level:.0%} of a text's tokens are read")
    return "\n".join([*lines, "", "; ".join(said) + "."])


def _layer(layer: Mapping[str, Any] | None, original: Mapping[str, Any] | None) -> str:
    if layer is None or original is None:
        return "gone | gone | | "
    bits = layer.get("bits", {})
    widths = ", ".join(str(bits.get(block) or "-") for block in ("attention", "ffn"))
    heads = f"{len(layer['heads'])} of {len(original['heads'])}"
    return f"{heads} | {layer['ffn']:,} of {original['ffn']:,} | {widths} | {layer.get('attention', 'soft')}"


def _claims(front: FrontFile, member: MemberFigures, limits: Mapping[str, str]) -> str:
    """Limits in force, why it was picked, and what may be claimed of its accuracy."""
    said = [f"- limits in force: {', '.join(f'{name} <= {text}' for name, text in limits.items()) or 'none'}"]
    picks = [pick for pick in front.picks if pick.key == member.key]
    said += [f"- picked as `{pick.name}`: {pick.reason}; {certificate(pick, front)}" for pick in picks]
    if not picks:
        said.append("- not among the run's picks: its loss of accuracy is an estimate, without a certificate")
    return "\n".join(said)


def _device(front: FrontFile, environment: dict[str, Any]) -> str:
    target = dict(front.targets[0]) if front.targets else {}
    told = {**target, **{name: value for name, value in environment.items() if name not in ("libraries",)}}
    return "\n".join(f"- {name}: {value}" for name, value in told.items())


def _loaders(shipped: Shipped) -> list[str]:
    """A paragraph for each way to run the folder."""
    torch = shipped.same is not None
    found = snippets(shipped.name, shipped.design, torch=torch, pushed=shipped.pushed)
    loaders = [_snippet(each) for each in found]
    if torch:
        return loaders
    loaders.insert(0, f"With paretoformer: `paretoformer predict {shipped.name} {asking(shipped.design)}`")
    if (example := shipped.folder / "example.py").exists():
        script = (
            f"With onnxruntime and transformers, as `python example.py` does:\n\n```python\n{example.read_text()}```"
        )
        loaders.insert(1, script)
    elif not loaders[1:]:
        loaders.append("Its file needs paretoformer's own loader; `select --as torch` writes a folder that does not.")
    return loaders


def _snippet(snippet: Snippet) -> str:
    return f"With {snippet.loader} (`pip install {snippet.needs}`):\n\n```python\n{snippet.code}```"
