"""Distilled weights of cut models: trained, kept beside the run, and put back. Knows weights; decides nothing.

What is kept are the tensors that training changed, under the original's names. Put back into the original, whose other
units stay as they were, they make a model of the original's shape, which the same pruning cuts into the trained one:
so recovered members are assembled, scored and exported like all others.
"""

import copy
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel

from evaluators.anatomy import Anatomy
from evaluators.base import Train
from evaluators.codebook import Codebook
from evaluators.grades import Grades
from evaluators.latency_terms import attention
from evaluators.models import load_classifier
from evaluators.refit import Refit, followers
from evaluators.runtimes.base import Runtime, Smooths, Template
from evaluators.tasks.base import Encoded
from evaluators.training.distill import Distilled, DistillSettings, distill
from evaluators.training.finetune import FinetuneSettings, finetune
from evaluators.training.rounding import Rounding, SharedRows
from evaluators.training.schedule import Progress
from evaluators.training.teacher import Teacher
from evaluators.transforms.base import build
from evaluators.transforms.compress import graded
from evaluators.transforms.restore import changed, put_back
from spaces.axes.compression import WHOLE, compression
from spaces.axes.pruning import Pruning
from spaces.axes.quantization import Quantization
from spaces.axes.rare import RareTokens
from spaces.design import Member, content_key
from spaces.errors import ModelError, RunError
from spaces.shape import ModelShape

ORIGINAL = "finetuned"
_METADATA = "paretoformer"
_TEMPLATES = 3  # of recovered weights that a worker keeps open


@dataclass(frozen=True)
class Recovery:
    """What distillation needs besides the member.

    Args:
        checkpoint: the original's folder or Hub id.
        classes: of the task.
        rows: tokenised train rows and further ones without labels.
        settings: of distillation; a job says for how many epochs.
        seed: draws batches and held-out rows.
        folder: where weights are kept, one file per id.
        refit: whether what pruning leaves is refitted before it is trained (refit.py).
        device: where to train.
        ranking: ids of tokens, most needed first; empty: every member has the whole table.
        book: what rows of rare words are put together from; None: all rows are exact.
        pretrained: folder or Hub id that the original was fine-tuned from; None where it came fine-tuned.
        finetune: how it was.
        grades: of tokens, by which rows are compressed; None: every member reads all tokens.
        trust_remote_code: run the model author's code.
    """

    checkpoint: str
    classes: tuple[str, ...]
    rows: Encoded
    settings: DistillSettings
    seed: int
    folder: Path
    refit: bool = True
    device: str = "cpu"
    ranking: tuple[int, ...] = ()
    book: Codebook | None = None
    pretrained: str | None = None
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)
    grades: Grades | None = None
    trust_remote_code: bool = False

    def path(self, weights: str) -> Path:
        """The file of recovered weights."""
        return weights_file(self.folder, weights)

    def source(self) -> str:
        """What the original was fine-tuned from.

        Raises:
            ModelError: it came fine-tuned.
        """
        if self.pretrained is None:
            raise ModelError(
                f"{self.checkpoint} is fine-tuned for this task already: there are no pre-trained weights to fine-tune "
                "from again. Leave --refit out, or start from the model that it was fine-tuned from."
            )
        return self.pretrained

    def original(self) -> PreTrainedModel:
        """The original, loaded."""
        loaded = load_classifier(
            self.checkpoint, self.classes, self.rows.problem, trust_remote_code=self.trust_remote_code
        )
        model: PreTrainedModel = loaded[0]
        return model


def weights_file(folder: Path, weights: str) -> Path:
    """The file of recovered weights in the folder where a run keeps them."""
    return folder / f"{weights.partition(':')[2]}.safetensors"


