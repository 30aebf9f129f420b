"""The latency model on latencies that are sums by construction, and on a real runtime."""

import json
from pathlib import Path

import numpy as np
import pytest

from evaluators.latency_model import HeldOut, LatencyModel, calibrate, fitted
from evaluators.latency_probes import anchors, probes
from evaluators.latency_terms import Terms
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from spaces.axes.pruning import LayerUnits, Pruning
from spaces.axes.quantization import LayerBits, Quantization
from spaces.design import Member
from spaces.shape import ModelShape
from spaces.target import Target
from tests.tiny_models import tiny

SHAPE = ModelShape(layers=6, heads=12, head_size=32, ffn=1536, hidden=384, vocab=30522)
BITS = (32, 8, 4)
TERMS = Terms(SHAPE, BITS, first_token=True)
COSTS = {
    "constant": 0.02,
    "layers": 0.01,
    "crowding": 0.05,
    **{"attention@32": 0.01, "heads@32": 0.04, "ffn@32": 0.005, "neurons@32": 0.09, "first token's neurons@32": 0.03},
    **{"attention@8": 0.008, "heads@8": 0.02, "ffn@8": 0.004, "neurons@8": 0.025, "first token's neurons@8": 0.004},
    **{"attention@4": 0.02, "heads@4": 0.04, "ffn@4": 0.01, "neurons@4": 0.08, "first token's neurons@4": 0.005},
    **{"embeddings@8": 0.003, "head@8": 0.004, "embeddings@4": 0.005, "head@4": 0.006},
}
TRUTH = np.array([COSTS[name] for name in TERMS.names])


def sums(members: list[Member], noise: float = 0.0) -> list[float]:
    rng = np.random.default_rng(0)
    return [float(TERMS.features(member) @ TRUTH * rng.lognormal(0, noise)) for member in members]


def fit(members: list[Member], ratios: list[float], held_out: int) -> LatencyModel:
    timings = list(zip(members, ratios, strict=True))
    return fitted(SHAPE, BITS, timings, held_out=held_out, fair_ms=8.0, target_key="here")


def model(noise: float = 0.0) -> LatencyModel:
    members = probes(SHAPE, BITS, 50, seed=0)
    return fit(members, sums(members, noise), held_out=16)


def counted(terms: Terms) -> dict[str, float]:
    pruning = Pruning(
        (
            LayerUnits((0, 5, 7), ()),
            None,
            LayerUnits((1,) * 6, tuple(range(384))),
            LayerUnits((), (3,) * 768),
            None,
            None,
        )
    )
    bits = Quantization((LayerBits(8, None), None, LayerBits(4, 4), LayerBits(None, 4), None, None), 4, 32)
    counts = dict(zip(terms.names, terms.features(Member((pruning, bits))), strict=True))
    return {name: count for name, count in counts.items() if count and name != "crowding"}


def test_features_count_what_is_there_by_width() -> None:
    assert counted(Terms(SHAPE, BITS)) == {
        **{"constant": 1, "layers": 3, "attention@8": 1, "heads@8": 0.25, "attention@4": 1, "heads@4": 0.5},
        **{"ffn@4": 2, "neurons@4": 0.75, "embeddings@4": 1},
    }


def test_from_the_last_attention_block_on_the_first_token_may_be_all_that_counts() -> None:
    assert counted(TERMS) == {
        **{"constant": 1, "layers": 3, "attention@8": 1, "heads@8": 0.25, "attention@4": 1, "heads@4": 0.25},
        **{"ffn@4": 2, "first token's neurons@4": 0.75, "embeddings@4": 1},
    }


def test_crowding_is_the_share_of_weights_times_the_share_of_bytes() -> None:
    position, whole = TERMS.names.index("crowding"), Pruning.identity(SHAPE)
    shares = [TERMS.features(Member((whole, Quantization.uniform(SHAPE, bits))))[position] for bits in BITS]
    assert shares == [1.0, 1 / 4, 1 / 8]


