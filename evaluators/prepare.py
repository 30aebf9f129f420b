"""From a model and a task to a workload: everything a run needs before its first design.

Knows the order of the steps and what each leaves in the run's folder; knows nothing of search.
"""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from evaluators.anatomy import Anatomy
from evaluators.answering import Logits, run_sorted
from evaluators.base import Watch
from evaluators.codebook import Codebook, codebook
from evaluators.cores import usable_instances
from evaluators.device_profile import DeviceProfile
from evaluators.elimination import iterative_importance
from evaluators.grades import FILE as GRADES
from evaluators.grades import Grades, grade_tokens, load_grades, save_grades
from evaluators.importance import fisher_importance, load_importance, save_importance
from evaluators.latency_model import LatencyModel, calibrate
from evaluators.media import FileReader
from evaluators.metrics.calibration import fit_temperature
from evaluators.metrics.host import versions
from evaluators.metrics.lane import Lane, LocalLane
from evaluators.metrics.latency import TIMINGS, append_timings, sample_inputs, timed_inputs
from evaluators.models import ensure_finetuned, load_classifier, resolve, weights_sha256
from evaluators.moments import inverse_moments
from evaluators.problems.base import collapsed
from evaluators.problems.classes import CLASSIFICATION
from evaluators.reading import Texts
from evaluators.recovery import Recovery
from evaluators.runtimes.base import Runtime, Smooths, Template
from evaluators.sensitivity import BEARABLE, SENSITIVITY, Check
from evaluators.store import LATENCY, Store
from evaluators.tasks.base import Encoded, Inputs, Rows, Splits, Task, Text, encode, length
from evaluators.tasks.files import unlabeled_texts
from evaluators.training.distill import DistillSettings
from evaluators.training.finetune import FinetuneSettings
from evaluators.training.mixing import mixed
from evaluators.transformer import Workload
from evaluators.transforms.attention import check_replaceable
from evaluators.vocabulary import Ranking, exact_rows, load_vocabulary, rank_tokens, save_vocabulary, tokenizer_sha256
from spaces.axes.pruning import Importance, Pruning
from spaces.axes.quantization import Quantization
from spaces.design import Member, content_key
from spaces.errors import ModelError, RunError
from spaces.objectives import latency_at
from spaces.shape import ModelShape
from spaces.target import Target
from spaces.whole import write_whole

logger = logging.getLogger(__name__)

_UNTRAINED = "Train it longer, or faster, as `finetune: {epochs: 10, learning_rate: 1.0e-4}` does, or give another one."
# fp32 answers do not depend on the batch, so the original's are computed in batches.
_REFERENCE_BATCH = 16
_SENSITIVITY_ROWS = 64
_SPREAD_ROWS = 256  # some thousand tokens


