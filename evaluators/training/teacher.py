"""What models answer inside and at the end, and a teacher that answers once for many students.

Knows hooks and caches; knows no losses and no schedules.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from evaluators.anatomy import attention_names, layer_names
from evaluators.anatomy import states as states_of
from evaluators.tasks.base import MASK, Encoded
from evaluators.training.schedule import as_batch, bf16_is_faster, in_bf16, outputs_of

EMBEDDINGS = -1  # as the index of a layer: what enters the first one
_STATES = 4 * 2**30  # bytes

Inputs: TypeAlias = Mapping[str, Tensor]  # each (B, T)
ByLayer: TypeAlias = Mapping[int, Tensor]


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model computes for B rows of up to T tokens.

    Args:
        logits: (B, classes).
        hidden: by layer, its output (B, T, width).
        attention: by layer, probabilities (B, T, T) averaged over heads: so models with different heads compare.
    """

    logits: Tensor
    hidden: ByLayer
    attention: ByLayer

    def of_tokens(self, chosen: Callable[[Tensor], Tensor]) -> "Answers":
        """The same for some of the tokens; `chosen` takes them from (B, T, ...).

        Probabilities of the others are left out, so those that are left no longer add up to one.
        """
        maps = {layer: chosen(chosen(found).transpose(1, 2)).transpose(1, 2) for layer, found in self.attention.items()}
        return Answers(self.logits, {layer: chosen(found) for layer, found in self.hidden.items()}, maps)


@contextmanager
def observed(
    model: PreTrainedModel, hidden: Sequence[int], attention: Sequence[int] = ()
) -> Iterator[Callable[[Inputs], Answers]]:
    """Inside, a function from inputs to the model's answers.

    Args:
        model: whole or pruned; for `attention`, set to the implementation `eager`: others keep no probabilities.
        hidden: indices of layers, EMBEDDINGS among them.
        attention: indices of layers; one whose self-attention is gone yields nothing.
    """
    layers, states, maps = layer_names(model), dict[int, Tensor](), dict[int, Tensor]()
    with ExitStack() as hooks:
        for index in hidden:
            if index == EMBEDDINGS:
                entering = _keeping(states, index, lambda arguments: arguments[0])
                handle = model.get_submodule(layers[0]).register_forward_pre_hook(entering)
            else:
                leaving = _keeping(states, index, lambda _, output: states_of(output))
                handle = model.get_submodule(layers[index]).register_forward_hook(leaving)
            hooks.callback(handle.remove)
        for index in attention:
            for name in attention_names(model):
                if name.startswith(f"{layers[index]}."):
                    probabilities = _keeping(maps, index, lambda _, output: output[1].mean(1))  # (B, heads, T, T)
                    hooks.callback(model.get_submodule(name).register_forward_hook(probabilities).remove)
        yield lambda inputs: Answers(model(**inputs).logits, dict(states), dict(maps))


def _keeping(store: dict[int, Tensor], index: int, chosen: Callable[..., Tensor]) -> Callable[..., None]:
    """A hook that keeps what is `chosen` of the arguments and, behind the module, its output."""

    def hook(_: object, *passed: Any) -> None:
        store[index] = chosen(*passed)

    return hook


class _Source(Protocol):
    """Where a teacher's states come from."""

    def states(
        self, rows: Sequence[int], inputs: Inputs, hidden: Sequence[int], attention: Sequence[int]
    ) -> tuple[ByLayer, ByLayer]: ...


