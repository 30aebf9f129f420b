"""Compression: what stays of a row written out in plain Python, torch and onnxruntime beside each other."""

import csv
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, PreTrainedModel

from evaluators import artifact, prepare
from evaluators.anatomy import Anatomy
from evaluators.base import Train
from evaluators.grades import SPECIAL, Grades, grade_tokens, load_grades, save_grades
from evaluators.latency_model import LatencyModel
from evaluators.latency_probes import probes
from evaluators.latency_terms import GONE, Shortened, Terms
from evaluators.problems.classes import UNLABELED
from evaluators.recovery import Recoverer, Recovery, Templates, load
from evaluators.runtimes.base import Runtime
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.runtimes.torch import TorchRuntime
from evaluators.tasks.base import Encoded, Rows
from evaluators.tasks.word_weights import insignificant, presence_weights
from evaluators.training.distill import DistillSettings, distill
from evaluators.training.teacher import Teacher
from evaluators.transforms.base import apply, build
from evaluators.transforms.compress import graded, selected
from search import front_file, wiring
from search.config import RunConfig
from search.record import Record
from search.recover import STUDY
from search.tables import summary
from spaces.axes.attention import Attention, AttentionAxis
from spaces.axes.compression import Compression, CompressionAxis, compression
from spaces.axes.pruning import Pruning
from spaces.axes.quantization import Quantization
from spaces.axes.vocabulary import Vocabulary
from spaces.design import Config, Design, Member
from spaces.errors import ConfigError, DesignError, ModelError, RunError
from spaces.shape import ModelShape
from spaces.space import Axis, Space
from tests.contracts.axis import AxisContract
from tests.contracts.runtime import Model, arrays, members
from tests.contracts.transform import TransformContract
from tests.prunings import random_pruning
from tests.test_cli import call
from tests.test_recovery import recovery
from tests.tiny_export import CLASSES, TEXTS, design, tokenizer
from tests.tiny_models import LAYERS, TEXT_FAMILIES, VOCAB, tiny
from tests.tiny_task import BAD, GOOD, searched, write_encoder, write_rows

__all__ = ["recovery"]

LEVELS = (0.85, 0.7, 0.5, 0.3)
SHAPE = ModelShape(layers=3, heads=4, head_size=8, ffn=48, hidden=32, vocab=120)
# Few grades, so that rows have many of one; the first five tokens are special.
GRADES = (*[SPECIAL] * 5, *(int(grade) for grade in np.random.default_rng(0).integers(1, 6, VOCAB - 5)))
GRADED = Grades(GRADES)
TABLE = torch.tensor(GRADES, dtype=torch.uint8)


class TestAxis(AxisContract):
    @pytest.fixture
    def axis(self) -> Axis:
        return CompressionAxis(LEVELS)


@pytest.mark.parametrize("name", TEXT_FAMILIES)
class TestTransform(TransformContract):
    @pytest.fixture
    def family(self, name: str) -> Model:
        return text(name)

    @pytest.fixture
    def model(self, family: Model) -> PreTrainedModel:
        return graded(family[0], TABLE)

    @pytest.fixture
    def inputs(self, family: Model) -> dict[str, torch.Tensor]:
        return family[1]

    @pytest.fixture
    def identity(self) -> Config:
        return Compression.none()

    @pytest.fixture
    def change(self) -> Config:
        return Compression(0.5)


def text(family: str) -> Model:
    """Its own padding, and rows that begin with a special token, as tokenizers write them."""
    model, inputs = tiny(family)
    padding = model.config.pad_token_id or 0
    inputs["input_ids"] = torch.where(inputs["attention_mask"].bool(), inputs["input_ids"], padding)
    inputs["input_ids"][:, 0] = 2
    return model, inputs


def kept_by_definition(row: list[int], percent: int) -> list[int]:
    """Places of a row without padding that stay: the best by grade, of one grade the earlier; special ones always."""
    special = sum(GRADES[token] == SPECIAL for token in row)
    share = len(row) * percent // 100 + (len(row) * percent % 100 > 0)
    best_first = sorted(range(len(row)), key=lambda place: (-GRADES[row[place]], place))
    return sorted(best_first[: max(special, share)])