class Recoverer:
    """Trains members of one run; loads the original and its answers once.

    Args:
        recovery: what to train with.
    """

    def __init__(self, recovery: Recovery) -> None:
        self._recovery = recovery

    def train(self, job: Train) -> dict[str, float]:
        """Refit a member, distil it, and keep its weights, unless they are there already.

        Returns:
            Figures: `epochs` trained and, unless that is 0, `best_epoch`, `held_out_kl` and `training_seconds`.
        """
        path = self._recovery.path(job.weights)
        if path.exists():
            return _figures(path)
        pruning, figures = job.member.config(Pruning), {"epochs": 0.0}
        student = self._student(job.member)
        if job.epochs:
            done = self._distilled(student, job)
            student, figures = done.model, _summary(done)
        keep(path, changed(student, self._original, pruning), pruning, figures)
        return figures

    def retrain(self, member: Member, progress: Callable[[Progress], None] | None = None) -> str:
        """Fine-tune a member's structure from the pre-trained weights on the labelled train rows; its weights are kept,
        unless they are there already.

        Returns:
            Id of the weights.

        Raises:
            ModelError: the original came fine-tuned.
        """
        work, pruning, source = self._recovery, member.config(Pruning), self._recovery.source()
        weights = f"retrained:{content_key({'retrained': member.decoded, 'settings': asdict(work.finetune)})}"
        path = work.path(weights)
        if not path.exists():
            whole, _ = load_classifier(
                source, work.classes, work.rows.problem, trust_remote_code=work.trust_remote_code, seed=work.seed
            )
            student = build(attention(member, self._shape), build(pruning, whole))
            labelled = work.rows.labelled()
            tuned = finetune(student, labelled, work.finetune, seed=work.seed, device=work.device, progress=progress)
            keep(
                path,
                changed(tuned, self._original, pruning),
                pruning,
                {"epochs": float(work.finetune.passes(len(labelled), labelled.problem))},
            )
        return weights

    def _student(self, member: Member) -> PreTrainedModel:
        """The cut model that training starts from: as it was trained before, or refitted."""
        pruning = member.config(Pruning)
        if member.weights != ORIGINAL:
            return build(pruning, put_back(self._original, *load(self._recovery.path(member.weights))))
        plain = build(pruning, self._original)
        if not self._recovery.refit:
            return plain
        device = self._recovery.device
        return nn.Module.to(self._refit(nn.Module.to(plain, device), pruning.kept_layers), "cpu")

    def _distilled(self, student: PreTrainedModel, job: Train) -> Distilled:
        kept = job.member.config(Pruning).kept_layers
        student = self._reading(job.member, build(attention(job.member, self._shape), student))
        rounding = Rounding.of(job.member.config(Quantization), student, kept)
        return distill(
            student,
            self._teacher,
            self._recovery.rows,
            followers(kept, self._shape.layers),
            self._recovery.settings.lasting(job.epochs),
            seed=self._recovery.seed,
            device=self._recovery.device,
            rounding=replace(rounding, shared=self._shared(job.member, student)),
        )

    def _reading(self, member: Member, student: PreTrainedModel) -> PreTrainedModel:
        """The student, reading the tokens that the member's artefact reads."""
        config, known = compression(member), self._recovery.grades
        if config.level != WHOLE and known is not None:
            student = graded(student, torch.tensor(known.grades, dtype=torch.uint8))
        return build(config, student)

    def _shared(self, member: Member, student: PreTrainedModel) -> dict[str, SharedRows]:
        """By name of the word table its rows of rare words, as the member's artefact puts them together."""
        rare = next((config for config in member.configs if isinstance(config, RareTokens)), RareTokens.none())
        if rare.exact is None or self._recovery.book is None:
            return {}
        words = student.get_input_embeddings()
        name = next(name for name, module in student.named_modules() if module is words)
        return {name: SharedRows.of(rare, self._recovery.ranking, self._recovery.book)}

    @cached_property
    def _original(self) -> PreTrainedModel:
        return self._recovery.original()

    @cached_property
    def _refit(self) -> Refit:
        device = self._recovery.device
        return Refit(nn.Module.to(copy.deepcopy(self._original), device), self._recovery.rows, device)

    @property
    def _shape(self) -> ModelShape:
        return Anatomy.of(self._original).shape

    @cached_property
    def _teacher(self) -> Teacher:
        layers, work = range(self._shape.layers), self._recovery
        return Teacher.of(
            self._original,
            work.rows,
            hidden_layers=layers if work.settings.hidden else (),
            attention_layers=layers if work.settings.attention else (),
            device=work.device,
        )


class Templates:
    """The templates of a run by the id of their weights; those of recovered weights are made when asked for.

    Args:
        original: of the original weights.
        runtime: makes templates.
        recovery: knows where recovered weights are; None where there are none.
    """

    def __init__(self, original: Template, runtime: Runtime, recovery: Recovery | None) -> None:
        self._original = original
        self._runtime = runtime
        self._recovery = recovery
        self._made: dict[str, Template] = {}

    def of(self, weights: str) -> Template:
        """The template of some weights.

        Raises:
            RunError: there are no weights of that id.
        """
        if weights == ORIGINAL:
            return self._original
        if weights not in self._made:
            if self._recovery is None:
                raise RunError(f"This run has no weights {weights}; it has {ORIGINAL} only.")
            if len(self._made) >= _TEMPLATES:
                del self._made[next(iter(self._made))]
            model = put_back(self._model, *load(self._recovery.path(weights)))
            original = self._original
            made = self._runtime.template(model, pairs=self._recovery.rows.pairs).with_vocabulary(
                original.ranking, original.book
            )
            if original.grades is not None:
                made = made.with_grades(original.grades)
            if isinstance(original, Smooths) and isinstance(made, Smooths):
                made = made.smoothing(original.spreads)
            self._made[weights] = made
        return self._made[weights]

    @cached_property
    def _model(self) -> PreTrainedModel:
        assert self._recovery is not None
        return self._recovery.original()


def keep(path: Path, tensors: Mapping[str, Tensor], pruning: Pruning, figures: Mapping[str, float]) -> None:
    """Write trained tensors, all of the file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {_METADATA: json.dumps({"pruning": pruning.to_decoded(), "figures": dict(figures)})}
    partial = path.with_suffix(f".{os.getpid()}")
    safetensors.torch.save_file(dict(tensors), partial, metadata)
    partial.replace(path)


def load(path: Path) -> tuple[dict[str, Tensor], Pruning]:
    """What `keep` wrote.

    Raises:
        RunError: the file is missing or damaged.
    """
    metadata = _metadata(path)
    return safetensors.torch.load_file(path), Pruning.from_decoded(metadata["pruning"])


def _figures(path: Path) -> dict[str, float]:
    return dict(_metadata(path)["figures"])


def _metadata(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            content: dict[str, Any] = json.loads(file.metadata()[_METADATA])
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise RunError(f"{path} holds no recovered weights: {error}. Delete it and resume the run.") from None
    return content


def _summary(done: Distilled) -> dict[str, float]:
    return {
        "epochs": float(len(done.epochs)),
        "best_epoch": float(done.best + 1),
        "held_out_kl": done.epochs[done.best].held_out_kl,
        "training_seconds": sum(epoch.seconds for epoch in done.epochs),
    }