@pytest.mark.parametrize("first_token", [True, False])
def test_timings_tell_whether_the_last_layer_works_on_the_first_token_alone(first_token: bool) -> None:
    terms, rng = Terms(SHAPE, BITS, first_token), np.random.default_rng(0)
    members = probes(SHAPE, BITS, 50, seed=0)
    costs = np.array([COSTS[name] for name in terms.names])
    ratios = [float(terms.features(member) @ costs * rng.lognormal(0, 0.03)) for member in members]
    assert fit(members, ratios, held_out=16).terms == terms


def test_a_member_without_widths_runs_in_full_precision() -> None:
    pruning = Pruning.identity(SHAPE)
    plain, written = Member((pruning,)), Member((pruning, Quantization.uniform(SHAPE)))
    assert (TERMS.features(plain) == TERMS.features(written)).all()


def test_additive_latencies_are_recovered() -> None:
    found = model()
    assert found.spearman == pytest.approx(1, abs=1e-6)
    assert found.mean_error < 0.01
    others = probes(SHAPE, BITS, 40, seed=1)
    predicted = [found.predict_ratio(member) for member in others]
    assert predicted == pytest.approx(sums(others), rel=0.02)


def test_noise_of_the_timings_stays_about_as_large_in_the_predictions() -> None:
    found = model(noise=0.03)
    assert found.spearman >= 0.95
    assert 0.005 < found.mean_error <= 0.06


def test_intervals_hold_as_many_designs_as_they_say() -> None:
    """Of new designs whose latency has the noise of the timings that the model was fitted to."""
    inside = list[bool]()
    for seed in range(8):
        members, rng = probes(SHAPE, BITS, 90, seed=seed), np.random.default_rng(seed)
        ratios = [float(TERMS.features(member) @ TRUTH * rng.lognormal(0, 0.05)) for member in members]
        found = fit(members[:50], ratios[:50], held_out=16)
        for member, ratio in zip(members[50:], ratios[50:], strict=True):
            low, high = found.predict_interval(member, confidence=0.8)
            inside.append(low <= ratio * 8.0 <= high)
    assert 0.75 <= np.mean(inside) <= 0.95


def test_intervals_are_wider_where_few_like_it_were_timed() -> None:
    drawn = probes(SHAPE, BITS, 200, seed=0)[len(anchors(SHAPE, BITS)) :]
    wide = [member for member in drawn if all(bits.ffn != 4 for bits in widths_of(member))]
    narrow = [member for member in drawn if member not in wide][:4]
    members = [*narrow, *wide]
    found = fit(members, sums(members, noise=0.05), held_out=16)
    known, strange = (Member((Pruning.identity(SHAPE), Quantization.uniform(SHAPE, width))) for width in (8, 4))
    spread = [high / low - 1 for low, high in map(found.predict_interval, (known, strange))]
    assert spread[1] > 1.2 * spread[0]


def widths_of(member: Member) -> list[LayerBits]:
    return [bits for bits in member.config(Quantization).layers if bits is not None]


def test_a_described_target_is_as_sure_as_its_held_out_models() -> None:
    errors = tuple(HeldOut(measured, 1.0) for measured in (0.8, 1.0, 1.2))
    found = LatencyModel(TERMS, tuple(TRUTH), 8.0, "there", errors)
    member = probes(SHAPE, BITS, 20, seed=1)[-1]
    assert found.predict_interval(member, 1.0) == pytest.approx(
        (0.8 * found.predict_ms(member), 1.2 * found.predict_ms(member))
    )
    assert found.refined([(member, 0.5)]) is found


def test_later_timings_correct_what_probes_got_wrong() -> None:
    """Where a runtime is slow at something that the terms do not count."""
    found = model(noise=0.02)
    whole, bits = Pruning.identity(SHAPE), Quantization.uniform(SHAPE, 8)
    few = [LayerUnits(units.heads, units.neurons[:64]) for units in whole.layers if units is not None]
    slow = [Member((Pruning((*few[:layers], *whole.layers[layers:])), bits)) for layers in range(1, 7)]
    measured = [1.3 * found.predict_ratio(member) for member in slow]
    refined = found.refined(list(zip(slow[:-1], measured[:-1], strict=True)))
    before, after = (abs(each.predict_ratio(slow[-1]) / measured[-1] - 1) for each in (found, refined))
    assert after < 0.6 * before
    assert refined.without(slow[0]) == found.refined(list(zip(slow[1:-1], measured[1:-1], strict=True)))
    again = refined.refined([(slow[0], measured[0])])
    assert sorted(each.key for each in again.seen) == sorted(each.key for each in refined.seen)
    assert found.without(Member((whole,))) is found


