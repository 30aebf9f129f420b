"""The model card of an exported model. Knows figures and Markdown; knows nothing of models."""

import json
from pathlib import Path
from typing import Any

from search import tables
from search.config import read_yaml
from search.figures import Estimate, MemberFigures
from search.front_file import FrontFile
from spaces.objectives import AGREEMENT

_METHOD = """Latency is the mean over a fixed sample of real inputs, each the median over rounds in fresh processes that
alternate with the baselines; speed-ups carry 95 % intervals. `fair` is the untouched model in the same runtime (fp32),
`one_liner` the runtime's own dynamic int8 quantization, `pipeline` eager PyTorch. {lost}"""
_LOST = "Accuracy lost is paired on the same rows."
_UNLABELLED = "No row has a label: agreement is with `fair`'s own answers, and nothing is known of who is right."


def card(run: Path, front: FrontFile, member: MemberFigures, out: Path) -> str:
    """README.md of an exported folder: what it is, how it was measured, how to run it without this project.

    Args:
        run: the run's folder, whose config.resolved.yaml and env.json are quoted.
        front: the run's answer.
        member: the model.
        out: where it is exported to.
    """
    config = read_yaml(run / "config.resolved.yaml")
    environment = json.loads((run / "env.json").read_text())
    sections = [
        _front_matter(config),
        f"# {config['model']}, compressed: {tables.described(member, front)}",
        f"Made by paretoformer from `{config['model']}` {_origin(front, config)}; key `{member.key}`.",
        "## Figures",
        _figures(front, member),
        _method(front),
        "## Device",
        _device(front, environment),
        "## Run it",
        f'With paretoformer: `paretoformer predict {out} --text "..."`. Without it: {_without_us(out)}',
        "## How it was made",
        f"```\nparetoformer select {run} {_flags(front)}--export {out}\n```",
        "The run's configuration:",
        f"```yaml\n{(run / 'config.resolved.yaml').read_text()}```",
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(config: dict[str, Any]) -> str:
    return "---\nlibrary_name: onnxruntime\npipeline_tag: text-classification\ntags:\n- paretoformer\n- compressed\n---"


def _origin(front: FrontFile, config: dict[str, Any]) -> str:
    if front.metric == AGREEMENT:
        return f"as it came, on the unlabelled texts of {config['task']['data']}"
    return f"fine-tuned on {_source(config['task'])}"


def _source(task: dict[str, Any]) -> str:
    return str(next(task[kind] for kind in ("name", "file", "dataset") if task.get(kind)))


def _method(front: FrontFile) -> str:
    return _METHOD.format(lost=_UNLABELLED if front.metric == AGREEMENT else _LOST)


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
    certified = [pick for pick in front.picks if pick.key == member.key]
    lines += ["", *(f"Picked as `{pick.name}`: {pick.reason}." for pick in certified)]
    return "\n".join(lines)


def _device(front: FrontFile, environment: dict[str, Any]) -> str:
    target = dict(front.targets[0]) if front.targets else {}
    told = {**target, **{name: value for name, value in environment.items() if name not in ("libraries",)}}
    return "\n".join(f"- {name}: {value}" for name, value in told.items())


def _flags(front: FrontFile) -> str:
    return "".join(f"--max-{name.replace('_', '-')} {text} " for name, text in front.limits.items())


def _without_us(out: Path) -> str:
    """The exported example, quoted; a runtime without a plain loader has none."""
    example = out / "example.py"
    if not example.exists():
        return "its file needs paretoformer's own loader for the torch runtime."
    return f"`python {example}` runs this:\n\n```python\n{example.read_text()}```"