def random_rows(seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids and mask (B, T) of rows of unequal lengths, special tokens and padding among them."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 30, 16)
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    return rng.integers(0, 20, mask.shape) * mask, mask


@pytest.mark.parametrize("percent", [1, 30, 50, 70, 85, 99])
def test_selection_is_its_definition(percent: int) -> None:
    model = build(Compression(percent / 100), graded(tiny("bert")[0], TABLE))
    for seed in range(5):
        ids, mask = random_rows(seed)
        found = selected(model, {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)})
        assert found is not None
        expected = [kept_by_definition(row[:n].tolist(), percent) for row, n in zip(ids, mask.sum(1), strict=True)]
        assert found.mask.shape[1] == max(map(len, expected))
        for places, real, row in zip(found.places.tolist(), found.mask.bool().tolist(), expected, strict=True):
            assert real == sorted(real, reverse=True)
            assert [place for place, there in zip(places, real, strict=True) if there] == row


def test_counts_are_integers() -> None:
    for percent in range(1, 101):
        config = Compression(percent / 100)
        assert [config.kept(n, 2) for n in range(2, 600)] == [max(2, -(-n * percent // 100)) for n in range(2, 600)]
    assert Compression(0.7).kept(10, 9) == 9


@pytest.mark.parametrize("level", [0.0, -0.5, 1.1, 0.555, float("nan")])
def test_other_shares_are_refused(level: float) -> None:
    with pytest.raises(DesignError, match="is no share of the tokens in whole percent"):
        Compression(level)


def shortened(row: list[int], percent: int) -> dict[str, torch.Tensor]:
    """A row as it would be if nobody had written what goes."""
    ids = torch.tensor([[row[place] for place in kept_by_definition(row, percent)]])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("family", TEXT_FAMILIES)
@pytest.mark.parametrize("level", LEVELS)
def test_a_compressed_row_is_answered_as_the_shorter_one(family: str, level: float) -> None:
    """In both runtimes, alone and in a batch: positions count what stays, padding and what goes leave no trace."""
    model, inputs = text(family)
    member = Member((Compression(level),))
    with torch.inference_mode():
        expected = torch.cat(
            [
                model(**shortened(row[:length].tolist(), round(100 * level))).logits
                for row, length in zip(inputs["input_ids"], inputs["attention_mask"].sum(1), strict=True)
            ]
        ).numpy()
    for runtime in (OnnxRuntime(), TorchRuntime()):
        template = runtime.template(model).with_grades(GRADED)
        predict = runtime.load(template.assemble(member), threads=1)
        np.testing.assert_allclose(predict(arrays(inputs)), expected, atol=1e-4)
        for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
            alone = {name: values[row : row + 1, :length] for name, values in inputs.items()}
            np.testing.assert_allclose(predict(arrays(alone)), expected[row : row + 1], atol=1e-4)


@pytest.mark.parametrize("runtime", [OnnxRuntime(), TorchRuntime()], ids=lambda runtime: runtime.name)
def test_with_other_families(runtime: Runtime) -> None:
    """Cut layers, few bits and fewer words: torch and the artefact agree, and sizes are foreseen."""
    model, inputs = text("roberta")
    template = runtime.template(model).with_grades(GRADED).with_vocabulary(range(VOCAB))
    for bits in runtime.bits:
        for name, member in members(template.shape, bits).items():
            compressed = Member((*member.configs, Vocabulary(40), Compression(0.5)))
            fewer = {**inputs, "input_ids": inputs["input_ids"] % 40}
            artefact = template.assemble(compressed)
            assert template.size(compressed) == pytest.approx(len(artefact), rel=0.01)
            if runtime.name == "onnxruntime":
                assert template.size(compressed) == len(artefact)
            if bits == 32:
                read = [config for config in compressed.configs if isinstance(config, Pruning | Compression)]
                with torch.inference_mode():
                    expected = apply(Member(tuple(read)), graded(model, TABLE))(**fewer).logits.numpy()
                found = runtime.load(artefact, threads=1)(arrays(fewer))
                np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=name)


def test_grades_follow_the_words_that_stay() -> None:
    """A vocabulary of every second word: the same texts in the new numbers read the same words."""
    model, _ = text("bert")
    kept = (0, 1, 2, 3, 4, *range(5, VOCAB, 2))
    ranking = (*kept, *(token for token in range(VOCAB) if token not in kept))
    ids = torch.tensor([[2, *np.random.default_rng(1).choice(kept[5:], 12).tolist(), 3]])
    mask = torch.ones_like(ids)
    renumbered = torch.tensor([[kept.index(token) for token in ids[0].tolist()]])
    for runtime in (OnnxRuntime(), TorchRuntime()):
        template = runtime.template(model).with_grades(GRADED).with_vocabulary(ranking)
        whole, fewer = Member((Compression(0.5),)), Member((Vocabulary(len(kept)), Compression(0.5)))
        answers = [
            runtime.load(template.assemble(member), threads=1)(arrays({"input_ids": rows, "attention_mask": mask}))
            for member, rows in ((whole, ids), (fewer, renumbered))
        ]
        np.testing.assert_allclose(*answers, atol=1e-5)


@pytest.mark.parametrize("runtime", [OnnxRuntime(), TorchRuntime()], ids=lambda runtime: runtime.name)
def test_reading_all_leaves_artefacts_as_they_were(runtime: Runtime) -> None:
    model, _ = text("bert")
    plain = runtime.template(model)
    told, member = plain.with_grades(GRADED), members(plain.shape)["random 0"]
    reading_all = Member((*member.configs, Compression.none()))
    assert reading_all.key == member.key
    assert told.untouched() == plain.untouched()
    if runtime.name == "onnxruntime":
        assert told.assemble(reading_all) == plain.assemble(member)
    assert len(told.assemble(member)) == len(plain.assemble(member))


@pytest.mark.parametrize("runtime", [OnnxRuntime(), TorchRuntime()], ids=lambda runtime: runtime.name)
def test_without_grades_nothing_is_compressed(runtime: Runtime) -> None:
    with pytest.raises(DesignError, match=r"reads 50 % of the tokens, the template has no grades"):
        runtime.template(tiny("bert")[0]).assemble(Member((Compression(0.5),)))


def test_token_types_are_chosen_along() -> None:
    model, inputs = text("bert")
    row = inputs["input_ids"][:1, :9]
    types = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1, 1]])
    kept = kept_by_definition(row[0].tolist(), 50)
    with torch.inference_mode():
        found = build(Compression(0.5), graded(model, TABLE))(
            input_ids=row, attention_mask=torch.ones_like(row), token_type_ids=types
        )
        expected = model(input_ids=row[:, kept], token_type_ids=types[:, kept])
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-5)


