"""What pruning leaves, refitted block by block on what the cut model really sees. Knows modules and least squares.

compensation.py refits each linear for the inputs that it had in the whole model, which is cheap; where much goes, what
reaches a layer is no longer that. Here, first layer to last, the linear that ends a block is fitted to make the
residual stream behind it what it is in the original, given the cut model's own inputs and stream: it also mends what
earlier layers left over. Ridge regression on few rows; no gradient, no label.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from evaluators.anatomy import Anatomy, LayerParts, layer_names, linear, states
from evaluators.tasks.base import Encoded
from evaluators.training.schedule import as_batch, token_mask

_BATCH = 32  # rows per forward pass; does not change the figures
_TOKENS = 16_384  # that are fitted on, at most: each takes six states per layer
# Added to the moments' diagonal, in shares of its mean: directions that the rows hardly show stay as they are.
_RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class Refit:
    """Refits cut copies of one model.

    Args:
        original: a classifier, whole; stays as it was.
        rows: tokenised; as many of the first as have 16,384 tokens are used.
        device: where it computes.
    """

    original: PreTrainedModel
    rows: Encoded
    device: str = "cpu"

    def __call__(self, student: PreTrainedModel, kept: Sequence[int]) -> PreTrainedModel:
        """Refit `student` in place.

        Where layers are gone, the one before them takes over what the last of them left to the next, and its norm.
        Linears whose weight other layers share stay as they are.

        Args:
            student: cut out of the original; on the device.
            kept: indices of the original's layers that are its layers.
        """
        follows, shared = followers(kept, len(self._layers)), _shared(student)
        steps = self._entering(student)
        for place, (name, index) in enumerate(zip(layer_names(student), kept, strict=True)):
            parts, layer = _renamed(self._layers[index], name), student.get_submodule(name)
            followed = follows[place]
            calls = [partial(layer, step.states, *step.others, **step.named) for step in steps]
            if _is_linear(student, parts.attention_output) and parts.attention_output not in shared:
                ends = [parts.name, parts.attention_output]
                own = self._captured(student, calls, ends, [], parts.attention_output)
                missing = self._targets[index, 0] - own[parts.name]
                _fit(linear(student, parts.attention_output), own[parts.attention_output], missing)
            if _is_linear(student, parts.ffn_out) and parts.ffn_out not in shared:
                if followed != index and not self._sums:
                    _copy_last_norm(self.original.get_submodule(self._layers[followed].name), layer)
                attends = [parts.attention_output] if self._sums and _has(student, parts.attention_output) else []
                ends = [parts.name, parts.ffn_in, parts.ffn_out]
                own = self._captured(student, calls, ends, attends, parts.ffn_out)
                missing = self._targets[followed, 1] - self._before_ffn(own, parts)
                _fit(linear(student, parts.ffn_out), own[parts.ffn_out], missing)
            with torch.no_grad():
                steps = [replace(step, states=states(call())) for step, call in zip(steps, calls, strict=True)]
        return student

    @cached_property
    def _layers(self) -> tuple[LayerParts, ...]:
        return Anatomy.of(self.original).layers

    @cached_property
    def _batches(self) -> list[Mapping[str, Tensor]]:
        lengths, count, tokens = self.rows.lengths, 0, 0
        while count < len(lengths) and tokens + lengths[count] <= _TOKENS:
            tokens += lengths[count]
            count += 1
        chosen = sorted(range(max(1, count)), key=lengths.__getitem__)  # batches hold little padding
        rows = self.rows.take(chosen)
        return [as_batch(rows.take(group), self.device) for group in rows.groups(_BATCH)]

    @cached_property
    def _targets(self) -> Mapping[tuple[int, int], Tensor]:
        """By layer and block, attention (0) and FFN (1), the original's residual stream behind it: (tokens, width)."""
        found, own = {}, self._states
        for index, parts in enumerate(self._layers):
            found[index, 0] = own[parts.name] + own[_leaving(parts.attention_output)]
            found[index, 1] = self._before_ffn(own, parts) + own[_leaving(parts.ffn_out)]
        return found

    @cached_property
    def _sums(self) -> bool:
        """Whether a layer's output is the sum of its input and its blocks, norms standing before the blocks."""
        parts, own = self._layers[0], self._states
        summed = own[parts.name] + own[_leaving(parts.attention_output)] + own[_leaving(parts.ffn_out)]
        return bool(torch.allclose(summed, own[_leaving(parts.name)], rtol=1e-3, atol=1e-3))

    def _before_ffn(self, own: Mapping[str, Tensor], parts: LayerParts) -> Tensor:
        """What the FFN's output is added to: the sum so far, or, with norms behind the blocks, what the FFN reads."""
        if not self._sums:
            return own[parts.ffn_in]
        return own[parts.name] + own.get(_leaving(parts.attention_output), torch.zeros(()))

    @cached_property
    def _states(self) -> dict[str, Tensor]:
        """The original's, of all layers."""
        entering = [name for parts in self._layers for name in (parts.name, parts.ffn_in)]
        leaving = [name for parts in self._layers for name in (parts.attention_output, parts.ffn_out)]
        calls = [partial(self.original, **batch) for batch in self._batches]
        return self._captured(self.original, calls, entering, [*leaving, self._layers[0].name], None)

    def _entering(self, student: PreTrainedModel) -> list["_Step"]:
        """With what each batch's pass calls the first layer; the others are called with the same but for the states."""
        found: list[_Step] = []

        def keep(_: object, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
            found.append(_Step(arguments[0], arguments[1:], named))
            raise _EnoughError

        names = layer_names(student)
        with ExitStack() as hooks, torch.no_grad():
            for name in names[:1]:
                hook = student.get_submodule(name).register_forward_pre_hook(keep, with_kwargs=True)
                hooks.callback(hook.remove)
            for batch in self._batches if names else ():
                with suppress(_EnoughError):
                    student(**batch)
        return found

    def _captured(
        self,
        model: PreTrainedModel,
        calls: Sequence[Callable[[], object]],
        entering: Sequence[str],
        leaving: Sequence[str],
        until: str | None,
    ) -> dict[str, Tensor]:
        """What enters modules, under their names, and what leaves them: (tokens, width), padding left out.

        Args:
            model: whose modules are watched.
            calls: of it or of a layer, one per batch.
            entering, leaving: dotted names of modules.
            until: the module in front of which each call ends.
        """
        kept: dict[str, list[Tensor]] = {}
        inputs: Mapping[str, Tensor] = {}

        def keep(name: str, found: Tensor) -> None:
            kept.setdefault(name, []).append(found[token_mask(inputs, found).bool()])
            if name == until:
                raise _EnoughError

        def before(name: str) -> Any:
            return lambda _, arguments: keep(name, arguments[0])

        def behind(name: str) -> Any:
            return lambda _, arguments, output: keep(_leaving(name), states(output))

        with ExitStack() as hooks, torch.no_grad():
            for name in leaving:
                hooks.callback(model.get_submodule(name).register_forward_hook(behind(name)).remove)
            for name in entering:
                hooks.callback(model.get_submodule(name).register_forward_pre_hook(before(name)).remove)
            for batch, call in zip(self._batches, calls, strict=True):
                inputs = batch
                with suppress(_EnoughError):
                    call()
        return {name: torch.cat(parts) for name, parts in kept.items()}


@dataclass(frozen=True, eq=False)
class _Step:
    """A batch in front of a layer: hidden states (B, T, width), and what else the layer is called with."""

    states: Tensor
    others: tuple[Any, ...]
    named: Mapping[str, Any]


class _EnoughError(Exception):
    """Ends a forward pass."""


def _fit(module: nn.Linear, entering: Tensor, wanted: Tensor) -> None:
    """Change a linear by least squares: from what enters it (N, K) to what shall leave it (N, width)."""
    with torch.no_grad():
        missing = wanted - module(entering)
    constant = entering.new_ones(len(entering), 0 if module.bias is None else 1)
    inputs = torch.cat([entering, constant], dim=1).double()  # (N, K), and a column for the bias if there is one
    moments = inputs.T @ inputs
    moments.diagonal().add_(_RIDGE * moments.diag().mean())
    change = torch.linalg.solve(moments, inputs.T @ missing.double())  # (columns, width)
    with torch.no_grad():
        module.weight.add_(change[: module.in_features].T.to(module.weight.dtype))
        if module.bias is not None:
            module.bias.add_(change[-1].to(module.bias.dtype))


def followers(kept: Sequence[int], layers: int) -> dict[int, int]:
    """By student layer, the original's layer whose output it shall learn: the one that fed the next layer kept."""
    return {place: (kept[place + 1] if place + 1 < len(kept) else layers) - 1 for place in range(len(kept))}


def _copy_last_norm(source: nn.Module, layer: nn.Module) -> None:
    """Give `layer` the weights of the norm that ends `source`."""
    theirs, own = ([m for m in each.modules() if isinstance(m, nn.LayerNorm)][-1] for each in (source, layer))
    own.load_state_dict(theirs.state_dict())


def _renamed(parts: LayerParts, layer: str) -> LayerParts:
    """What is refitted, where the layer has another number."""
    output, ffn_in, ffn_out = (
        f"{layer}{name.removeprefix(parts.name)}" for name in (parts.attention_output, parts.ffn_in, parts.ffn_out)
    )
    return replace(parts, name=layer, attention_output=output, ffn_in=ffn_in, ffn_out=ffn_out)


def _shared(model: PreTrainedModel) -> set[str]:
    """Names of modules whose weight is another's too."""
    named = [(name, id(p)) for name, p in model.named_parameters(remove_duplicate=False) if name.endswith(".weight")]
    counts = Counter(weight for _, weight in named)
    return {name.removesuffix(".weight") for name, weight in named if counts[weight] > 1}


def _leaving(name: str) -> str:
    return f"{name} >"


def _has(model: nn.Module, name: str) -> bool:
    return name in dict(model.named_modules())


def _is_linear(model: nn.Module, name: str) -> bool:
    return isinstance(dict(model.named_modules()).get(name), nn.Linear)