@dataclass(frozen=True)
class Assignment:
    """What is to be compressed, for where.

    Args:
        model: folder, Hub id or name.
        task: source of rows.
        runtime: where members run.
        target: threads, batch and device of the figures.
        further: other targets of the same runtime and batch, for which latency is predicted too.
        profiles: by label the targets that are described, whatever machine they are.
        seed: draws the splits, the fine-tuning and the timing samples.
        finetune: used where the model has no head for the task.
        max_length: tokens beyond it are cut.
        timing_inputs: how many real inputs latency is averaged over.
        distill: how members are distilled from the original, where that is asked for.
        lane: where latencies are measured.
        store: figures of earlier runs, which are used again; None: none are.
        latency_age: seconds after which a measured latency is not used again.
        unlabeled: file of further texts to distil on.
        mixed: texts to distil on that are made of train rows, for each of them.
        vocabulary: whether tokens are ranked, so that members can do without some or put their rows together.
        exact_rows: share of the tokens in use below which rows of the word table may be put together from shared parts;
            None: they may not.
        ranked: whether units are ranked; without, all count alike, which serves designs that are given.
        importance_rounds: how often the ranking judges anew what is left; 1: the whole model once.
        ffn_group: neurons that go together.
        sensitivity: whether parts that 8 bits hurt are looked for.
        compensate: whether what pruning leaves is refitted to stand in for what goes.
        smooth: whether wide inputs are narrowed where 8 bits round them.
        attention: kinds in which layers may attend, other than softly (spaces/axes/attention.py).
        compression: shares of a row's tokens that members may read, other than all (spaces/axes/compression.py).
        trust_remote_code: run the model author's code.
    """

    model: str
    task: Task
    runtime: Runtime
    target: Target
    seed: int
    finetune: FinetuneSettings
    max_length: int
    timing_inputs: int
    distill: DistillSettings
    further: tuple[Target, ...] = ()
    profiles: Mapping[str, DeviceProfile] = field(default_factory=dict)
    lane: Lane = field(default_factory=LocalLane)
    store: Store | None = None
    latency_age: float = 0.0
    unlabeled: Path | None = None
    mixed: int = 0
    vocabulary: bool = False
    exact_rows: float | None = None
    ranked: bool = True
    importance_rounds: int = 1
    ffn_group: int = 64
    sensitivity: bool = False
    compensate: bool = True
    smooth: bool = True
    attention: tuple[str, ...] = ()
    compression: tuple[float, ...] = ()
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Prepared:
    """A workload and what describes it."""

    assignment: Assignment
    workload: Workload
    shape: ModelShape
    importance: Importance
    identity: Member
    texts: Splits
    checkpoint: Path
    tokenizer: Any
    model_config: Any
    fair: Mapping[str, float]
    reference: Mapping[str, Logits]
    timing_rows: tuple[int, ...]
    vocabulary: Ranking | None = None
    sensitive: tuple[str, ...] = ()


@dataclass(frozen=True)
class Original:
    """A run's model before anything is cut, and the rows that go with it.

    Args:
        texts: the task's.
        own_texts: the train rows and the user's further ones, which labels need not have.
        checkpoint: folder or Hub id of the model.
        model: loaded.
        tokenizer: its own.
        splits: rows by name, tokenised; all but train.
        template: ready to be cut.
        vocabulary: the tokens' ranking, where members may do without some.
        graded: the tokens' grades, where members may leave some out.
    """

    texts: Splits
    own_texts: Rows
    checkpoint: Path
    model: Any
    tokenizer: Any
    splits: Mapping[str, Encoded]
    template: Template
    vocabulary: Ranking | None
    graded: Grades | None


def original(work: Assignment, folder: Path, watch: Watch) -> Original:
    """Fine-tune if needed, and make the template that members are cut from."""
    watch("data", 0, 0)
    texts = work.task.splits(work.seed)
    checkpoint = ensure_finetuned(
        work.model,
        work.task,
        texts,
        settings=work.finetune,
        seed=work.seed,
        max_length=work.max_length,
        trust_remote_code=work.trust_remote_code,
        watch=watch,
    )
    model, tokenizer = load_classifier(
        str(checkpoint), work.task.classes, work.task.problem, trust_remote_code=work.trust_remote_code
    )
    if work.attention:
        check_replaceable(model)
    splits = {
        name: encode(getattr(texts, name), tokenizer, work.max_length)
        for name in ("calibration", "search", "confirm", "test")
    }
    watch("template", 0, 0)
    template = _template(work, model, splits["calibration"], watch)
    own_texts = _own_texts(work, texts)
    vocabulary = _vocabulary(tokenizer, own_texts, folder) if work.vocabulary else None
    if vocabulary is not None:
        template = template.with_vocabulary(vocabulary.tokens, _codebook(work, model, vocabulary, folder, watch))
    graded = _grades(tokenizer, texts.train, template.shape, folder) if work.compression else None
    if graded is not None:
        template = template.with_grades(graded)
    return Original(texts, own_texts, checkpoint, model, tokenizer, splits, template, vocabulary, graded)


