"""Latency's figures against their definitions, its intervals against simulation, and real fresh processes."""

import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from evaluators.exported import timing
from evaluators.metrics import lane
from evaluators.metrics.bands import stretches
from evaluators.metrics.latency import Contender, Latency, measure, sample_inputs, timed_inputs
from evaluators.tasks.base import Encoded, Rows
from evaluators.tasks.linear import LinearBaseline
from spaces.errors import ParetoformerError
from spaces.target import Target

TARGET = Target()


def latency(samples: object) -> Latency:
    """From anything of shape (processes, rounds, inputs)."""
    array = np.asarray(samples, dtype=float)
    return Latency(TARGET, 3, tuple(tuple(tuple(inputs) for inputs in rounds) for rounds in array.tolist()))


def rows(*lengths: int) -> Encoded:
    ids = [np.arange(1, length + 1, dtype=np.int64) for length in lengths]
    return Encoded(tuple({"input_ids": row, "attention_mask": np.ones_like(row)} for row in ids), (0,) * len(ids))


def summing_model(folder: Path, name: str, repeats: int) -> Contender:
    """A graph with the inputs of a text classifier whose work grows with `repeats`."""
    nodes = [helper.make_node("Cast", ["input_ids"], ["x0"], to=TensorProto.FLOAT)]
    nodes += [helper.make_node("Sin", [f"x{index}"], [f"x{index + 1}"]) for index in range(repeats)]
    nodes += [helper.make_node("ReduceMean", [f"x{repeats}", "axes"], ["logits"], keepdims=1)]
    integers = [
        helper.make_tensor_value_info(n, TensorProto.INT64, ["B", "T"]) for n in ("input_ids", "attention_mask")
    ]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 1])
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(nodes, "sum", integers, [logits], [axes])
    path = folder / f"{name}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return Contender(name, "onnxruntime", path)


def test_the_mean_is_over_inputs_of_medians_over_all_rounds_of_all_processes() -> None:
    one = latency([[[1, 10], [2, 20]], [[3, 30], [9, 90]]])  # medians over 4 rounds: 2.5 and 25
    assert one.mean_ms == pytest.approx(13.75)
    assert (one.processes, one.rounds) == (2, 4)


def test_percentiles_are_over_inputs_of_their_medians() -> None:
    one = latency(np.tile(np.arange(1, 102), (3, 3, 1)))
    assert one.p50_ms == 51
    assert one.p95_ms == 96


def test_samples_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        latency(np.ones((1, 1, 1))).array[0, 0, 0] = 2


def test_a_speed_up_over_itself_is_exactly_one() -> None:
    noisy = latency(np.random.default_rng(0).uniform(1, 2, (3, 3, 10)))
    assert noisy.speedup(noisy, seed=0) == (1.0, 1.0, 1.0)


def test_what_slows_whole_rounds_cancels_out_of_a_speed_up() -> None:
    machine = np.random.default_rng(0).uniform(1, 3, (3, 3, 1))
    fast, slow = latency(machine * np.array([1.0, 2.0])), latency(machine * np.array([4.0, 8.0]))
    assert fast.speedup(slow, seed=0) == pytest.approx((4.0, 4.0, 4.0))


def test_the_interval_covers_the_true_speed_up_in_about_95_of_100_cases() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.uniform(0.5, 2.0, 12)
    covered = 0
    for case in range(200):
        noise = rng.lognormal(0, 0.03, (2, 3, 3, 12)) * rng.lognormal(0, 0.03, (2, 3, 3, 1))
        base, fast = latency(6 * lengths * noise[0]), latency(2 * lengths * noise[1])
        _, low, high = fast.speedup(base, seed=case, resamples=300)
        covered += low <= 3 <= high
    assert covered >= 180