def test_costs_of_units_follow_from_the_coefficients() -> None:
    costs = model().unit_costs(8)
    assert costs.head == pytest.approx(0.02 / 12 * 8.0, rel=0.1)
    assert costs.neuron == pytest.approx(0.025 / 1536 * 8.0, rel=0.1)
    assert costs.last_head == 0.5 * costs.head
    assert costs.last_neuron == pytest.approx(0.004 / 1536 * 8.0, rel=0.3)
    free = LatencyModel(TERMS, (0.0,) * len(TERMS.names), 8.0, "here", ())
    assert 0 < free.unit_costs(4).neuron < 1e-5
    with pytest.raises(ValueError, match="16 bits are not among the timed widths"):
        free.unit_costs(16)


def test_milliseconds_are_ratios_times_the_originals() -> None:
    found, whole = model(), Member((Pruning.identity(SHAPE), Quantization.uniform(SHAPE)))
    assert found.predict_ms(whole) == pytest.approx(8.0 * found.predict_ratio(whole))


def test_a_model_is_the_same_after_reading_it_back(tmp_path: Path) -> None:
    found = model(noise=0.02)
    assert LatencyModel.from_json(json.loads(json.dumps(found.to_json()))) == found
    found.write(tmp_path / "latency_model.json")
    assert LatencyModel.read(tmp_path / "latency_model.json") == found


def test_held_out_designs_do_not_influence_their_own_prediction() -> None:
    members = probes(SHAPE, BITS, 30, seed=0)
    ratios = sums(members)
    spoilt = [*ratios[:-1], ratios[-1] * 100]
    clean, dirty = (fit(members, given, held_out=1) for given in (ratios, spoilt))
    assert clean.held_out[0].predicted == dirty.held_out[0].predicted
    assert dirty.held_out[0].measured == spoilt[-1]


def test_probes_start_with_the_ends_of_every_sum_and_tell_all_terms_apart() -> None:
    members = probes(SHAPE, BITS, 50, seed=0)
    whole = Pruning.identity(SHAPE)
    assert members[:7] == anchors(SHAPE, BITS)
    assert members[:6:2] == [Member((whole, Quantization.uniform(SHAPE, width))) for width in BITS]
    bare = dict(zip(TERMS.names, TERMS.features(members[6]), strict=True))
    assert {name for name, count in bare.items() if count} == {"constant", "layers"}
    assert len({member.key for member in members}) == 50
    assert np.linalg.matrix_rank(np.stack([TERMS.features(member) for member in members])) == len(TERMS.names)
    assert members == probes(SHAPE, BITS, 50, seed=0)
    assert members != probes(SHAPE, BITS, 50, seed=1)


def test_probes_of_a_small_model_end_when_there_are_no_more() -> None:
    tiny = ModelShape(layers=1, heads=1, head_size=4, ffn=1, hidden=4, vocab=9)
    members = probes(tiny, (32,), 50, seed=0)
    assert len(members) == len({member.key for member in members}) == 4


def test_probes_are_timed_beside_the_original_in_its_runtime(tmp_path: Path) -> None:
    runtime, fair = OnnxRuntime(), tmp_path / "fair.onnx"
    template = runtime.template(tiny("bert")[0])
    fair.write_bytes(template.untouched())
    tokens = [np.arange(5, 5 + length) for length in (4, 9, 6)]
    steps: list[tuple[int, int]] = []
    found = calibrate(
        template,
        runtime,
        template.shape,
        [{"input_ids": row, "attention_mask": np.ones_like(row)} for row in tokens],
        target=Target(),
        fair=fair,
        seed=0,
        timings=9,
        held_out=2,
        progress=lambda *step: steps.append(step),
    )
    assert found.fair_ms > 0
    assert found.target_key == Target().key
    assert [pair.measured > 0 for pair in found.held_out] == [True, True]
    assert steps == [(9, 9)]