def prepare(assignment: Assignment, folder: Path, watch: Watch) -> Prepared:
    """Fine-tune if needed, export the template, rank units, score the original, time the runtime.

    What was computed before in the same run's folder is read back (importance.json, latency_model.json).
    """
    work, known = assignment, original(assignment, folder, watch)
    texts, splits, template = known.texts, known.splits, known.template
    checkpoint, model, tokenizer = known.checkpoint, known.model, known.tokenizer
    vocabulary, graded = known.vocabulary, known.graded
    shape = template.shape
    identity = Member((Pruning.identity(shape), Quantization.uniform(shape)))
    importance = _importance(work, model, splits["calibration"], texts, folder, watch)
    sensitive = _sensitive(work, template, splits["calibration"].first(_SENSITIVITY_ROWS), folder, watch)
    fair = template.untouched()
    reference = _reference(work, fair, splits, watch)
    if collapsed(work.task.metric.problem, reference["search"]):
        logger.warning("%s answers every row alike, and so will all that is made of it. %s", work.model, _UNTRAINED)
    timing_rows = sample_inputs(splits["search"], n=work.timing_inputs, seed=work.seed)
    models = {
        target.label: _latency_model(
            work, target, template, timed_inputs(splits["search"], timing_rows, target), fair, folder, watch
        )
        for target in (work.target, *work.further)
    }
    latency = models[work.target.label]
    workload = Workload(
        runtime=work.runtime,
        template=template,
        target=work.target,
        splits=splits,
        reference=reference["search"],
        temperature=(
            fit_temperature(reference["calibration"], splits["calibration"].truth)
            if work.task.problem == CLASSIFICATION and splits["calibration"].labels
            else None
        ),
        metric=work.task.metric,
        latency=latency,
        origin=_origin(work, model, tokenizer, texts, vocabulary, graded),
        further={each.label: models[each.label] for each in work.further},
        instances=_instances(work),
        texts=Texts(
            {name: getattr(texts, name) for name in splits},
            tokenizer,
            work.max_length,
            () if vocabulary is None else vocabulary.tokens,
        ),
        recovery=Recovery(
            checkpoint=str(checkpoint),
            classes=tuple(work.task.classes),
            rows=encode(_with_mixed(work, known.own_texts, texts), tokenizer, work.max_length),
            settings=work.distill,
            seed=work.seed,
            folder=(folder / "weights").resolve(),
            refit=work.compensate,
            device=work.target.device,
            ranking=template.ranking,
            book=template.book,
            pretrained=None if str(checkpoint) == resolve(work.model) else resolve(work.model),
            finetune=work.finetune,
            grades=graded,
            trust_remote_code=work.trust_remote_code,
        ),
    )
    return Prepared(
        assignment=work,
        workload=workload,
        shape=shape,
        importance=importance,
        identity=identity,
        texts=texts,
        checkpoint=checkpoint,
        tokenizer=tokenizer,
        model_config=model.config,
        fair={
            "latency": latency.fair_ms,
            **{latency_at(each.label).name: models[each.label].fair_ms for each in work.further},
            "size": float(len(fair)),
            "accuracy": work.task.metric.of(reference["search"], splits["search"].truth_or(reference["search"])),
        },
        reference=reference,
        timing_rows=timing_rows,
        vocabulary=vocabulary,
        sensitive=sensitive,
    )


def _own_texts(work: Assignment, texts: Splits) -> Rows:
    """The train rows and, without labels, the user's further texts that are in no split."""
    return texts.train if work.unlabeled is None else _joined(texts.train, unlabeled_texts(work.unlabeled), texts)


def _with_mixed(work: Assignment, own: Rows, texts: Splits) -> Rows:
    """The rows to distil on: behind the user's own, texts made of train rows."""
    return _joined(own, mixed(texts.train.texts, work.mixed, work.seed), texts)


def _joined(rows: Rows, further: Iterable[Text], texts: Splits) -> Rows:
    """`rows` and, without labels, what of `further` is neither among them nor in any split."""
    known = {*rows.texts, *(text for split in vars(texts).values() for text in split.texts)}
    new = tuple(text for text in dict.fromkeys(further) if text not in known)
    return rows.joined(new)


def design_json(work: Assignment, member: Member) -> dict[str, Any]:
    """design.json of an exported folder: what it is and how to open it."""
    return {
        "key": member.key,
        "decoded": member.decoded,
        "weights": member.weights,
        "runtime": work.runtime.name,
        "filename": work.runtime.filename,
        "classes": list(work.task.classes),
        "problem": work.task.problem.name,
        "medium": work.task.medium.name,
        "pairs": work.task.pairs,
        "max_length": work.max_length,
        "target": work.target.to_json(),
    }


