"""Anatomy: every supported family is taken apart, everything else is refused with a reason."""

import pytest
from transformers import PreTrainedModel

from evaluators.anatomy import Anatomy, linear
from evaluators.transforms.base import build
from spaces.axes.pruning import LayerUnits, Pruning
from spaces.errors import ModelError
from spaces.shape import ModelShape
from tests.tiny_models import FAMILIES, FFN, HEADS, HIDDEN, LAYERS, TEXT_FAMILIES, VOCAB, tiny


@pytest.mark.parametrize("family", FAMILIES)
def test_shape_is_that_of_the_configuration(family: str) -> None:
    model, _ = tiny(family)
    vocab = 0 if family not in TEXT_FAMILIES else VOCAB
    matrices = (6 if family == "deberta-v2" else 4, 3 if family == "modernbert" else 2)
    assert Anatomy.of(model).shape == ModelShape(LAYERS, HEADS, HIDDEN // HEADS, FFN, HIDDEN, vocab, *matrices)


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_are_the_linears_that_their_names_say(family: str) -> None:
    model, _ = tiny(family)
    for index, parts in enumerate(Anatomy.of(model).layers):
        assert parts.name.endswith(f".{index}")
        initials = "".join(name.rpartition(".")[2][0] for name in (parts.query, parts.key, parts.value))
        assert initials == "qkv"
        outputs = ("output.dense", "out_lin", "o_proj", "attn.Wo", "attention.dense", "c_proj", "attention.out_proj")
        assert parts.attention_output.endswith(outputs)
        assert linear(model, parts.ffn_in).out_features == FFN
        assert linear(model, parts.ffn_out).in_features == FFN


def test_tables_and_head_of_text_models() -> None:
    bert = Anatomy.of(tiny("bert")[0])
    assert bert.embeddings == ("bert.embeddings.word_embeddings", "bert.embeddings.position_embeddings")
    assert bert.head == ("bert.pooler.dense", "classifier")
    assert Anatomy.of(tiny("distilbert")[0]).head == ("pre_classifier", "classifier")
    assert Anatomy.of(tiny("electra")[0]).head == ("classifier.dense", "classifier.out_proj")


def test_image_models_have_no_tables() -> None:
    assert Anatomy.of(tiny("vit")[0]).embeddings == ()
    assert Anatomy.of(tiny("wav2vec2")[0]).head == ("projector", "classifier")


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (tiny("gpt2", conformed=False)[0], "0 linears \\(none\\)"),
        (tiny("modernbert", conformed=False)[0], "4 linears \\(attn.Wqkv, attn.Wo, mlp.Wi, mlp.Wo\\)"),
    ],
    ids=["gpt2", "modernbert"],
)
def test_unsupported_layers_are_refused_with_what_was_found(model: PreTrainedModel, found: str) -> None:
    with pytest.raises(ModelError, match=found):
        Anatomy.of(model)


def test_a_pruned_model_is_refused() -> None:
    model, _ = tiny("bert")
    whole = LayerUnits(tuple(range(HEADS)), tuple(range(FFN)))
    pruned = build(Pruning((LayerUnits((0,), (1, 2)), whole, whole)), model)
    with pytest.raises(ModelError, match="pruned model cannot"):
        Anatomy.of(pruned)
