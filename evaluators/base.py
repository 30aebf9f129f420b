"""Jobs, and the contracts of those who do them. Knows no model: search sees nothing else of this package."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias

from spaces.design import Member, content_key
from spaces.objectives import Evaluation, Failed


@dataclass(frozen=True)
class Score:
    """Assemble `member` and score it on the first `rows` rows of a split (all of them if None)."""

    member: Member
    rows: int | None = None
    split: str = "search"

    @property
    def key(self) -> str:
        return self.member.key


@dataclass(frozen=True)
class Verify:
    """Load the exported artefact in `folder` and score it on whole splits; `member` says what it should be."""

    member: Member
    folder: Path
    splits: tuple[str, ...] = ("search", "confirm")

    @property
    def key(self) -> str:
        return content_key({"member": self.member.key, "splits": list(self.splits)})


Job: TypeAlias = Score | Verify


class Evaluator(Protocol):
    """Turns jobs into figures. Never changes what it was given, and can be used again afterwards."""

    def evaluate(self, job: Job) -> Evaluation: ...


class Builder(Protocol):
    """Writes a member as a folder that runs without this project."""

    def build(self, member: Member, folder: Path) -> None: ...


@dataclass
class Memoised:
    """An evaluator that does no job twice; failures are tried again."""

    inner: Evaluator

    def __post_init__(self) -> None:
        self._done: dict[Job, Evaluation] = {}

    def evaluate(self, job: Job) -> Evaluation:
        if job not in self._done:
            evaluation = self.inner.evaluate(job)
            if isinstance(evaluation.outcome, Failed):
                return evaluation
            self._done[job] = evaluation
        return self._done[job]


@dataclass(frozen=True)
class Retried:
    """An evaluator that tries a failed job again, `attempts` times in all."""

    inner: Evaluator
    attempts: int = 2

    def evaluate(self, job: Job) -> Evaluation:
        for attempt in range(1, self.attempts + 1):
            evaluation = self.inner.evaluate(job)
            if not isinstance(evaluation.outcome, Failed):
                break
        return replace(evaluation, attempts=attempt)
