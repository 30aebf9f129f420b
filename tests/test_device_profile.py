"""Profiles of serving machines: what is counted, what is fitted, what a search makes of them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import BertConfig, BertForSequenceClassification

from evaluators.device_profile import DeviceProfile, fit_costs
from evaluators.device_terms import NAMES, Call
from evaluators.latency_model import HeldOut
from evaluators.latency_probes import probes
from evaluators.profiling import draw
from evaluators.runtimes.onnxruntime.random_encoder import random_encoder
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.tasks.base import Encoded
from spaces.axes.pruning import LayerUnits, Pruning
from spaces.axes.quantization import LayerBits, Quantization
from spaces.design import Member
from spaces.errors import ConfigError
from spaces.shape import ModelShape
from spaces.target import Target

SHAPE = ModelShape(layers=2, heads=4, head_size=8, ffn=64, hidden=32, vocab=100)
WHOLE = Member((Pruning.identity(SHAPE), Quantization.uniform(SHAPE, 8)))


def counts(member: Member = WHOLE, tokens: int = 10, *, first_token: bool = True) -> dict[str, float]:
    return dict(zip(NAMES, Call(member, SHAPE, tokens, first_token=first_token).counts().tolist(), strict=True))


def profile(costs: dict[str, float] | None = None) -> DeviceProfile:
    every = {name: 0.01 * (number + 1) for number, name in enumerate(NAMES)}
    return DeviceProfile(
        target=Target(label="pi", processor="arm", runtime_version="1.2", threads=4),
        costs=every if costs is None else {**dict.fromkeys(NAMES, 0.0), **costs},
        held_out=(HeldOut(2.0, 2.2), HeldOut(4.0, 3.8)),
        instances=1,
        bits=(32, 8, 4),
        host={"cores": 4},
        made="2026-11-22T10:00:00+00:00",
    )


class TestCounts:
    def test_multiplications_are_those_of_every_product(self) -> None:
        tokens, hidden, ffn = 10, 32, 64
        layer = tokens * (3 * hidden * hidden + hidden * hidden + 2 * hidden * ffn)
        head = hidden * hidden
        assert counts(first_token=False)["multiplications@8"] == pytest.approx((2 * layer + head) / 1e6)
        assert counts(first_token=False)["products@8"] == 2 * 4 + 1
        assert counts(first_token=False)["scores"] == pytest.approx(2 * 4 * tokens * tokens / 1e3)

    def test_the_last_layer_works_on_the_first_token(self) -> None:
        tokens, hidden, ffn = 10, 32, 64
        first = tokens * (3 * hidden * hidden + hidden * hidden + 2 * hidden * ffn)
        last = 2 * tokens * hidden * hidden + hidden * hidden + hidden * hidden + 2 * hidden * ffn
        assert counts()["multiplications@8"] == pytest.approx((first + last + hidden * hidden) / 1e6)
        assert counts()["scores"] == pytest.approx((4 * tokens * tokens + 4 * tokens) / 1e3)

    def test_a_batch_takes_its_rows_times_as_much_but_for_calls_and_weights(self) -> None:
        one, four = (dict(zip(NAMES, Call(WHOLE, SHAPE, 10, rows).counts().tolist(), strict=True)) for rows in (1, 4))
        per_row = (
            "multiplications@8",
            "inputs@8",
            "outputs@8",
            "embedded@8",
            "scores",
            "turned",
            "normed",
            "activated",
        )
        for name in NAMES:
            assert four[name] == pytest.approx((4 if name in (*per_row, "score multiplications") else 1) * one[name])

    def test_what_is_gone_costs_nothing(self) -> None:
        bare = Pruning((LayerUnits((), ()), None))
        gone = Quantization((LayerBits(None, None), None), 32, 32)
        found = counts(Member((bare, gone)))
        assert {name for name, count in found.items() if count} == {
            *("constant", "embedded@32", "products@32", "multiplications@32", "weights@32"),
            *("inputs@32", "outputs@32", "norms", "normed"),
        }

    def test_weights_beyond_a_cache_count(self) -> None:
        wide = ModelShape(layers=2, heads=16, head_size=64, ffn=4096, hidden=1024, vocab=100)
        for bits in (32, 8, 4):
            member = Member((Pruning.identity(wide), Quantization.uniform(wide, bits)))
            found = dict(zip(NAMES, Call(member, wide, 5).counts().tolist(), strict=True))
            megabytes = found[f"weights@{bits}"] * bits / 8
            assert found["beyond 1 MB"] == pytest.approx(max(0.0, megabytes - 1))


def test_costs_that_made_the_figures_are_found_again() -> None:
    drawn = [probe.call(tokens) for probe in draw((32, 8, 4), 60, seed=1) for tokens in (8, 64)]
    costs = np.zeros(len(NAMES))
    for name, cost in (
        ("constant", 0.05),
        ("multiplications@32", 0.02),
        ("multiplications@8", 0.005),
        ("normed", 0.001),
    ):
        costs[NAMES.index(name)] = cost
    measured = [float(call.counts() @ costs) for call in drawn]
    found = fit_costs(drawn, measured)
    errors = [abs(float(call.counts() @ found) / ms - 1) for call, ms in zip(drawn, measured, strict=True)]
    assert max(errors) < 0.05
    assert found.min() >= 0


class TestFile:
    def test_it_is_read_as_it_was_written(self, tmp_path: Path) -> None:
        profile().write(tmp_path / "device.json")
        assert DeviceProfile.read(tmp_path / "device.json") == profile()
        assert json.loads((tmp_path / "device.json").read_text())["threads"] == 4

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (None, "Cannot read target"),
            ("{", "is not JSON"),
            ("[]", "is not a device profile"),
            ('{"threads": 1}', "is not a device profile"),
            ('{"format": "paretoformer device profile", "version": 9}', "has version 9, expected 1"),
            ('{"format": "paretoformer device profile", "version": 1}', "lacks 'label'"),
        ],
    )
    def test_anything_else_is_refused_with_the_cure(self, tmp_path: Path, content: str | None, complaint: str) -> None:
        path = tmp_path / "device.json"
        if content is not None:
            path.write_text(content)
        with pytest.raises(ConfigError, match=complaint) as refusal:
            DeviceProfile.read(path)
        assert "paretoformer profile --out" in str(refusal.value)


class TestLatencyModel:
    def test_it_predicts_what_the_profile_says_of_the_mean_over_the_lengths(self) -> None:
        known, lengths = (
            profile({"constant": 0.1, "multiplications@8": 3.0, "multiplications@32": 9.0}),
            (5, 20, 20, 60),
        )
        model = known.latency_model(SHAPE, lengths, first_token=True, seed=0)
        assert model.target_key == known.target.key
        members = probes(SHAPE, (32, 8, 4), 20, seed=5)
        for member in members:
            expected = np.mean([known.predict_ms(Call(member, SHAPE, tokens)) for tokens in lengths])
            assert model.predict_ms(member) == pytest.approx(expected, rel=0.1)

    def test_the_original_reads_every_token_in_every_layer(self) -> None:
        known = profile({"constant": 0.1, "multiplications@32": 1.0})
        original = Member((Pruning.identity(SHAPE), Quantization.uniform(SHAPE)))
        expected = known.predict_ms(Call(original, SHAPE, 12, first_token=False))
        assert known.latency_model(SHAPE, [12], first_token=True, seed=0).fair_ms == pytest.approx(expected)

    def test_its_errors_are_those_on_the_machine_itself(self) -> None:
        model = profile().latency_model(SHAPE, [12], first_token=True, seed=0)
        assert model.mean_error == pytest.approx((0.1 + 0.05) / 2)


class TestRandomEncoder:
    def test_its_operators_are_those_of_an_exported_bert(self) -> None:
        config = BertConfig(
            vocab_size=SHAPE.vocab,
            hidden_size=SHAPE.hidden,
            num_hidden_layers=SHAPE.layers,
            num_attention_heads=SHAPE.heads,
            intermediate_size=SHAPE.ffn,
        )
        exported = OnnxRuntime().template(BertForSequenceClassification(config))
        row = {name: np.ones(3, np.int64) for name in ("input_ids", "attention_mask")}
        exported = exported.smoothing(exported.spreads_on(Encoded((row,), (), pad_id=0), lambda *_: None))
        ours = random_encoder(SHAPE, seed=0)
        assert ours.reads_first_token
        for member in probes(SHAPE, (32, 8, 4), 12, seed=0):
            assert kinds(ours.assemble(member)) == kinds(exported.assemble(member))

    def test_its_members_run_at_any_batch_and_length(self) -> None:
        template, runtime = random_encoder(SHAPE, seed=0), OnnxRuntime()
        for member in probes(SHAPE, runtime.bits, 12, seed=0):
            predictor = runtime.load(template.assemble(member), threads=1)
            for rows, tokens in ((1, 3), (2, 9)):
                ids = np.arange(rows * tokens).reshape(rows, tokens)
                assert predictor({"input_ids": ids, "attention_mask": np.ones_like(ids)}).shape == (rows, 2)


def kinds(artefact: bytes) -> list[str]:
    import onnx

    return sorted(node.op_type for node in onnx.load_from_string(artefact).graph.node)


def test_profiling_needs_neither_torch_nor_transformers() -> None:
    script = (
        "import sys, evaluators.profiling, evaluators.metrics.latency_worker; "
        "print(sorted({'torch', 'transformers', 'optuna', 'ray', 'datasets', 'sklearn'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_probes_are_spread_over_published_sizes() -> None:
    drawn = draw((32, 8, 4), 50, seed=0)
    assert len(drawn) == 50
    assert {probe.shape.hidden for probe in drawn} >= {128, 256, 384, 512, 768, 1024}
    assert drawn == draw((32, 8, 4), 50, seed=0)
    assert drawn != draw((32, 8, 4), 50, seed=1)
