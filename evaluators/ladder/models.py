"""The models of the ladder, each in a folder that runs by itself. Knows training, cuts and export; times nothing.

Every step starts from the folders of earlier ones, so an interrupted ladder goes on where it stopped. Fixed here, of
the authors' public code: gradients are new for every batch, importance is computed on calibration rows and counts both
FFN matrices, the activation stays what it was, and which parts bear 8 bits is checked.
"""

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from evaluators import artifact
from evaluators.anatomy import Anatomy
from evaluators.base import Watch
from evaluators.first_order import uniform
from evaluators.ladder import steps
from evaluators.ladder.importance import importance_of_both_matrices
from evaluators.ladder.steps import Cut, Settings
from evaluators.models import ensure_finetuned, load_classifier, save, weights_sha256
from evaluators.prepare import Assignment, design_json
from evaluators.runtimes.base import Template
from evaluators.runtimes.onnxruntime.one_liner import one_liner
from evaluators.sensitivity import Check
from evaluators.tasks.base import Encoded, Splits, encode
from evaluators.tasks.linear import LinearBaseline
from evaluators.training.distill import Distilled, DistillSettings, distill
from evaluators.training.teacher import EMBEDDINGS, Teacher
from evaluators.transforms.base import build
from evaluators.transforms.restore import changed, put_back
from spaces.axes.pruning import LayerUnits, Pruning
from spaces.axes.quantization import Quantization
from spaces.design import Member
from spaces.errors import ConfigError
from spaces.shape import ModelShape

# Search rows that parts in few bits are compared on.
_COMPARED = 512

Notes = dict[str, Any]


