"""Attention kinds: definitions written out one query at a time, torch and onnxruntime beside each other."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from evaluators.anatomy import Anatomy
from evaluators.latency_probes import probes
from evaluators.latency_terms import Terms
from evaluators.runtimes.base import Runtime
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.runtimes.torch import TorchRuntime
from evaluators.transforms.attention import kept_of_largest, sign_matches
from evaluators.transforms.base import apply
from search import front_file
from search.config import RunConfig
from spaces.axes.attention import Attention, AttentionAxis, AttentionKind, forget_absent_attention
from spaces.axes.pruning import LayerUnits, Pruning
from spaces.axes.quantization import Quantization, forget_absent_parts
from spaces.design import Config, Member
from spaces.errors import ConfigError, DesignError, ModelError
from spaces.shape import ModelShape
from spaces.space import Axis
from tests.contracts.axis import AxisContract
from tests.contracts.runtime import Model, arrays
from tests.contracts.transform import TransformContract
from tests.prunings import random_pruning
from tests.tiny_models import DEBERTA, IMAGE_FAMILIES, LAYERS, TEXT_FAMILIES, tiny
from tests.tiny_task import searched

REPLACEABLE = tuple(family for family in TEXT_FAMILIES + IMAGE_FAMILIES if family not in DEBERTA)
REPLACEABLE_TEXT = tuple(family for family in TEXT_FAMILIES if family not in DEBERTA)
KINDS = ("hard@1", "hard@4", "sign@1", "sign@4")
SHAPE = ModelShape(layers=3, heads=4, head_size=8, ffn=48, hidden=32, vocab=120)


def uniform(kind: str, layers: int = LAYERS) -> Attention:
    return Attention((AttentionKind.parse(kind),) * layers)


class TestAxis(AxisContract):
    @pytest.fixture
    def axis(self) -> Axis:
        return AttentionAxis(SHAPE, ("hard@16", "sign@8"))


@pytest.mark.parametrize("kind", ["hard@4", "sign@4"])
class TestTransform(TransformContract):
    @pytest.fixture(params=REPLACEABLE)
    def family(self, request: pytest.FixtureRequest) -> Model:
        return tiny(request.param)

    @pytest.fixture
    def model(self, family: Model, kind: str) -> PreTrainedModel:
        return family[0]

    @pytest.fixture
    def inputs(self, family: Model, kind: str) -> dict[str, torch.Tensor]:
        return family[1]

    @pytest.fixture
    def identity(self, kind: str) -> Config:
        return uniform("soft")

    @pytest.fixture
    def change(self, kind: str) -> Config:
        return uniform(kind)


def largest_by_definition(row: NDArray[np.float64], k: int) -> set[int]:
    """Places whose value is not less than that of the k-th in descending order."""
    least = sorted(row, reverse=True)[min(k, len(row)) - 1]
    return {place for place, value in enumerate(row) if value >= least}


@pytest.mark.parametrize("k", [1, 3, 7, 20])
def test_largest_with_ties_and_fewer_than_k(k: int) -> None:
    values = torch.randint(0, 4, (2, 3, 5, 7), generator=torch.Generator().manual_seed(0)).float()
    kept = kept_of_largest(values, k)
    for place in np.ndindex(2, 3, 5):
        assert set(kept[place].nonzero().flatten().tolist()) == largest_by_definition(values[place].numpy(), k)


def matching_by_definition(query: NDArray[np.float32], keys: NDArray[np.float32], k: int) -> set[int]:
    """The k keys with d - popcount(bits(q) xor bits(k)) largest, the earlier of two that match as well."""
    bits = [int("".join("1" if value < 0 else "0" for value in vector), 2) for vector in (query, *keys)]
    matches = [len(query) - (bits[0] ^ other).bit_count() for other in bits[1:]]
    return set(sorted(range(len(keys)), key=lambda place: (-matches[place], place))[:k])


@pytest.mark.parametrize("k", [1, 3, 20])
def test_sign_matching_is_its_definition(k: int) -> None:
    draw = torch.Generator().manual_seed(1)
    query, key = torch.randn(2, 2, 4, 5, generator=draw), torch.randn(2, 2, 9, 5, generator=draw)
    query[0, 0, 0], key[0, 0, 0] = 0.0, 0.0
    kept = kept_of_largest(sign_matches(query, key), k)
    for batch, head, row in np.ndindex(2, 2, 4):
        expected = matching_by_definition(query[batch, head, row].numpy(), key[batch, head].numpy(), k)
        assert set(kept[batch, head, row].nonzero().flatten().tolist()) == expected


def test_half_precision_ranks_keys_alike() -> None:
    query, key = torch.randn(2, 1, 2, 300, 64, generator=torch.Generator().manual_seed(2)).unbind(0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sign_matches(query, key), sign_matches(query.double(), key.double()).float())


@pytest.mark.parametrize("kind", KINDS)
def test_a_bert_layer_attends_as_defined(kind: str) -> None:
    """The context of the first layer, computed here query by query from its own linears."""
    model, inputs = tiny("bert")
    built = apply(Member((uniform(kind),)), model)
    attention = built.bert.encoder.layer[0].attention.self
    seen: dict[str, torch.Tensor] = {}
    attention.register_forward_hook(lambda module, args, out: seen.update(entering=args[0], context=out[0]))
    with torch.inference_mode():
        built(**inputs)
        q, k, v = (linear(seen["entering"]).numpy() for linear in (attention.query, attention.key, attention.value))
    name, count = AttentionKind.parse(kind).name, AttentionKind.parse(kind).k
    assert count is not None
    for batch, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        for head in range(4):
            part = slice(8 * head, 8 * head + 8)
            for row in range(length):
                query, keys, values = q[batch, row, part], k[batch, :length, part], v[batch, :length, part]
                scores = keys @ query / np.sqrt(8)
                if name == "sign":
                    outside = set(range(length)) - matching_by_definition(query, keys, count)
                    scores[list(outside)] = -np.inf
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                if name == "hard":
                    weights[list(set(range(length)) - largest_by_definition(weights, count))] = 0
                np.testing.assert_allclose(seen["context"][batch, row, part], weights @ values, atol=1e-5)


@pytest.mark.parametrize("family", REPLACEABLE_TEXT)
@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(family: str, kind: str) -> None:
    model, inputs = tiny(family)
    built = apply(Member((uniform(kind),)), model)
    with torch.inference_mode():
        together = built(**inputs).logits
        for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
            alone = built(**{name: values[row : row + 1, :length] for name, values in inputs.items()}).logits
            torch.testing.assert_close(together[row : row + 1], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", REPLACEABLE)
@pytest.mark.parametrize("runtime", [OnnxRuntime(), TorchRuntime()], ids=lambda runtime: runtime.name)
def test_runtimes_attend_as_torch_does(runtime: Runtime, family: str) -> None:
    model, inputs = tiny(family)
    shape = Anatomy.of(model).shape
    template = runtime.template(model)
    mixed = Attention((AttentionKind.parse("hard@2"), AttentionKind.parse("soft"), AttentionKind.parse("sign@3")))
    for attention in (*map(uniform, ("hard@2", "sign@2", "hard@50", "sign@50")), mixed):
        for pruning in (Pruning.identity(shape), random_pruning(shape, 0)):
            configs = forget_absent_attention(forget_absent_parts((pruning, Quantization.uniform(shape), attention)))
            member = Member(configs)
            artefact = template.assemble(member)
            assert abs(template.size(member) / len(artefact) - 1) < 0.01
            with torch.inference_mode():
                expected = apply(Member(configs), model)(**inputs).logits.numpy()
            found = runtime.load(artefact, threads=1)(arrays(inputs))
            np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=str(attention))


@pytest.mark.parametrize("kind", ["hard@50", "sign@50"])
def test_enough_keys_are_soft(kind: str) -> None:
    model, inputs = tiny("bert")
    with torch.inference_mode():
        torch.testing.assert_close(apply(Member((uniform(kind),)), model)(**inputs).logits, model(**inputs).logits)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hard@16", "sign@16"])
def test_answers_agree_at_all_lengths(kind: str) -> None:
    """Near-ties may fall differently; at least 99.5 % of predictions are the same, lengths from 3 to 500."""
    torch.manual_seed(0)
    config = BertConfig(
        num_hidden_layers=2, num_attention_heads=4, hidden_size=64, intermediate_size=128, vocab_size=500, num_labels=2
    )
    model = BertForSequenceClassification(config).train(False)
    built = apply(Member((uniform(kind, 2),)), model)
    predict = OnnxRuntime().load(OnnxRuntime().template(model).assemble(Member((uniform(kind, 2),))), threads=2)
    rng, same = np.random.default_rng(0), []
    for length in np.linspace(3, 500, 400).astype(int):
        ids = rng.integers(5, 500, (1, length))
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        with torch.inference_mode():
            expected = built(**{name: torch.from_numpy(values) for name, values in inputs.items()}).logits
        same.append(bool(predict(inputs).argmax() == expected.argmax()))
    assert np.mean(same) >= 0.995


def test_the_kind_of_what_is_gone_is_no_choice() -> None:
    whole = LayerUnits(tuple(range(4)), tuple(range(48)))
    pruning = Pruning((whole, LayerUnits((), whole.neurons), None))
    both = [
        Member(forget_absent_attention((pruning, Attention((AttentionKind("soft"), *others)))))
        for others in (uniform("hard@8").layers[:2], uniform("sign@8").layers[:2])
    ]
    assert both[0].key == both[1].key
    assert [layer and layer.get("attention") for layer in both[0].decoded["layers"]] == [None, None, None]


def test_records_without_kinds_are_soft() -> None:
    pruning = Pruning((None, *Pruning.identity(SHAPE).layers[1:]))
    assert Attention.from_decoded(pruning.to_decoded()).layers == (None, *uniform("soft").layers[1:])


def test_a_design_for_another_model_is_refused() -> None:
    with pytest.raises(DesignError, match="how 2 layers attend, the model has 3"):
        apply(Member((uniform("hard@4", 2),)), tiny("bert")[0])


def test_latency_terms_count_the_heads_of_each_kind() -> None:
    kinds = ("hard@16", "sign@8")
    whole = Pruning.identity(SHAPE).layers
    half = LayerUnits((0, 1), whole[0].neurons if whole[0] else ())
    attention = Attention(tuple(map(AttentionKind.parse, ("hard@16", "sign@8", "hard@16"))))
    member = Member((Pruning((half, whole[1], whole[2])), Quantization.uniform(SHAPE), attention))
    for first_token, hard in ((False, 1.5), (True, 0.5)):  # one query alone costs nothing that shows
        terms = Terms(SHAPE, (32, 8), first_token, kinds)
        counted = dict(zip(terms.names, terms.features(member).tolist(), strict=True))
        assert (counted["hard@16"], counted["sign@8"]) == (hard, 1.0)


def test_probes_tell_kinds_apart() -> None:
    kinds = ("hard@16", "hard@8", "sign@8")
    terms = Terms(SHAPE, (32, 8), first_token=True, kinds=kinds)
    factors = np.stack([terms.features(member) for member in probes(SHAPE, (32, 8), 50, 0, kinds)])
    columns = [terms.names.index(kind) for kind in kinds]
    assert np.linalg.matrix_rank(factors) == np.linalg.matrix_rank(np.delete(factors, columns, axis=1)) + len(kinds)
    assert len({member.key for member in probes(SHAPE, (32, 8), 50, 0, kinds)}) == 50


def test_configuration() -> None:
    options = RunConfig.parse({"space": {"attention": {"kinds": ["soft", "hard"], "k": [16, 8]}}}).space.attention
    assert options
    assert options.options == ("hard@16", "hard@8")
    with pytest.raises(ConfigError, match=r"device\.json says nothing of kinds other than soft"):
        RunConfig.parse({"space": {"attention": True}, "target": "device.json"})


@pytest.mark.slow
@pytest.mark.ray
def test_a_search_over_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kinds are proposed, scored and priced like every other knob; what is on the front is verified."""
    monkeypatch.setenv("PARETOFORMER_CACHE", str(tmp_path / "cache"))
    folder = searched(tmp_path, attention={"kinds": ["hard", "sign"], "k": [2]})
    front = front_file.read(folder)
    trials = list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
    assert {trial["state"] for trial in trials} == {"complete"}
    assert any("@2" in trial["knobs"] for trial in trials)
    verified = [member for member in front.members if member.verified]
    assert len(verified) >= 4
    assert all(member.fidelity["agreement"] == 1.0 for member in verified)
    terms = json.loads((folder / "latency_model.json").read_text())["terms"]
    assert terms["kinds"] == ["hard@2", "sign@2"]


def test_attention_that_cannot_be_replaced_is_refused() -> None:
    model, _ = tiny("deberta-v3")
    with pytest.raises(ModelError, match="found DebertaV2ForSequenceClassification"):
        apply(Member((uniform("hard@4"),)), model)
    assert apply(Member((uniform("soft"),)), model) is model
