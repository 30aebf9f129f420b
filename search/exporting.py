"""A picked member as a folder of its own: as it was measured or for torch, described, and pushed to the Hub.

Knows runs and folders. Imports concrete evaluators inside functions, and torch only where it is asked for.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.card import Shipped, card, front_data, results
from search.config import read_yaml
from search.figures import MemberFigures
from search.front_file import FrontFile
from search.snippets import asking
from spaces.axes.attention import NONE, SOFT, Attention
from spaces.axes.compression import WHOLE, Compression
from spaces.errors import RunError
from spaces.medium import medium_in


@dataclass(frozen=True)
class Export:
    """Where a picked member goes, and in which form.

    Args:
        folder: must not exist, or be empty.
        command: what the user called.
        torch: whether it is made anew as torch weights of 32 bits; otherwise the measured files are copied.
        push_to: ORGANISATION/NAME in the Hub; None: it stays here.
        private: whether a new repository there is.
    """

    folder: Path
    command: str
    torch: bool = False
    push_to: str | None = None
    private: bool = False


def export(run: Path, front: FrontFile, member: MemberFigures, limits: Mapping[str, str], asked: Export) -> list[str]:
    """Write the folder, whole or not at all, and push it if that is asked for.

    Args:
        run: the run's folder.
        front: its answer.
        member: of it.
        limits: in force.
        asked: where to, and how.

    Returns:
        What there is to say, line by line.

    Raises:
        RunError: the member was not exported by its run, the folder is in use, or torch cannot run the member.
        ConfigError: the Hub would not take it.
    """
    from evaluators import hub

    source = run / member.artifact if member.artifact else None
    if source is None or not source.is_dir():
        raise RunError(f"{member.key} was not exported yet. Run: paretoformer verify {run}")
    if asked.folder.exists() and any(asked.folder.iterdir()):
        raise RunError(f"{asked.folder} is not empty. Name another folder with --export.")
    if asked.push_to is not None:
        hub.check_push(asked.push_to)
    design = json.loads((source / "design.json").read_text())
    asked.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=asked.folder.parent, prefix=f".{asked.folder.name}-") as scratch:
        fresh = Path(scratch) / "fresh"
        same = _for_torch(run, source, member, design, fresh) if asked.torch else None
        if same is None:
            shutil.copytree(source, fresh)
        origin = hub.base(str(read_yaml(run / "config.resolved.yaml")["model"]))
        shipped = Shipped(
            fresh,
            asked.push_to or str(asked.folder),
            asked.command,
            design,
            limits,
            pushed=asked.push_to is not None,
            base=origin.id,
            license=origin.license,
            same=same,
        )
        about = run, front, member, shipped
        (fresh / "metrics.json").write_text(json.dumps(member.to_json(), indent=1))
        (fresh / "README.md").write_text(hub.front_matter(front_data(*about), results(*about)) + card(*about))
        if asked.folder.exists():
            asked.folder.rmdir()
        fresh.rename(asked.folder)
    said = [_written(asked.folder, same, asking(design))]
    if asked.push_to is not None:
        said.append(f"Pushed to {hub.push(asked.folder, asked.push_to, private=asked.private)}")
    return said


def _written(folder: Path, same: tuple[float, int] | None, asking: str) -> str:
    if same is None:
        return f"Wrote {folder}. Try it: paretoformer predict {folder} {asking}"
    share, rows = same
    return (
        f"Wrote {folder} for torch, with weights of 32 bits: torch has no narrower ones here. It answers as the "
        f'measured model does on {share:.2%} of {rows:,} confirm rows. Try it: python {folder / "load.py"} "..."'
    )


def _for_torch(
    run: Path, source: Path, member: MemberFigures, design: Mapping[str, Any], out: Path
) -> tuple[float, int]:
    """Make the member anew in torch; how often it answers as the exported one does, and on how many rows.

    Raises:
        RunError: torch and a short loader cannot run it, or the run's model is no longer what it was.
    """
    _refuse_for_torch(member, design)
    from evaluators.pretrained import write_pretrained
    from search import wiring
    from search.progress import Display
    from search.so_far import read_config

    assert member.decoded is not None
    work = wiring.assignment(read_config(run))
    with closing(Display()) as shown:
        return write_pretrained(out, work, run, source, member.decoded, member.weights, shown.stage)


def _refuse_for_torch(member: MemberFigures, design: Mapping[str, Any]) -> None:
    cure = "Leave --as out, or pick another member."
    if member.decoded is None or member.kind != "single":
        raise RunError(f"{member.key} is a {member.kind}: --as torch writes single models. {cure}")
    if (medium := medium_in(design)).of_files:
        raise RunError(f"{member.key} reads files of {medium.name}: --as torch writes classifiers of texts. {cure}")
    if (problem := design.get("problem")) in ("embeddings", "token-classification"):
        raise RunError(f"{member.key} is of {problem}: --as torch writes classifiers of whole texts. {cure}")
    kinds = Attention.from_decoded(member.decoded).layers
    others = sorted({str(kind) for kind in kinds if kind is not None and kind.name not in (SOFT, NONE)})
    if others:
        raise RunError(
            f"{member.key} attends by {', '.join(others)}: --as torch writes models of soft attention. {cure}"
        )
    if (level := Compression.from_decoded(member.decoded).level) != WHOLE:
        raise RunError(
            f"{member.key} reads {level:.0%} of a text: --as torch writes models that read all of it. {cure}"
        )