class Models:
    """Builds the ladder's models.

    Args:
        work: model, task and target; its runtime is onnxruntime.
        settings: constants of the ladder.
        folder: where the models' folders are written.
        watch: told how far each stage is.
    """

    def __init__(self, work: Assignment, settings: Settings, folder: Path, watch: Watch) -> None:
        self._work = work
        self._settings = settings
        self._folder = folder
        self._watch = watch

    @property
    def makers(self) -> Mapping[str, Callable[[], Notes]]:
        """By folder, in the order of the ladder, what writes it; what it returns says what was done."""
        return {
            steps.ORIGINAL: self._make_original,
            steps.DISTILLED: self._make_distilled,
            steps.INT8: self._make_int8,
            steps.PRUNED: partial(self._make_pruned, steps.PRUNED, self._settings.first),
            steps.PRUNED_FURTHER: partial(self._make_pruned, steps.PRUNED_FURTHER, self._settings.second),
            steps.FAIR: self._make_fair,
            steps.ONE_LINER: self._make_one_liner,
            steps.LINEAR: self._make_linear,
        }

    @cached_property
    def texts(self) -> Splits:
        """The task's rows; those of test are never looked at."""
        return self._work.task.splits(self._work.seed)

    def load(self, name: str) -> tuple[PreTrainedModel, Any]:
        """Model and tokenizer of a folder that holds a checkpoint."""
        return load_classifier(
            str(self._folder / name), self._work.task.classes, trust_remote_code=self._work.trust_remote_code
        )

    def encoded(self, split: str) -> Encoded:
        """A split as the original's tokenizer writes it."""
        return encode(getattr(self.texts, split), self._original[1], self._work.max_length)

    def _make_original(self) -> Notes:
        work = self._work
        checkpoint = ensure_finetuned(
            work.model,
            work.task,
            self.texts,
            settings=work.finetune,
            seed=work.seed,
            max_length=work.max_length,
            trust_remote_code=work.trust_remote_code,
            watch=self._watch,
        )
        model, tokenizer = load_classifier(
            str(checkpoint), work.task.classes, trust_remote_code=work.trust_remote_code, seed=work.seed
        )
        save(model, tokenizer, self._folder / steps.ORIGINAL)
        shape = Anatomy.of(model).shape
        return {"words": f"{shape.layers} layers, {shape.heads} heads, {shape.ffn} neurons"}

    def _make_distilled(self) -> Notes:
        original, tokenizer = self._original
        shape = Anatomy.of(original).shape
        kept = shape.layers // 2 if self._settings.layers is None else self._settings.layers
        if not 1 <= kept <= shape.layers:
            raise ConfigError(f"--layers {kept} is not between 1 and the model's {shape.layers}.")
        done = self._taught(steps.DISTILLED, build(_first_layers(shape, kept), original))
        save(done.model, tokenizer, self._folder / steps.DISTILLED)
        return {"words": f"the first {kept} of {shape.layers} layers", **_training(done)}

    def _make_int8(self) -> Notes:
        template = self._work.runtime.template(self._student)
        return self._export(steps.INT8, self._student, template, Pruning.identity(template.shape))

    def _make_pruned(self, name: str, cut: Cut) -> Notes:
        shape = Anatomy.of(self._student).shape
        heads, neurons = _left(shape.heads, cut.heads), _left(shape.ffn, cut.neurons)
        pruning = uniform(self._importance, heads=heads, neurons=neurons)
        done = self._taught(name, build(pruning, self._student))
        whole = put_back(self._student, changed(done.model, self._student, pruning), pruning)
        notes = self._export(name, whole, self._work.runtime.template(whole), pruning)
        words = f"{heads} of {shape.heads} heads, {neurons} of {shape.ffn} neurons; {notes['words']}"
        return {**_training(done), **notes, "words": words}

    def _make_fair(self) -> Notes:
        template = self._work.runtime.template(self._original[0])
        identity = Member((Pruning.identity(template.shape), Quantization.uniform(template.shape)))
        self._write(steps.FAIR, template.untouched(), self._original[0].config, design_json(self._work, identity))
        return {}

    def _make_one_liner(self) -> Notes:
        artefact = one_liner((self._folder / steps.FAIR / self._work.runtime.filename).read_bytes())
        shape = Anatomy.of(self._original[0]).shape
        design = design_json(self._work, Member((Pruning.identity(shape), Quantization.uniform(shape))))
        self._write(steps.ONE_LINER, artefact, self._original[0].config, {**design, "key": "one_liner"})
        return {}

    def _make_linear(self) -> Notes:
        LinearBaseline.fit(self.texts.train).save(self._folder / steps.LINEAR)
        return {}

    def _export(self, name: str, whole: PreTrainedModel, template: Template, pruning: Pruning) -> Notes:
        """Write the cut model in 8 bits; `whole` has the weights of what stays in the places of the student's."""
        rows = self.encoded("search").first(_COMPARED)
        check = Check(self._work.runtime, template, pruning, rows, self._work.target, bearable=self._settings.bearable)
        found = check.find(self._watch)
        member = Member((pruning, found.quantization), f"fastformers:{weights_sha256(whole)[:16]}")
        self._write(name, template.assemble(member), whole.config, design_json(self._work, member))
        words = f"32 bits for {', '.join(found.wider)}" if found.wider else "8 bits in all parts"
        return {"words": words, "wider": list(found.wider), "kl_alone": found.alone, "kl_together": found.together}

    def _write(self, name: str, artefact: bytes, config: Any, design: Mapping[str, Any]) -> None:
        artifact.write(
            self._folder / name,
            model_bytes=artefact,
            filename=self._work.runtime.filename,
            tokenizer=self._original[1],
            model_config=config,
            design=design,
        )

    def _taught(self, name: str, student: PreTrainedModel) -> Distilled:
        """A student after it learned the original's answers, embeddings and last hidden states."""
        last = student.config.num_hidden_layers - 1
        settings = DistillSettings(
            epochs=self._settings.epochs,
            learning_rate=self._settings.learning_rate,
            hidden=2 * self._settings.hidden,  # of the mean of two errors; published is the weight of their sum
            freeze_embeddings=False,
        )
        return distill(
            student,
            self._teacher,
            self._train,
            {last: self._original[0].config.num_hidden_layers - 1},
            settings,
            seed=self._work.seed,
            progress=lambda done: self._watch(f"distil {name}", done.step, done.total),
        )

    @cached_property
    def _original(self) -> tuple[PreTrainedModel, Any]:
        return self.load(steps.ORIGINAL)

    @cached_property
    def _student(self) -> PreTrainedModel:
        return self.load(steps.DISTILLED)[0]

    @cached_property
    def _importance(self) -> Any:
        self._watch("importance", 0, 0)
        return importance_of_both_matrices(self._student, self.encoded("calibration"))

    @cached_property
    def _train(self) -> Encoded:
        return self.encoded("train")

    @cached_property
    def _teacher(self) -> Teacher:
        original = self._original[0]
        hidden = (EMBEDDINGS, original.config.num_hidden_layers - 1)
        return Teacher.of(original, self._train, hidden_layers=hidden, progress=partial(self._watch, "teacher"))


def _first_layers(shape: ModelShape, kept: int) -> Pruning:
    """The layers next to the input: without further pre-training these serve a student best (arXiv 2004.03844)."""
    whole = LayerUnits(tuple(range(shape.heads)), tuple(range(shape.ffn)))
    return Pruning((whole,) * kept + (None,) * (shape.layers - kept))


def _left(units: int, share: float) -> int:
    return max(1, units - round(units * share))


def _training(done: Distilled) -> Notes:
    return {
        "epochs": len(done.epochs),
        "best_epoch": done.best + 1,
        "untrained_kl": done.untrained_kl,
        "held_out_kl": done.epochs[done.best].held_out_kl,
        "training_seconds": sum(epoch.seconds for epoch in done.epochs),
    }
