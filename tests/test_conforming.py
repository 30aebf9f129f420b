"""Conforming: the same answers, plain linears inside, and checkpoints that transformers itself loads."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from evaluators import models
from evaluators.anatomy import Anatomy
from evaluators.conforming import conform, published
from spaces.errors import ModelError
from tests.tiny_models import CONFORMED, tiny
from tests.tiny_task import write_tokenizer


def answers(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(**inputs).logits
    return logits


@pytest.mark.parametrize("family", CONFORMED)
def test_a_conformed_model_answers_as_before_and_can_be_taken_apart(family: str) -> None:
    plain, inputs = tiny(family, conformed=False)
    expected = answers(plain, inputs)
    with pytest.raises(ModelError):
        Anatomy.of(plain)
    conformed = conform(plain)
    torch.testing.assert_close(answers(conformed, inputs), expected, atol=1e-6, rtol=0)
    assert Anatomy.of(conform(conformed)) == Anatomy.of(conformed)


@pytest.mark.parametrize("family", CONFORMED)
def test_what_is_published_is_what_the_family_publishes(family: str) -> None:
    plain, _ = tiny(family, conformed=False)
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    found = published(conform(plain))
    assert found.keys() == before.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("family", CONFORMED)
def test_a_saved_model_is_loaded_by_transformers_and_by_us(family: str, tmp_path: Path) -> None:
    model, inputs = tiny(family)
    expected = answers(model, inputs)
    models.save(model, write_tokenizer(tmp_path / "tokenizer"), tmp_path / "saved")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(answers(theirs, inputs), expected, atol=1e-6, rtol=0)
    ours, _ = models.load_classifier(str(tmp_path / "saved"), ["LABEL_0", "LABEL_1", "LABEL_2"])
    assert torch.equal(answers(ours, inputs), expected)