def test_records_without_a_level_read_all() -> None:
    decoded = Member((Pruning.identity(SHAPE), Compression.none())).decoded
    assert decoded == Member((Pruning.identity(SHAPE),)).decoded
    assert Compression.from_decoded(decoded) == Compression.none()
    assert compression(Member(())) == Compression.none()


def test_spaces_seed_and_vary_levels() -> None:
    space = Space([AttentionAxis(SHAPE, ("hard@4",)), CompressionAxis((1.0, 0.5, 0.7))])
    seeds = [space.decode(design) for design in space.seeds()]
    assert len({member.key for member in seeds}) == len(seeds)
    assert {compression(member).level for member in seeds} == {1.0, 0.7, 0.5}
    beside = space.beside(seeds[0], "attention")
    assert [compression(member).level for member in beside] == [1.0, 0.7, 0.5]
    assert space.member(beside[2].decoded, "finetuned").key == beside[2].key


def test_kinds_of_attention_which_save_nothing_are_not_varied_beside_a_structure() -> None:
    space = Space([AttentionAxis(SHAPE, ("hard@4",)), CompressionAxis((0.5,))])
    hard = space.decode(Design({**space.identity(), **dict.fromkeys(space.axes[0].knobs, "hard@4")}))
    beside = space.beside(hard, "pruning")
    assert [compression(member).level for member in beside] == [1.0, 0.5]
    assert {member.config(Attention) for member in beside} == {hard.config(Attention)}


