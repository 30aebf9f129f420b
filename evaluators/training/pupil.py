"""A student in training: what a batch costs it, how it does on other rows. Knows one model; knows no schedule."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from evaluators.anatomy import layer_names
from evaluators.problems.base import agreement, mean_divergence
from evaluators.tasks.base import Encoded
from evaluators.training.loss import LayerMap, LossWeights, distillation_loss
from evaluators.training.schedule import as_batch, bf16_is_faster, in_bf16, in_parts, outputs_of, token_mask
from evaluators.training.teacher import EMBEDDINGS, Answers, Teacher, observed
from evaluators.transforms.attention import attends_softly
from evaluators.transforms.compress import selected
from spaces.errors import ConfigError, ModelError

_EXAM_BATCH = 64
# torch's fused attention is slow backwards in bfloat16 on CPUs: without it a step of a cut MiniLM at 27 tokens took 0.8
# of the time (median of three). Rows longer than this need its memory more.
_EAGER_TOKENS = 256


class Pupil:
    """A model beside its teacher.

    Where widths differ, a learnt projection stands between the two; where the head reads the first token alone, nothing
    else of the last layer is compared; where the model reads a part of the tokens, nothing of the others is.

    Args:
        model: trained in place by whoever steps down the loss.
        teacher: has answered `rows`.
        rows: of training and held-out rows.
        layer_map: from the model's layers to the teacher's.
        weights: of the loss.
        device: where both are.

    Raises:
        ModelError: the map names a layer that the student has not, or whose states the teacher does not know.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        teacher: Teacher,
        rows: Encoded,
        layer_map: LayerMap,
        weights: LossWeights,
        device: str,
    ) -> None:
        self._model, self._teacher, self._rows = model, teacher, rows
        self._map, self._weights, self._device = layer_map, weights, device
        self._half = bf16_is_faster(device)
        self._hidden = tuple(layer_map) if weights.hidden else ()
        self._attention = tuple(layer for layer in layer_map if layer != EMBEDDINGS) if weights.attention else ()
        self._check(len(layer_names(model)))
        if attends_softly(model) and (self._attention or self._eager_is_faster()):
            model.set_attn_implementation("eager")
        widths = model.config.hidden_size, teacher.width
        differ = self._hidden if widths[0] != widths[1] else ()
        self._projections = {layer: nn.Linear(*widths).to(device) for layer in differ}
        self._short = self._last_layer_if_first_token_decides()

    def parameters(self) -> Iterator[nn.Parameter]:
        """What training changes: the model's own and the projections'."""
        yield from self._model.parameters()
        for projection in self._projections.values():
            yield from projection.parameters()

    def parts(self, batch: Sequence[int]) -> list[list[int]]:
        """Its rows in parts that memory has room for."""
        return in_parts(batch, self._rows)

    def loss(self, batch: Sequence[int]) -> Tensor:
        """The mean loss of the rows with these indices."""
        rows = self._rows.take(batch)
        inputs = as_batch(rows, self._device)
        with in_bf16(self._device, self._half), observed(self._model, self._hidden, self._attention) as answers:
            found = answers(inputs)
        logits = outputs_of(rows, found.logits.float())
        mask = token_mask(inputs, next(iter({**found.hidden, **found.attention}.values()), found.logits))
        own = replace(found, logits=logits, hidden={i: self._fit(i, s) for i, s in found.hidden.items()})
        theirs = self._teacher.answers(
            batch, inputs, [self._map[i] for i in self._hidden], [self._map[i] for i in found.attention]
        )
        read = selected(self._model, inputs)
        if read is not None:  # states of the same tokens are compared
            theirs, mask = theirs.of_tokens(read.of), read.mask
        labels = torch.tensor(rows.labels, device=self._device) if rows.labels else None
        return distillation_loss(own, theirs, self._map, labels, mask, self._weights, self._rows.problem)

    def exam(self, rows: Sequence[int]) -> tuple[float, float]:
        """On the rows with these indices, in fp32: mean divergence from the teacher, and share of equal answers.

        Raises:
            ConfigError: training diverged.
        """
        order = sorted(rows, key=self._rows.lengths.__getitem__)
        parts = [[order[place] for place in group] for group in self._rows.take(order).groups(_EXAM_BATCH)]
        with torch.no_grad():
            answers = [outputs_of(self._rows.take(part), self._answers(part).logits) for part in parts]
        logits = torch.cat(answers).cpu().numpy()
        if not np.isfinite(logits).all():
            raise ConfigError("Training diverged: the student's logits are no longer finite. Lower learning_rate.")
        original = self._teacher.logits[order].cpu().numpy()
        problem = self._rows.problem
        return mean_divergence(problem, original, logits), agreement(problem, original, logits)

    def _answers(self, batch: Sequence[int], hidden: Sequence[int] = ()) -> Answers:
        with observed(self._model, hidden) as answers:
            return answers(as_batch(self._rows.take(batch), self._device))

    def _eager_is_faster(self) -> bool:
        on_cpu = torch.device(self._device).type == "cpu"
        return on_cpu and self._half and max(self._rows.lengths) <= _EAGER_TOKENS

    def _fit(self, layer: int, state: Tensor) -> Tensor:
        if layer == self._short:
            state = state[:, :1]
        return self._projections[layer](state.float()) if layer in self._projections else state

    def _last_layer_if_first_token_decides(self) -> int | None:
        """Asks for the gradient of an answer by the last layer's output, whose other tokens then have none."""
        last = len(layer_names(self._model)) - 1
        if last not in self._hidden:
            return None
        longest = max(range(len(self._rows)), key=self._rows.lengths.__getitem__)
        found = self._answers([longest], [last])
        (gradient,) = torch.autograd.grad(found.logits[..., 0].sum(), found.hidden[last])  # (1, T, width)
        return None if gradient[:, 1:].any() else last

    def _check(self, layers: int) -> None:
        known = {"hidden_layers": self._teacher.hidden_layers, "attention_layers": self._teacher.attention_layers}
        for wanted, (name, answered) in zip((self._hidden, self._attention), known.items(), strict=True):
            for layer in wanted:
                if not EMBEDDINGS <= layer < layers:
                    raise ModelError(f"The layer map names layer {layer} of a student of {layers}. Map those it has.")
                if self._map[layer] not in answered:
                    raise ModelError(
                        f"The student shall follow layer {self._map[layer]}, the teacher knows {list(answered)}. "
                        f"Give Teacher.of that one among its {name}."
                    )
