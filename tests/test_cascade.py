"""Cascades: answers against a hand-made example, exported folders against kept logits, timed as they are called."""

import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from transformers import BertTokenizer

from evaluators import artifact
from evaluators.artifact import Artifact
from evaluators.cascade import Cascade, Stage, answers, confidence, judged, numbered
from evaluators.cascade_export import write_cascade
from evaluators.exported import contender
from evaluators.metrics.calibration import fit_temperature
from evaluators.metrics.latency import measure
from evaluators.metrics.latency_worker import LOADERS, Questions
from evaluators.metrics.size import inference_bytes
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.tasks.base import Encoded, Rows
from evaluators.tasks.linear import LinearBaseline
from spaces.design import Member
from spaces.errors import ModelError
from spaces.target import Target
from tests.tiny_models import tiny
from tests.tiny_task import BAD, GOOD, PLAIN

CLASSES = ("bad", "fair", "good")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def snippets(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices((*GOOD, *BAD, *PLAIN), k=rng.randint(1, 14))) for _ in range(count)]


TEXTS = snippets(12)


def tokenizer(folder: Path, words: Sequence[str]) -> BertTokenizer:
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join((*SPECIAL, *words)))
    return BertTokenizer(str(folder / "vocab.txt"), do_lower_case=True)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two exported models with tokenizers of their own, one of them knowing half the words, and a linear baseline."""
    folder = tmp_path_factory.mktemp("members")
    for seed, (name, words) in enumerate({"small": (*GOOD, *PLAIN), "large": (*BAD, *PLAIN, *GOOD)}.items()):
        model, _ = tiny("bert", seed)
        artifact.write(
            folder / name,
            model_bytes=OnnxRuntime().template(model).assemble(Member(())),
            filename="model.onnx",
            tokenizer=tokenizer(folder / f"{name}-words", words),
            model_config=model.config,
            design={"key": name, "filename": "model.onnx", "classes": list(CLASSES), "max_length": 10},
        )
    LinearBaseline.fit(Rows((" ".join(BAD), " ".join(PLAIN), " ".join(GOOD)), (0, 1, 2))).save(folder / "linear")
    return {name: folder / name for name in ("small", "large", "linear")}


def kept(folder: Path) -> NDArray[np.float32]:
    """Logits of one member on TEXTS."""
    if folder.name == "linear":
        return LinearBaseline.load(folder).logits(TEXTS)
    opened = Artifact.open(folder)
    return opened.logits(opened.encode(Rows(tuple(TEXTS), (0,) * len(TEXTS))))


def export(folder: Path, sources: Sequence[Path], share: float = 0.5) -> tuple[Path, tuple[Stage, ...]]:
    """A cascade of which every stage is sure of about `share` of the texts."""
    temperatures = [2.0 + number for number in range(len(sources))]
    sure = [confidence(kept(source), t) for source, t in zip(sources[:-1], temperatures, strict=False)]
    stages = numbered(temperatures, [float(np.quantile(each, 1 - share)) for each in sure])
    write_cascade(folder, stages, sources, {"key": "0123"})
    return folder, stages


def test_confidence_is_the_largest_probability() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]])) + np.array([[3], [-900]])
    np.testing.assert_allclose(confidence(logits, 1.0), [0.7, 0.5])
    np.testing.assert_allclose(confidence(np.array([[2.0, 0.0]]), 2.0), np.e / (1 + np.e))


def test_answers_by_hand() -> None:
    first = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 2.0], [1.0, 0.0]])  # halved: sure to .5, .88, .73, .62
    second = np.array([[9.0, 0.0], [0.0, 9.0], [9.0, 0.0], [0.0, 1.0]])  # sure to 1, 1, 1, .73
    third = np.array([[0.0, 3.0]] * 4)
    logits, stage = answers([first, second, third], [Stage("a", 2.0, 0.7), Stage("b", 1.0, 0.9), Stage("c", 3.0)])
    assert stage.tolist() == [1, 0, 0, 2]
    np.testing.assert_allclose(logits, [[9, 0], [2, 0], [0, 1], [0, 1]])
    assert answers([first, second], [Stage("a", 1.0, 0.5), Stage("b", 1.0)])[1].tolist() == [0, 0, 0, 0]


def test_judged_on_calibration_and_elsewhere() -> None:
    rng = np.random.default_rng(0)
    labels = {"calibration": rng.integers(0, 3, 50), "search": rng.integers(0, 3, 20)}
    logits = {name: rng.normal(size=(len(rows), 3)) for name, rows in labels.items()}
    found = judged(logits, labels)
    assert found.temperature == fit_temperature(logits["calibration"], labels["calibration"])
    np.testing.assert_array_equal(found.right["search"], logits["search"].argmax(-1) == labels["search"])
    np.testing.assert_array_equal(found.confidence["search"], confidence(logits["search"], found.temperature))


@pytest.mark.parametrize("names", [("small", "large"), ("linear", "large"), ("linear", "small", "large")])
def test_an_exported_cascade_answers_what_kept_logits_say(
    names: tuple[str, ...], members: Mapping[str, Path], tmp_path: Path
) -> None:
    sources = [members[name] for name in names]
    folder, stages = export(tmp_path / "cascade", sources)
    expected, by = answers([kept(source) for source in sources], stages)
    assert len(set(by.tolist())) == len(names)
    opened = Cascade.open(folder)
    assert (opened.stages, opened.classes, opened.max_length) == (stages, CLASSES, 10)
    for encoded in (None, opened.encode(TEXTS)):
        for batch_size in (1, 5):
            logits, answering = opened.logits(TEXTS, encoded, batch_size)
            assert answering.tolist() == by.tolist()
            np.testing.assert_allclose(logits, expected, atol=1e-5)
    for prediction, row in zip(opened.predict(TEXTS), expected, strict=True):
        assert (prediction.index, prediction.label) == (row.argmax(), CLASSES[row.argmax()])
        assert prediction.score == pytest.approx(float(confidence(row[None], 1.0)[0]), abs=1e-5)
    assert opened.predict([]) == []


@pytest.mark.parametrize(("threshold", "answering"), [(0.0, "small"), (1.01, "large")])
def test_thresholds_out_of_reach_leave_one_stage(
    threshold: float, answering: str, members: Mapping[str, Path], tmp_path: Path
) -> None:
    sources = [members["small"], members["large"]]
    write_cascade(tmp_path / "cascade", numbered([1.0, 1.0], [threshold]), sources, {"key": "0123"})
    predictions = Cascade.open(tmp_path / "cascade").predict(TEXTS)
    alone = Artifact.open(members[answering]).predict(TEXTS)
    assert [one.label for one in predictions] == [one.label for one in alone]
    np.testing.assert_allclose([one.score for one in predictions], [one.score for one in alone], atol=1e-5)


def test_rows_that_go_on_fill_batches_again_and_keep_their_order(tmp_path: Path) -> None:
    seen: dict[str, list[list[int]]] = {"first": [], "last": []}

    def model(name: str) -> Artifact:
        def predictor(inputs: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
            ids = inputs["input_ids"][:, 0]
            seen[name].append(ids.tolist())
            sure = (ids % 2 == 0) | (name == "last")
            return np.stack([np.where(sure, ids, 0), np.zeros(len(ids))], axis=1).astype(np.float32)

        return Artifact(predictor, tokenizer(tmp_path / name, PLAIN), ("yes", "no"), 8, {})

    rows = Encoded(
        tuple({"input_ids": np.array([n]), "attention_mask": np.array([1])} for n in range(10, 17)), (0,) * 7
    )
    cascade = Cascade(numbered([1.0, 1.0], [0.9]), (model("first"), model("last")), ("yes", "no"), 8, {})
    logits, answering = cascade.logits([""] * 7, (rows, rows), batch_size=2)
    assert logits[:, 0].tolist() == [10, 11, 12, 13, 14, 15, 16]
    assert answering.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert seen == {"first": [[10, 11], [12, 13], [14, 15], [16]], "last": [[11, 13], [15]]}


@pytest.mark.parametrize("names", [("small", "large"), ("linear", "small", "large")])
def test_the_example_gives_the_same_predictions_without_this_project(
    names: tuple[str, ...], members: Mapping[str, Path], tmp_path: Path
) -> None:
    folder, _ = export(tmp_path / "cascade", [members[name] for name in names])
    example = folder / "example.py"
    assert not {"paretoformer", "evaluators", "spaces"} & set(example.read_text().split())
    texts = [*TEXTS, "!", "wholly unknown"]
    done = subprocess.run(
        [sys.executable, str(example), *texts], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    expected = [f"{one.label} {one.score:.4f}" for one in Cascade.open(folder).predict(texts)]
    assert done.stdout.splitlines() == expected


def test_an_exported_cascade_is_described_and_as_large_as_its_stages(
    members: Mapping[str, Path], tmp_path: Path
) -> None:
    sources = [members[name] for name in ("linear", "small", "large")]
    folder, stages = export(tmp_path / "cascade", sources)
    design = Cascade.open(folder).design
    assert (design["key"], design["kind"], design["filename"]) == ("0123", "cascade", "cascade.json")
    assert design["classes"] == list(CLASSES)
    assert [stage["key"] for stage in design["stages"]] == ["linear", "small", "large"]
    assert [stage["threshold"] for stage in design["stages"]] == [stage.threshold for stage in stages]
    assert (folder / "tokenizer.json").read_bytes() == (members["large"] / "tokenizer.json").read_bytes()
    whole = sum(inference_bytes(source) for source in sources)
    assert inference_bytes(folder) == whole + (folder / "cascade.json").stat().st_size


def test_an_older_export_is_replaced_whole_or_not_at_all(members: Mapping[str, Path], tmp_path: Path) -> None:
    three = [members[name] for name in ("linear", "small", "large")]
    folder, _ = export(tmp_path / "cascade", three)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_cascade(folder, numbered([1, 1], [float("nan")]), three[1:], {"key": "4567"})
    assert (folder / "stage-2").is_dir()
    export(folder, three[1:])
    assert not (folder / "stage-2").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["cascade"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(ModelError, match="not an exported model"):
        export(tmp_path / "mine", three)


def test_what_makes_no_cascade_is_refused(members: Mapping[str, Path], tmp_path: Path) -> None:
    small, large, linear = (members[name] for name in ("small", "large", "linear"))
    whole, _ = export(tmp_path / "whole", [small, large])
    two = numbered([1.0, 1.0], [0.9])
    refused = [
        (numbered([1.0], []), [small], "two or more stages"),
        ((two[0], two[0]), [small, large], "each but the last with a threshold"),
        (two, [small], "1 models for 2 stages"),
        (two, [small, linear], "linear baseline as stage 0 only"),
        (two, [whole, large], "cannot be stage 0"),
        (two, [small, tmp_path], "cannot be stage 1"),
    ]
    for stages, sources, message in refused:
        with pytest.raises(ModelError, match=message):
            write_cascade(tmp_path / "cascade", stages, sources, {"key": "0123"})
    (whole / "stage-1" / "design.json").unlink()
    with pytest.raises(ModelError, match="cannot be stage 1"):
        Cascade.open(whole)
    (whole / "cascade.json").unlink()
    with pytest.raises(ModelError, match="not a whole exported cascade"):
        Cascade.open(whole)


def test_models_of_different_tasks_make_no_cascade(members: Mapping[str, Path], tmp_path: Path) -> None:
    opened = Artifact.open(members["small"])
    artifact.write(
        tmp_path / "other",
        model_bytes=b"",
        filename="model.onnx",
        tokenizer=opened.tokenizer,
        model_config=tiny("bert")[0].config,
        design={"filename": "model.onnx", "classes": ["no", "yes"], "max_length": 10},
    )
    with pytest.raises(ModelError, match="Take one task's"):
        write_cascade(tmp_path / "cascade", numbered([1, 1], [0.9]), [tmp_path / "other", members["large"]], {})


def test_a_cascade_is_timed_on_texts_beside_its_stages(members: Mapping[str, Path], tmp_path: Path) -> None:
    folder, _ = export(tmp_path / "cascade", [members["linear"], members["large"]], share=0.2)
    opened = Artifact.open(members["large"])
    inputs = opened.encode(Rows(tuple(TEXTS), (0,) * len(TEXTS))).inputs
    contenders = [contender("cascade", folder), contender("large", members["large"])]
    assert [each.kind for each in contenders] == ["cascade", "onnxruntime"]
    measured = measure(contenders, inputs, texts=TEXTS, target=Target(), rounds=2, processes=1, seed=0)
    assert measured["cascade"].array.shape == (1, 2, len(TEXTS))
    assert (measured["cascade"].array > 0).all()
    with pytest.raises(ValueError, match="'cascade' is called on texts"):
        measure(contenders, inputs, target=Target(), seed=0)


def test_a_timed_cascade_is_given_its_own_token_ids_of_the_targets_length(
    members: Mapping[str, Path], tmp_path: Path
) -> None:
    folder, _ = export(tmp_path / "cascade", [members["linear"], members["small"], members["large"]])
    load = LOADERS["cascade"]
    contestant = load(folder, Target(batch_size=5), Questions((), (TEXTS[:5], TEXTS[5:10], TEXTS[10:])))
    assert [argument[0] for argument in contestant.arguments] == [TEXTS[:5], TEXTS[5:10], TEXTS[10:]]
    _, (linear, small, large) = contestant.arguments[0]
    assert linear is None
    assert small.inputs[0]["input_ids"].tolist() != large.inputs[0]["input_ids"].tolist()
    found = contestant.call(contestant.arguments[0])
    assert isinstance(found, tuple)
    assert found[1].tolist() == Cascade.open(folder).logits(TEXTS[:5])[1].tolist()
    fixed = load(folder, Target(lengths=7), Questions((), [[text] for text in TEXTS])).arguments
    assert {length for _, tokens in fixed for stage in tokens[1:] for length in stage.lengths} == {7}
