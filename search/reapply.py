"""A finished run's member made again of new weights, and held against the limits that it was made for.

Knows runs, keys and limits; knows no models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluators.base import RECOVERED, trained
from search import front_file, run, wiring
from search.certificate import Test
from search.config import RunConfig, merged
from search.figures import MemberFigures
from search.front_file import FrontFile
from search.infeasible import verdict, wording
from search.ledger import Trial
from search.progress import Display
from search.record import Record
from search.select import cost
from search.so_far import read_config
from spaces.errors import RunError

ORIGINAL = "finetuned"
# Epochs that a training may have been asked for, to know it by its id.
_MOST_EPOCHS = 100


@dataclass(frozen=True)
class Reapplied:
    """A member before and now.

    Args:
        key: the member's, the same in both runs.
        before: the run that it was found in.
        now: the run that it was made again in.
        folder: of the latter.
        missed: limits that no longer hold, and a certificate that is no longer given, one phrase each.
    """

    key: str
    before: FrontFile
    now: FrontFile
    folder: Path
    missed: tuple[str, ...]

    @property
    def held(self) -> bool:
        """Whether the limits held before."""
        return not missed(self.before, self.before, self.key)

    @property
    def same_rows(self) -> bool:
        """Whether both runs' figures are of the same rows."""
        return all(self.before.splits[name].sha256 == split.sha256 for name, split in self.now.splits.items())

    @property
    def same_machine(self) -> bool:
        """Whether both runs' milliseconds are of the same target."""
        return [each.key for each in self.before.situations()[:1]] == [each.key for each in self.now.situations()[:1]]


def reapply(
    folder: Path, model: str, wanted: str | None, out: Path | None, display: Display | None = None
) -> Reapplied:
    """The same design on new weights, in a run folder of its own: trained if it was, verified and certified again.

    Args:
        folder: of a verified run.
        model: a checkpoint of the run's architecture.
        wanted: a member's key, its beginning, or a pick's name; None: the pick `limits`, else `knee`.
        out: folder of the new run; None: one under results/.
        display: shows progress.

    Raises:
        RunError: no such member, or one that cannot be made again; `out` is in use.
        ModelError: no such model, or another architecture.
    """
    before, config = front_file.read(folder), read_config(folder)
    member = chosen(before, wanted)
    steps = trainings(folder, config, member)
    config = _renewed(config, model, distilled=bool(steps))
    fair = before.baselines["fair"]
    wiring.refuse_another_architecture(config, folder / str(fair.artifact))
    assert member.decoded is not None, "single members have a design"
    # What predicts latency is of the sizes and the machine, not of the weights; one of another machine is made anew.
    latency = tuple(sorted(folder.glob("latency_model*.json")))
    asked = run.Given(member.decoded, member.weights, steps, latency)
    out = out or run.fresh_folder(config)
    now = run.given(config, out, asked, display)
    return Reapplied(member.key, before, now, out, tuple(missed(before, now, member.key)))


def chosen(front: FrontFile, wanted: str | None) -> MemberFigures:
    """The member that is meant.

    Raises:
        RunError: none, or several; a cascade; or one whose weights new ones cannot stand in for.
    """
    picks = {pick.name: pick for pick in front.picks}
    limits = picks.get("limits")
    name = wanted or ("limits" if limits is not None and limits.key is not None else "knee")
    listed = f"Give a key of `paretoformer front`, or a pick: {', '.join(picks) or 'none yet'}."
    if name in picks and picks[name].key is None:
        raise RunError(f"The pick {name} of {front.run} is empty: {picks[name].reason}. {listed}")
    key = str(picks[name].key) if name in picks else name
    found = [member for member in front.members if member.key.startswith(key)]
    if len(found) != 1:
        raise RunError(f"{front.run} has {len(found) or 'no'} members {key!r}. {listed}")
    (member,) = found
    if member.kind == "cascade":
        stages = ", ".join(member.parents)
        raise RunError(
            f"{key} is a cascade of {stages}, whose thresholds are of the old weights. Reapply its members one by one, "
            "or search for cascades anew: resume --cascades."
        )
    if not member.weights.startswith((ORIGINAL, RECOVERED)):
        raise RunError(
            f"{key} has weights of its own ({member.weights}), made of the pre-trained model: new ones cannot take "
            f"their place. {listed}"
        )
    return member


def missed(before: FrontFile, now: FrontFile, key: str) -> list[str]:
    """Limits that the member is beyond now; and its certificate, if it had one and has none any more."""
    (member,) = (each for each in now.members if each.key == key)
    if member.note is not None:
        return [member.note]
    over = [(bound, cost(member, bound)) for bound in now.bounds()]
    phrases = [f"{wording(bound)}: now {verdict(bound, value)}" for bound, value in over if bound.excess(value) > 0]
    if not phrases and key in _passed(before) and key not in _passed(now):
        phrases.append(_uncertified(now, key))
    return phrases


def _passed(front: FrontFile) -> tuple[str, ...]:
    return () if front.certificate is None else front.certificate.passed


def _uncertified(now: FrontFile, key: str) -> str:
    test: Test | None = None if now.certificate is None else now.certificate.tests.get(key)
    limit, rows = now.limits.get("accuracy_drop"), now.splits["confirm"].n
    lost = "it could not be tested" if test is None else f"it may have lost {100 * test.upper:.2f} pt"
    return f"certified within {limit} before, and no longer on {rows:,} confirm rows: {lost}"


def _renewed(config: RunConfig, model: str, *, distilled: bool) -> RunConfig:
    """The run's configuration with another model; it asks for the texts that distillation learns from if it is to."""
    flags: dict[str, Any] = {"model": model, "verify.cascades": 0}
    if distilled:
        flags["recover.members"] = max(1, config.recover.members)
    return RunConfig.parse(merged(config.model_dump(mode="json"), flags))


def trainings(folder: Path, config: RunConfig, member: MemberFigures) -> tuple[run.Training, ...]:
    """What made the member's weights of the original's, first to last.

    Raises:
        RunError: the run's record does not say.
    """
    if member.weights == ORIGINAL:
        return ()
    trials = Record.open(folder, storage=config.search.storage).trials()
    steps, weights = list[run.Training](), member.weights
    while weights != ORIGINAL:
        step = _training(trials, weights)
        if step is None:
            raise RunError(f"{folder} does not say how {member.key} got its weights {weights}. Reapply another member.")
        steps.insert(0, step)
        weights = step.weights
    return tuple(steps)


def _training(trials: Sequence[Trial], weights: str) -> run.Training | None:
    """The training that weights of this id come of: the id says which, if it is known what was there to be trained."""
    for trial in trials:
        for epochs in range(_MOST_EPOCHS):
            if trained(trial.key, epochs) == weights:
                return run.Training(trial.decoded, trial.weights, epochs)
    return None