def _template(work: Assignment, model: Any, calibration: Encoded, watch: Watch) -> Template:
    template = work.runtime.template(model, pairs=calibration.pairs)
    if work.smooth and isinstance(template, Smooths):
        spreads = template.spreads_on(
            calibration.first(_SPREAD_ROWS), lambda done, total: watch("spreads", done, total)
        )
        template = template.smoothing(spreads)
    if not work.compensate:
        return template
    moments = inverse_moments(
        model,
        calibration,
        first_token=template.reads_first_token,
        progress=lambda done, total: watch("moments", done, total),
    )
    return template.compensating(moments)


def _vocabulary(tokenizer: Any, rows: Rows, folder: Path) -> Ranking:
    """Which tokens the rows need, most needed first."""
    path, tokens, texts = folder / "vocabulary.json", tokenizer_sha256(tokenizer), rows.sha256
    if path.exists():
        return load_vocabulary(path, tokens, texts)
    ranking = rank_tokens(tokenizer, rows.texts)
    save_vocabulary(path, ranking, tokens, texts)
    return ranking


def _grades(tokenizer: Any, rows: Rows, shape: ModelShape, folder: Path) -> Grades:
    """How much each token matters to the task."""
    if not shape.vocab:
        raise ModelError(
            "space.compression: the model has no word table, so no words can be left out. Leave compression out."
        )
    path = folder / GRADES
    if path.exists():
        return load_grades(path, tokenizer, rows)
    found = grade_tokens(tokenizer, rows, shape.vocab)
    save_grades(path, found, tokenizer, rows)
    return found


def _codebook(work: Assignment, model: Any, ranking: Ranking, folder: Path, watch: Watch) -> Codebook | None:
    """What rows of rare words are put together from."""
    if work.exact_rows is None:
        return None
    exact = exact_rows(ranking, work.exact_rows)
    path, of = folder / "codebook.npz", f"{weights_sha256(model)} {exact} {ranking.tokens[exact : exact + 1]}"
    if not path.exists():
        watch("codebook", 0, 0)
        table = model.get_input_embeddings().weight.detach().cpu().numpy()
        kept = set(ranking.tokens[:exact])
        codebook(table, [row for row in range(len(table)) if row not in kept], of).save(path)
    known = Codebook.load(path)
    if known.of != of:
        raise RunError(f"{path} is of another model or vocabulary. Start a new run folder (--out).")
    return known


def _importance(
    work: Assignment, model: Any, calibration: Encoded, texts: Splits, folder: Path, watch: Watch
) -> Importance:
    if not work.ranked:
        return Importance.equal(Anatomy.of(model).shape)
    path, weights, rows = folder / "importance.json", weights_sha256(model), texts.calibration.sha256
    if path.exists():
        return load_importance(path, weights_sha=weights, calibration_sha=rows)
    progress = partial(watch, "importance")
    if work.importance_rounds == 1:
        importance = fisher_importance(model, calibration, progress=progress)
    else:
        rounds, group = work.importance_rounds, work.ffn_group
        importance = iterative_importance(model, calibration, rounds=rounds, group=group, progress=progress)
    save_importance(path, importance, weights_sha=weights, calibration_sha=rows)
    return importance


def _sensitive(work: Assignment, template: Template, rows: Encoded, folder: Path, watch: Watch) -> tuple[str, ...]:
    """Parts that 8 bits hurt; their figures are kept in the run's folder."""
    if not work.sensitivity:
        return ()
    path = folder / SENSITIVITY
    if not path.exists():
        found = Check(work.runtime, template, Pruning.identity(template.shape), rows, work.target).find(watch)
        write_whole(path, json.dumps({"alone": found.alone, "wider": found.wider, "bearable": BEARABLE}, indent=1))
    return tuple(json.loads(path.read_text())["wider"])


def _reference(work: Assignment, fair: bytes, splits: Mapping[str, Encoded], watch: Watch) -> dict[str, Logits]:
    """The original's logits on every split but test."""
    watch("reference", 0, 0)
    predictor = work.runtime.load(fair, threads=os.cpu_count() or 1, device=work.target.device)
    return {
        name: run_sorted(predictor, splits[name], _REFERENCE_BATCH) for name in ("calibration", "search", "confirm")
    }