class TestGrades:
    @pytest.fixture
    def tokenizer(self, tmp_path: Path) -> Any:
        return AutoTokenizer.from_pretrained(write_encoder(tmp_path / "encoder"))

    @pytest.fixture
    def rows(self, tmp_path: Path) -> Rows:
        with write_rows(tmp_path / "rows.csv").open() as file:
            read = list(csv.DictReader(file))
        return Rows(tuple(row["text"] for row in read), tuple(int(row["label"] == "good") for row in read))

    def test_words_that_decide_stay_longest(self, tokenizer: Any, rows: Rows) -> None:
        found = grade_tokens(tokenizer, rows, len(tokenizer) + 3)
        assert len(found.grades) == len(tokenizer) + 3
        grade = dict(zip(tokenizer.convert_ids_to_tokens(range(len(tokenizer))), found.grades, strict=False))
        assert {grade[piece] for piece in ("[CLS]", "[SEP]", "[PAD]", "[MASK]")} == {SPECIAL}
        stop, plain = ("the", "a", "with", "and", "very"), ("film", "story", "scene", "plot", "cast")
        assert max(grade[word] for word in stop) < min(grade[word] for word in plain)
        assert max(grade[word] for word in plain) < min(grade[word] for word in (*GOOD, *BAD))
        assert max(grade[word] for word in (*GOOD, *BAD)) < SPECIAL
        counts = Counter(word for text in rows.texts for word in text.split())
        assert sorted(stop, key=lambda word: grade[word]) == sorted(stop, key=lambda word: -counts[word])
        middle = sorted(grade[word] for word in (*GOOD, *BAD, *plain))
        assert middle[0] < grade["[UNK]"] == found.grades[-1] < middle[-1]  # no train row has them

    def test_is_kept_and_refused_elsewhere(self, tokenizer: Any, rows: Rows, tmp_path: Path) -> None:
        found, path = grade_tokens(tokenizer, rows, len(tokenizer)), tmp_path / "grades.json"
        save_grades(path, found, tokenizer, rows)
        assert load_grades(path, tokenizer, rows) == found
        with pytest.raises(RunError, match=r"rows_sha256=.* Start a new run folder"):
            load_grades(path, tokenizer, rows.first(10))

    def test_models_without_words_are_refused(self, tokenizer: Any, rows: Rows, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="no word table"):
            prepare._grades(tokenizer, rows, replace(SHAPE, vocab=0), tmp_path)


def test_insignificant_words_of_every_tokenizer() -> None:
    pieces = {0: "the", 1: "##the", 2: "not", 3: ",", 4: "!", 5: "film", 6: "without", 7: "..."}
    assert insignificant(pieces, {"model": {"type": "WordPiece"}}) == {0, 3, 7}
    pieces = {0: "\u0120the", 1: "the", 2: "\u0120not", 3: ",", 4: "\u0120...", 5: "\u0120", 6: "\u0120The", 7: "?"}
    assert insignificant(pieces, {"model": {"type": "BPE"}}) == {0, 3, 4, 6}
    assert insignificant({0: "\u2581the", 1: "the"}, {"model": {"type": "Unigram"}}) == {0}


def test_weights_of_presence_are_the_largest_over_classes() -> None:
    rows = [[1, 4, 4], [1, 5], [2, 4], [2, 5], [3, 4], [3, 5], [6]] * 5
    weights = presence_weights(rows, [0, 0, 1, 1, 2, 2, UNLABELED] * 5, 8)
    assert weights.shape == (8,)
    assert min(weights[1:4]) > 10 * max(weights[4:6])
    assert weights[6] == weights[7] == 0.0
    two = presence_weights([[1], [2]] * 5, [0, 1] * 5, 3)
    np.testing.assert_allclose(two[1], two[2], rtol=1e-3)


def test_what_is_left_of_timed_rows() -> None:
    found = Shortened.of(0.5, [[(10, 2)], [(20, 2)], [(4, 3)]])
    assert found == Shortened(0.5, (5 + 10 + 3) / 34, (25 + 100 + 9) / 516)
    assert Shortened.of(0.5, [[(10, 2), (20, 2)]]) == Shortened(0.5, 0.5, 0.25)


