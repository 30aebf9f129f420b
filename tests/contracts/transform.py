"""What every transform of a torch model keeps to."""

from typing import Any

import pytest
import torch

from evaluators.transforms.base import build
from spaces.design import Config


class TransformContract:
    """Subclass it with fixtures `model`, `inputs`, and the configs `identity` and `change` of one family."""

    @pytest.fixture
    def model(self) -> Any:
        raise NotImplementedError

    @pytest.fixture
    def inputs(self) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    @pytest.fixture
    def identity(self) -> Config:
        raise NotImplementedError

    @pytest.fixture
    def change(self) -> Config:
        raise NotImplementedError

    def test_the_identity_leaves_logits_bit_equal(self, model: Any, inputs: Any, identity: Config) -> None:
        with torch.inference_mode():
            assert torch.equal(build(identity, model)(**inputs).logits, model(**inputs).logits)

    def test_the_model_it_was_given_stays_as_it_was(self, model: Any, inputs: Any, change: Config) -> None:
        with torch.inference_mode():
            before = model(**inputs).logits
            built = build(change, model)(**inputs).logits
            assert torch.equal(model(**inputs).logits, before)
        assert not torch.equal(built, before)