class Teacher:
    """A model's logits for every row, and its states, kept in memory where they fit.

    Args:
        logits: (N, classes), float32.
        width: of its hidden states.
        hidden_layers, attention_layers: whose states it knows.
        source: of the states.
    """

    def __init__(
        self,
        logits: Tensor,
        width: int,
        hidden_layers: Sequence[int],
        attention_layers: Sequence[int],
        source: _Source,
    ) -> None:
        self.logits = logits
        self.width = width
        self.hidden_layers = tuple(hidden_layers)
        self.attention_layers = tuple(attention_layers)
        self._source = source

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        rows: Encoded,
        *,
        hidden_layers: Sequence[int],
        attention_layers: Sequence[int] = (),
        batch_size: int = 64,
        device: str = "cpu",
        budget_bytes: int = _STATES,
        progress: Callable[[int, int], None] | None = None,
    ) -> "Teacher":
        """Ask `model` once about all rows.

        Args:
            model: a sequence classifier; stays as it was.
            rows: tokenised; no labels are needed.
            hidden_layers: indices of the layers whose outputs students shall learn, EMBEDDINGS among them if wanted.
            attention_layers: indices of the layers whose attention probabilities they shall learn.
            batch_size: rows per forward pass.
            device: where the model runs and the answers stay.
            budget_bytes: what states may take, two bytes a figure; where they need more, or nothing but the model says
                how many tokens a row has, none are kept and they are computed anew for each batch.
            progress: called with (rows done, rows in all) after each pass.
        """
        model = nn.Module.to(copy.deepcopy(model), device).train(False).requires_grad_(False)
        if attention_layers:
            model.set_attn_implementation("eager")
        cache = _Cache(rows.lengths, device)
        width = model.config.hidden_size
        figures = sum(rows.lengths) * (len(hidden_layers) * width + len(attention_layers) * max(rows.lengths))
        fits = rows.tokenised and 2 * figures <= budget_bytes
        wanted = (hidden_layers, attention_layers) if fits else ((), ())
        parts: list[Tensor] = []
        order = sorted(range(len(rows)), key=rows.lengths.__getitem__)  # batches hold little padding
        with torch.no_grad(), observed(model, *wanted) as answers:
            for group in rows.take(order).groups(batch_size):
                batch = [order[place] for place in group]
                these = rows.take(batch)
                inputs = as_batch(these, device)
                found = answers(inputs)
                parts.append(outputs_of(these, found.logits.float()))
                if fits:
                    cache.keep(batch, inputs[MASK].bool(), found)
                if progress is not None:
                    progress(group[-1] + 1, len(rows))
        sorted_logits = torch.cat(parts)  # (N, classes)
        logits = torch.empty_like(sorted_logits)
        logits[order] = sorted_logits
        return cls(logits, width, hidden_layers, attention_layers, cache if fits else _Computed(model, device))

    def answers(
        self, rows: Sequence[int], inputs: Inputs, hidden: Sequence[int] = (), attention: Sequence[int] = ()
    ) -> Answers:
        """What it says about a batch; states of padding are arbitrary.

        Args:
            rows: indices of the batch's B rows.
            inputs: of these rows, padded.
            hidden, attention: layers whose states are wanted.
        """
        states, maps = self._source.states(rows, inputs, hidden, attention) if hidden or attention else ({}, {})
        return Answers(self.logits[list(rows)], states, maps)


class _Computed:
    """States by asking the model again, in bfloat16 where that is faster."""

    def __init__(self, model: PreTrainedModel, device: str) -> None:
        self._model = model
        self._device = device
        self._half = bf16_is_faster(device)

    def states(
        self, rows: Sequence[int], inputs: Inputs, hidden: Sequence[int], attention: Sequence[int]
    ) -> tuple[ByLayer, ByLayer]:
        with torch.no_grad(), in_bf16(self._device, self._half), observed(self._model, hidden, attention) as answers:
            found = answers(inputs)
        return found.hidden, found.attention


class _Cache:
    """States of all tokens of all rows, row after row, in half precision."""

    def __init__(self, lengths: Sequence[int], device: str) -> None:
        ends = torch.tensor(lengths, device=device).cumsum(0)
        self._starts = ends - torch.tensor(lengths, device=device)  # (N,)
        self._tokens = int(ends[-1])
        self._longest = max(lengths)
        self._hidden: dict[int, Tensor] = {}  # (tokens, width) each
        self._attention: dict[int, Tensor] = {}  # (tokens, longest) each

    def keep(self, rows: Sequence[int], real: Tensor, found: Answers) -> None:
        """Add a batch's states, of the tokens (B, T) that are `real`."""
        where = self._where(rows, real.shape[1])[real]
        for kept, states in ((self._hidden, found.hidden), (self._attention, found.attention)):
            for layer, values in states.items():
                if kept is self._attention:
                    values = functional.pad(values, (0, self._longest - values.shape[-1]))
                if layer not in kept:
                    kept[layer] = values.new_empty(self._tokens, values.shape[-1], dtype=torch.float16)
                kept[layer][where] = values[real].half()

    def states(
        self, rows: Sequence[int], inputs: Inputs, hidden: Sequence[int], attention: Sequence[int]
    ) -> tuple[ByLayer, ByLayer]:
        longest = inputs[MASK].shape[1]
        where = self._where(rows, longest)
        maps = {layer: self._attention[layer][where][..., :longest] for layer in attention if layer in self._attention}
        return {layer: self._hidden[layer][where] for layer in hidden}, maps

    def _where(self, rows: Sequence[int], longest: int) -> Tensor:
        """Places (B, T) of the rows' tokens; behind a row's end those of others, which padding hides."""
        places = self._starts[list(rows), None] + torch.arange(longest, device=self._starts.device)
        return places.clamp(max=self._tokens - 1)