def test_latency_terms_count_what_goes() -> None:
    terms = Terms(SHAPE, (32, 8), first_token=True, levels=(Shortened(0.5, 0.6, 0.4),))
    whole = Member((Pruning.identity(SHAPE), Quantization.uniform(SHAPE, 8)))
    compressed = Member((*whole.configs, Compression(0.5)))
    before, after = (dict(zip(terms.names, terms.features(member), strict=True)) for member in (whole, compressed))
    changed = {name: after[name] - before[name] for name in terms.names if after[name] != before[name]}
    # Two layers of all tokens, and of the last the keys and values.
    attention, ffn = 4 * 8 * 4 * 32, 48 * 2 * 32
    products = 2 + attention / 2 / (attention + ffn)
    expected = {"selecting": 1.0, GONE: -0.8, f"{GONE}@8": -0.4 * products, "gone pairs": -1.2}
    assert changed == pytest.approx(expected)
    with pytest.raises(DesignError, match=r"compression=0\.7 is not among the timed levels \[0\.5, 1\.0\]"):
        terms.features(Member((*whole.configs, Compression(0.7))))


def test_probes_tell_levels_apart() -> None:
    levels = (0.7, 0.5)
    terms = Terms(SHAPE, (32, 8), first_token=True, levels=tuple(Shortened(each, each, each**2) for each in levels))
    drawn = probes(SHAPE, (32, 8), 50, 0, (), levels)
    factors = np.stack([terms.features(member) for member in drawn])
    columns = [index for index, name in enumerate(terms.names) if name == "selecting" or name.startswith("gone")]
    assert np.linalg.matrix_rank(factors) == np.linalg.matrix_rank(np.delete(factors, columns, axis=1)) + len(columns)
    assert len({member.key for member in drawn}) == 50
    model = LatencyModel(terms, tuple(1.0 for _ in terms.names), 2.0, "here", ())
    assert LatencyModel.from_json(json.loads(json.dumps(model.to_json()))) == model


def test_configuration() -> None:
    options = RunConfig.parse({"space": {"compression": {"levels": [0.5, 1.0, 0.7]}}})
    assert wiring.compression_levels(options) == (0.7, 0.5)
    assert wiring.compression_levels(RunConfig.parse({"space": {"compression": True}})) == (0.85, 0.7, 0.5)
    assert wiring.compression_levels(RunConfig.parse({})) == ()
    with pytest.raises(ConfigError, match=r"device\.json does not say what choosing tokens costs"):
        RunConfig.parse({"space": {"compression": True}, "target": "device.json"})
    with pytest.raises(ConfigError, match=r"0\.555 is not in whole percent"):
        RunConfig.parse({"space": {"compression": {"levels": [0.555]}}})
    with pytest.raises(ConfigError, match=r"'space\.compression\.levels\.0'"):
        RunConfig.parse({"space": {"compression": {"levels": [1.5]}}})


def test_summary_says_how_much_is_read() -> None:
    member = Member((Pruning.identity(SHAPE), Quantization.uniform(SHAPE), Compression(0.7)))
    assert summary(member.decoded).endswith("fp32, reads 70 %")