@pytest.mark.parametrize(
    ("lengths", "tokens", "counts"),
    [
        (range(3, 43), [(3, 12), (13, 22), (23, 32), (33, 42)], [10, 10, 10, 10]),
        ([9, 3, 20, 5], [(3, 3), (4, 5), (6, 9), (10, 20)], [1, 1, 1, 1]),
        ([512] * 7 + [40, 90, 300], [(40, 90), (91, 300), (301, 512)], [2, 1, 7]),  # cut at the longest
        ([5] * 9 + [6], [(5, 5), (6, 6)], [9, 1]),
        ([32] * 8, [(32, 32)], [8]),
        ([], [], []),
    ],
)
def test_bands_of_length_are_without_gaps_and_never_part_equal_lengths(
    lengths: Sequence[int], tokens: list[tuple[int, int]], counts: list[int]
) -> None:
    found = stretches(list(lengths))
    assert [part.tokens for part in found] == tokens
    assert [len(part.calls) for part in found] == counts
    assert sorted(call for part in found for call in part.calls) == list(range(len(lengths)))
    assert all(part.tokens[0] <= lengths[call] <= part.tokens[1] for part in found for call in part.calls)


def test_what_a_band_takes_is_the_mean_of_its_inputs() -> None:
    samples = np.random.default_rng(0).uniform(1, 2, (2, 3, 2, 4)) * np.array([1.0, 2.0, 3.0, 4.0])
    base, fast = (replace(latency(each), lengths=(7, 3, 9, 3)) for each in samples)
    found = timing({"base": base, "fast": fast}, "fast", ["base"], seed=0)
    assert [(band.tokens, band.calls) for band in found.bands] == [((3, 3), 2), ((4, 7), 1), ((8, 9), 1)]
    for band, calls in zip(found.bands, ([1, 3], [0], [2]), strict=True):
        alone, under = latency(fast.array[..., calls]), latency(base.array[..., calls])
        assert band.mean_ms == pytest.approx(alone.mean_ms)
        assert band.speedup["base"] == pytest.approx(alone.speedup(under, seed=0))
    assert found.mean_ms == pytest.approx(sum(band.calls * band.mean_ms for band in found.bands) / 4)
    assert found.speedup == {"base": fast.speedup(base, seed=0)}


def test_latencies_of_different_measurements_do_not_pair() -> None:
    with pytest.raises(ValueError, match="Measure both together"):
        latency(np.ones((1, 2, 3))).speedup(latency(np.ones((1, 2, 4))), seed=0)


def test_a_sample_keeps_the_distribution_of_lengths() -> None:
    lengths = np.random.default_rng(0).geometric(0.04, 2000)
    picked = sample_inputs(rows(*lengths), 100, seed=1)
    assert len(set(picked)) == 100
    assert lengths[list(picked)].mean() == pytest.approx(lengths.mean(), rel=0.03)
    assert np.percentile(lengths[list(picked)], 90) == pytest.approx(np.percentile(lengths, 90), rel=0.05)
    assert picked == sample_inputs(rows(*lengths), 100, seed=1)
    assert picked != sample_inputs(rows(*lengths), 100, seed=2)


def test_a_sample_of_few_rows_is_all_of_them() -> None:
    assert sample_inputs(rows(3, 1, 2), 100, seed=0) == (0, 1, 2)


def test_contenders_are_timed_in_fresh_processes_one_after_the_other(tmp_path: Path) -> None:
    contenders = [summing_model(tmp_path, "small", 1), summing_model(tmp_path, "large", 400)]
    steps: list[tuple[int, int]] = []
    inputs = rows(*range(20, 50)).inputs
    measured = measure(
        contenders, inputs, target=TARGET, rounds=3, processes=2, seed=0, progress=lambda *step: steps.append(step)
    )
    assert measured["small"].array.shape == (2, 2, 30)
    assert measured["small"].lengths == tuple(range(20, 50))
    assert measured["small"].mean_ms < measured["large"].mean_ms
    assert measured["small"].speedup(measured["large"], seed=0)[1] > 1
    assert steps == [(done, 8) for done in range(8)]
    assert {(row.member, row.process, row.round) for row in measured.timings} == {
        (name, process, 2 * process + within) for name in measured for process in range(2) for within in range(2)
    }
    assert max(row.ended for row in measured.timings if row.process == 0) < min(
        row.started for row in measured.timings if row.process == 1
    )
    assert all(0 < row.cpu_share < 1.5 for row in measured.timings)


