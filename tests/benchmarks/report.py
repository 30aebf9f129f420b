"""What every benchmark writes: NAME.md for people, NAME.json for checks. Knows claims and tables; measures nothing."""

import json
import operator
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluators.metrics.host import describe_host, git_commit

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "results" / "benchmarks"
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le, "==": operator.eq}


@dataclass(frozen=True)
class Claim:
    """A line of an issue's "done when" as a comparison; `values` holds one figure per seed."""

    id: str
    what: str
    op: str
    target: float
    values: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        measured = statistics.median(self.values)
        return {
            "id": self.id,
            "what": self.what,
            "op": self.op,
            "target": self.target,
            "values": list(self.values),
            "measured": measured,
            "ci95": [min(self.values), max(self.values)],
            "met": _OPERATORS[self.op](measured, self.target),
        }


def write(
    name: str, seeds: Sequence[int], rows: Sequence[Mapping[str, Any]], claims: Sequence[Claim], missing: int = 0
) -> str:
    """Write both files under results/benchmarks/ and return the Markdown.

    Args:
        name: of the benchmark.
        seeds: that were run.
        rows: one mapping per line of the table, all with the same keys.
        claims: what is compared with the issue.
        missing: rows that are still to be run.
    """
    host = describe_host()
    document = {
        "name": name,
        "command": f"python {Path(sys.argv[0])} {' '.join(sys.argv[1:])}".strip(),
        "commit": git_commit(ROOT),
        "machine": {key: value for key, value in host.items() if key != "versions"},
        "versions": host.get("versions", {}),
        "seeds": list(seeds),
        "rows": list(rows),
        "claims": [claim.to_json() for claim in claims],
        "missing_rows": missing,
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    text = _markdown(document)
    (FOLDER / f"{name}.md").write_text(text)
    return text


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of mappings with the same keys."""
    if not rows:
        return ""
    header = list(rows[0])
    lines = [header, ["---"] * len(header), *([_cell(row[key]) for key in header] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _markdown(document: Mapping[str, Any]) -> str:
    claims = [
        {
            "claim": claim["id"],
            "what": claim["what"],
            "target": f"{claim['op']} {claim['target']:g}",
            "measured (median)": claim["measured"],
            "per seed": ", ".join(f"{value:.4g}" for value in claim["values"]),
            "met": "yes" if claim["met"] else "no",
        }
        for claim in document["claims"]
    ]
    about = [f"{key}: {value}" for key, value in {**document["machine"], **document["versions"]}.items()]
    return "\n".join(
        [
            f"# {document['name']}",
            "",
            f"`{document['command']}`, commit {document['commit']}, seeds {document['seeds']}",
            "",
            *(
                [f"{document['missing_rows']} rows are still missing: the command continues.", ""]
                * bool(document["missing_rows"])
            ),
            table(claims),
            table(document["rows"]),
            "Machine and versions: " + "; ".join(about),
            "",
        ]
    )


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