class TestTraining:
    """A compressed student is trained on what its artefact reads, beside the teacher's states of the same tokens."""

    @pytest.fixture
    def rows(self) -> Encoded:
        rng = np.random.default_rng(0)
        rows = tuple(
            {"input_ids": np.array([2, *rng.integers(5, VOCAB, n)]), "attention_mask": np.ones(n + 1, np.int64)}
            for n in rng.integers(3, 12, 40)
        )
        return Encoded(rows, (UNLABELED,) * len(rows))

    def test_states_of_the_same_tokens_are_compared(self, rows: Encoded) -> None:
        """What the teacher has at other tokens leaves no trace."""
        model, _ = text("bert")
        student = build(Compression(0.5), graded(model, TABLE))
        weights = []
        for changed in (False, True):
            teacher = Teacher.of(model, rows, hidden_layers=range(LAYERS), attention_layers=())
            if changed:
                start = 0
                for row in rows.inputs:
                    kept = kept_by_definition(row["input_ids"].tolist(), 50)
                    gone = [start + place for place in range(len(row["input_ids"])) if place not in kept]
                    for states in teacher._source._hidden.values():  # type: ignore[attr-defined]
                        states[gone] = 7.0
                    start += len(row["input_ids"])
            settings = DistillSettings(epochs=1, learning_rate=1e-3)
            done = distill(student, teacher, rows, {layer: layer for layer in range(LAYERS)}, settings, seed=0)
            weights.append(dict(done.model.named_parameters()))
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])

    def test_attention_is_compared_too(self, rows: Encoded) -> None:
        model, _ = text("bert")
        teacher = Teacher.of(model, rows, hidden_layers=(), attention_layers=range(LAYERS))
        settings = DistillSettings(epochs=1, hidden=0.0, attention=1.0)
        student = build(Compression(0.5), graded(model, TABLE))
        done = distill(student, teacher, rows, {layer: layer for layer in range(LAYERS)}, settings, seed=0)
        assert np.isfinite(done.epochs[0].train_loss)

    def test_recovery_trains_what_the_member_reads(self, recovery: Recovery) -> None:
        shape = Anatomy.of(recovery.original()).shape
        told, plain = (
            replace(recovery, grades=GRADED),
            (random_pruning(shape, 1), Quantization.uniform(shape)),
        )
        jobs = [Train(Member(configs), epochs=1) for configs in (plain, (*plain, Compression(0.5)))]
        weights = [load(told.path(job.weights))[0] for job in jobs if Recoverer(told).train(job)]
        assert weights[0].keys() == weights[1].keys()
        assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
        template = OnnxRuntime().template(recovery.original()).with_grades(GRADED)
        recovered = Templates(template, OnnxRuntime(), told).of(jobs[1].weights)
        assert recovered.grades == GRADED


@pytest.mark.parametrize("runtime", [OnnxRuntime(), TorchRuntime()], ids=lambda runtime: runtime.name)
def test_an_exported_folder_reads_as_much(runtime: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By `predict` and, where there is an example without this project, by that."""
    model, _ = tiny("bert")
    member = Member((Compression(0.5),))
    artifact.write(
        tmp_path / "model",
        model_bytes=runtime.template(model).with_grades(GRADED).assemble(member),
        filename=runtime.filename,
        tokenizer=tokenizer(tmp_path),
        model_config=model.config,
        design={**design(runtime), "decoded": member.decoded},
    )
    opened = artifact.Artifact.open(tmp_path / "model")
    found = [f"{one.label} {one.score:.4f}" for one in opened.predict(TEXTS)]
    expected = []
    for row in opened.encode(Rows(tuple(TEXTS), (0,) * len(TEXTS))).inputs:
        with torch.inference_mode():
            scores = model(**shortened(row["input_ids"].tolist(), 50)).logits.softmax(-1)[0]
        expected.append(f"{CLASSES[int(scores.argmax())]} {float(scores.max()):.4f}")
    assert found == expected
    code, out, _ = call(capsys, "predict", tmp_path / "model", "--text", TEXTS[0])
    assert (code, found[0].split()[0] in out) == (0, True)
    if runtime.name == "onnxruntime":
        command = [sys.executable, str(tmp_path / "model" / "example.py"), *TEXTS]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
        assert done.stdout.splitlines() == found


@pytest.mark.slow
@pytest.mark.ray
def test_a_search_over_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Levels are proposed, scored, priced and recovered like every other knob.

    Choosing tokens costs such a tiny model more than it saves, so none that does need be on its front.
    """
    monkeypatch.setenv("PARETOFORMER_CACHE", str(tmp_path / "cache"))
    folder = searched(tmp_path, compression={"levels": [1.0, 0.5]})
    front = front_file.read(folder)
    trials = list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
    assert {trial["state"] for trial in trials} == {"complete"}
    assert any("compression.level" in trial["knobs"] and "0.5" in trial["knobs"] for trial in trials)
    verified = [member for member in front.members if member.verified]
    assert all(member.fidelity["agreement"] == 1.0 for member in verified)
    recovered = Record.open(folder, study=STUDY).trials()
    assert {Compression.from_decoded(trial.decoded).level for trial in recovered} == {1.0, 0.5}
    terms = json.loads((folder / "latency_model.json").read_text())["terms"]
    assert [level["level"] for level in terms["levels"]] == [0.5]