def test_the_linear_baseline_is_timed_on_texts(tmp_path: Path) -> None:
    texts = ("a good film", "a bad film", "good, very good", "bad, very bad")
    LinearBaseline.fit(Rows(texts, (1, 0, 1, 0))).save(tmp_path)
    linear, inputs = Contender("linear", "linear", tmp_path), rows(3, 3, 3, 3).inputs
    measured = measure([linear], inputs, texts=texts, target=TARGET, rounds=2, processes=1, seed=0)
    assert measured["linear"].array.shape == (1, 2, 4)
    assert measured["linear"].mean_ms > 0


def test_batches_are_as_large_as_the_targets(tmp_path: Path) -> None:
    contender = summing_model(tmp_path, "only", 1)
    measured = measure(
        [contender], rows(*range(1, 8)).inputs, target=Target(batch_size=3), rounds=1, processes=1, seed=0
    )
    assert measured["only"].array.shape == (1, 1, 3)
    assert measured["only"].lengths == (3, 6, 7)


def test_a_contender_may_have_inputs_of_its_own(tmp_path: Path) -> None:
    shared = summing_model(tmp_path, "shared", 100)
    own = replace(shared, name="own", inputs=rows(3000, 3000).inputs)
    measured = measure([shared, own], rows(3, 3).inputs, target=TARGET, rounds=2, processes=1, seed=0)
    assert measured["own"].mean_ms > 3 * measured["shared"].mean_ms
    with pytest.raises(ValueError, match="own has 2 inputs of its own, the others 3"):
        measure([shared, own], rows(3, 3, 3).inputs, target=TARGET, seed=0)


def test_a_contender_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    good, bad = summing_model(tmp_path, "good", 1), Contender("broken", "onnxruntime", tmp_path / "broken.onnx")
    bad.path.write_bytes(b"no graph")
    with pytest.raises(ParetoformerError, match=r"(?s)ended with code 1 while loading 'broken'.*said last:\n.+"):
        measure([good, bad], rows(3).inputs, target=TARGET, seed=0)


@pytest.mark.parametrize(
    ("names", "texts", "message"),
    [
        ((), None, "at least one"),
        (("a", "a"), None, "distinct names"),
        (("a",), ("one", "two"), "2 texts for 1 inputs"),
    ],
)
def test_plans_that_cannot_be_carried_out_are_refused(
    names: tuple[str, ...], texts: tuple[str, ...] | None, message: str
) -> None:
    contenders = [Contender(name, "onnxruntime", Path("x.onnx")) for name in names]
    with pytest.raises(ValueError, match=message):
        measure(contenders, rows(3).inputs, texts=texts, target=TARGET, seed=0)


def test_texts_are_needed_where_texts_are_timed() -> None:
    with pytest.raises(ValueError, match="called on texts"):
        measure([Contender("linear", "linear", Path("x"))], rows(3).inputs, target=TARGET, seed=0)


def test_inputs_have_the_targets_length() -> None:
    short, long = ({"input_ids": np.arange(n), "attention_mask": np.ones(n, dtype=np.int64)} for n in (3, 9))
    encoded = Encoded((short, long), (0, 0))
    assert timed_inputs(encoded, (1, 0), Target()) == [long, short]
    fixed = timed_inputs(encoded, (0, 1), Target(lengths=5))
    assert [row["input_ids"].tolist() for row in fixed] == [[0, 1, 2, 0, 1], [0, 1, 2, 3, 4]]
    assert all(row["attention_mask"].tolist() == [1] * 5 for row in fixed)


def test_runs_on_one_machine_take_turns_and_say_so_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lane._say_that_it_waits.cache_clear()
    order = list[str]()

    def second() -> None:
        with lane._alone():
            order.append("second")

    for _ in range(2):
        other = threading.Thread(target=second)
        with lane._alone():
            other.start()
            other.join(0.1)
            order.append("first")
        other.join()
    assert order == ["first", "second"] * 2
    assert sum("take turns" in record.message for record in caplog.records) == 1
