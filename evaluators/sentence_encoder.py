"""An encoder that turns a text into one vector, as sentence-transformers loads it. Knows pooling; knows no tasks."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from evaluators.conforming import published
from spaces.errors import ModelError

MEAN, FIRST = "mean", "cls"
# Where sentence-transformers says what follows the encoder, in a model's folder.
MODULES, POOLING = "modules.json", "1_Pooling/config.json"
_MODES = {MEAN: "pooling_mode_mean_tokens", FIRST: "pooling_mode_cls_token"}


class SentenceEncoder(PreTrainedModel):  # type: ignore[no-untyped-call]
    """An encoder of `transformers` and behind it the mean of the tokens' states, or the first one's.

    The vector is called `logits`, as the output of every model here is; beside it stand the tokens' last states.

    Args:
        config: the encoder's, with `sentence_pooling` (`mean` or `cls`) and `sentence_unit`: whether vectors are of
            length 1.
        encoder: with its weights; None: without.
    """

    base_model_prefix = "encoder"
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: Any, encoder: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        self.encoder: Any = AutoModel.from_config(config) if encoder is None else encoder  # type: ignore[no-untyped-call]
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None  # a vector is made of the tokens' states, not of what a classifier reads
        self._can_record_outputs = self.encoder._can_record_outputs

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **further: Tensor) -> SequenceClassifierOutput:
        """Vectors (B, width) of tokens (B, T)."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **further).last_hidden_state
        if self.config.sentence_pooling == FIRST:
            vectors = states[:, 0]
        else:
            weights = attention_mask[..., None].to(states.dtype)  # (B, T, 1)
            vectors = (states * weights).sum(1) / weights.sum(1)
        if self.config.sentence_unit:
            vectors = vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return SequenceClassifierOutput(logits=vectors, hidden_states=(states,))

    def save_pretrained(self, save_directory: Any, *options: Any, **named: Any) -> None:
        """The encoder's own files, as its family publishes them, and what sentence-transformers reads beside them."""
        self.encoder.save_pretrained(save_directory, *options, **{**named, "state_dict": published(self.encoder)})
        write_modules(Path(save_directory), self.config)

    def get_input_embeddings(self) -> Any:
        return self.encoder.get_input_embeddings()


def behind_the_encoder(folder: Path) -> dict[str, Any]:
    """What a folder says of pooling, as entries of a configuration; the mean, brought to length 1, where it is silent.

    Raises:
        ModelError: vectors are pooled in a way that is not known here.
    """
    unit, mode = True, MEAN
    if (folder / MODULES).is_file():
        kinds = [str(module["type"]) for module in json.loads((folder / MODULES).read_text())]
        unit = any(kind.endswith("Normalize") for kind in kinds)
    if (folder / POOLING).is_file():
        mode = _mode(json.loads((folder / POOLING).read_text()), folder)
    return {"sentence_pooling": mode, "sentence_unit": unit}


def write_modules(folder: Path, config: Any) -> None:
    """What sentence-transformers reads beside the encoder's own files."""
    kinds = [
        ("Transformer", ""),
        ("Pooling", "1_Pooling"),
        *([("Normalize", "2_Normalize")] if config.sentence_unit else []),
    ]
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (kind, path) in enumerate(kinds)
    ]
    (folder / MODULES).write_text(json.dumps(modules, indent=2))
    (folder / POOLING).parent.mkdir(exist_ok=True)
    modes = {name: mode == config.sentence_pooling for mode, name in _MODES.items()}
    (folder / POOLING).write_text(json.dumps({"word_embedding_dimension": config.hidden_size, **modes}, indent=2))


def _mode(pooling: Mapping[str, Any], folder: Path) -> str:
    asked = {name for name, value in pooling.items() if name.startswith("pooling_mode_") and value is True}
    for mode, name in _MODES.items():
        if asked == {name}:
            return mode
    raise ModelError(
        f"{folder / POOLING} pools by {', '.join(sorted(asked)) or 'nothing'}; known are {', '.join(_MODES.values())}. "
        "Use a model that pools by one of these."
    )