def _origin(
    work: Assignment,
    model: Any,
    tokenizer: Any,
    texts: Splits,
    vocabulary: Ranking | None,
    graded: Grades | None,
) -> str:
    """What scores depend on besides the design, the rows' number and the machine."""
    return content_key(
        {
            "weights": weights_sha256(model),
            "tokenizer": tokenizer.sha256 if isinstance(tokenizer, FileReader) else tokenizer_sha256(tokenizer),
            "rows": {name: getattr(texts, name).sha256 for name in ("calibration", "search")},
            "max_length": work.max_length,
            "metric": work.task.metric.title,
            "compensate": work.compensate,
            "smooth": work.smooth,
            "tokens": None if vocabulary is None else list(vocabulary.tokens),
            "exact_rows": work.exact_rows,
            "version": versions(("paretoformer",)),
            **({} if graded is None else {"grades": list(graded.grades)}),
        }
    )


def _instances(work: Assignment) -> int:
    """Processes that fill the machine of the first target."""
    described = work.profiles.get(work.target.label)
    return usable_instances(work.target.threads) if described is None else described.instances


def _latency_model(
    work: Assignment,
    target: Target,
    template: Template,
    inputs: Sequence[Inputs],
    fair: bytes,
    folder: Path,
    watch: Watch,
) -> LatencyModel:
    """What predicts latency at a target: its description, or timings that are made here and kept."""
    described = work.profiles.get(target.label)
    if described is not None:
        lengths = [length(row) for row in inputs]
        return described.latency_model(template.shape, lengths, first_token=template.reads_first_token, seed=work.seed)
    path = latency_file(folder, work, target)
    known = LatencyModel.read(path) if path.exists() else None
    if known is not None and known.target_key == target.key:
        work = _with_earlier(work, known)
        if (known.terms.kinds, _levels(known)) == (work.attention, work.compression):
            return known
    key = _timings_key(work, target, fair, inputs)
    kept = None if work.store is None else work.store.get(LATENCY, key, work.latency_age)
    if kept is not None:
        write_whole(path, kept)
        return LatencyModel.read(path)
    with tempfile.TemporaryDirectory() as scratch:
        original = Path(scratch) / work.runtime.filename
        original.write_bytes(fair)
        model = calibrate(
            template,
            work.runtime,
            template.shape,
            inputs,
            target=target,
            fair=original,
            seed=work.seed,
            kinds=work.attention,
            levels=work.compression,
            progress=lambda done, total: watch("latency model", done, total),
            lane=work.lane,
            keep=partial(append_timings, folder / TIMINGS),
        )
    model.write(path)
    if work.store is not None:
        work.store.put(LATENCY, key, path.read_bytes())
    return model


def latency_file(folder: Path, work: Assignment, target: Target) -> Path:
    """Where a run keeps what predicts latency at a target."""
    return folder / ("latency_model.json" if target == work.target else f"latency_model@{target.label}.json")


def _with_earlier(work: Assignment, known: LatencyModel) -> Assignment:
    """The assignment with what earlier sessions of the run wanted priced too: their members are still in its record."""
    kinds, levels = (*known.terms.kinds, *work.attention), (*_levels(known), *work.compression)
    return replace(work, attention=tuple(dict.fromkeys(kinds)), compression=tuple(dict.fromkeys(levels)))


def _levels(model: LatencyModel) -> tuple[float, ...]:
    return tuple(each.level for each in model.terms.levels)


def _timings_key(work: Assignment, target: Target, fair: bytes, inputs: Sequence[Inputs]) -> str:
    """What a latency model depends on; figures of another machine, even of the same make, are not believed."""
    graph = hashlib.sha256(fair).hexdigest()
    lengths = [length(row) for row in inputs]
    depends = {"graph": graph, "target": target.key, "machine": work.lane.node, "lengths": lengths, "seed": work.seed}
    further = {"attention": work.attention, "compression": work.compression, "smooth": work.smooth}
    return content_key({**depends, **{name: value for name, value in further.items() if value}})
