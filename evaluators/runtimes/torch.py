"""Models run by PyTorch itself, on CPU or CUDA. Knows safetensors files and devices; knows no arithmetic of pruning."""

import copy
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, reduce
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel

from evaluators.anatomy import Anatomy, sharing
from evaluators.codebook import Codebook
from evaluators.compensation import InverseMoments
from evaluators.conforming import Unrolled, conform, separated
from evaluators.grades import Grades
from evaluators.runtimes.base import PLAIN
from evaluators.sentence_encoder import SentenceEncoder
from evaluators.transforms.base import apply
from evaluators.transforms.compress import GRADES, graded
from evaluators.transforms.standing_in import standing_in
from evaluators.vocabulary import pruned_config
from spaces.axes.attention import Attention
from spaces.axes.compression import WHOLE, Compression, compression
from spaces.axes.pruning import Pruning
from spaces.axes.rare import RareTokens
from spaces.axes.vocabulary import Vocabulary
from spaces.design import Member, merged
from spaces.errors import DesignError, ModelError
from spaces.shape import ModelShape

logger = logging.getLogger(__name__)

# The one key of our metadata: safetensors writes several in random order, and equal members shall have equal bytes.
METADATA = "paretoformer"
_DTYPES = {torch.float32: "F32", torch.int64: "I64", torch.uint8: "U8"}  # as safetensors writes them
_CURE = "Export the model again with runtime torch."
# Families that say what a model computes from its tensors, in the order in which they are applied.
_STRUCTURAL = (Pruning, Attention, Compression)


class TorchRuntime:
    """PyTorch in fp32. An artefact is one safetensors file: every tensor of the built model, and in its
    metadata the original's architecture (class name) and configuration, and the design."""

    name: str = "torch"
    version: str = str(torch.__version__)
    bits: tuple[int, ...] = (32,)
    steady: tuple[int, ...] = (32,)
    filename: str = "model.safetensors"

    def template(self, model: PreTrainedModel, *, pairs: bool = False) -> "TorchTemplate":
        """Prepare a copy of `model` in fp32."""
        return TorchTemplate(nn.Module.to(copy.deepcopy(model), "cpu", torch.float32).train(False))

    def load(self, artefact: bytes | Path, *, threads: int, device: str = "cpu") -> "TorchPredictor":
        """Open an artefact; sets the number of threads of the whole process.

        Raises:
            ModelError: not a file that `assemble` wrote.
        """
        torch.set_num_threads(threads)
        where = _available(device)
        data = artefact if isinstance(artefact, bytes) else artefact.read_bytes()
        tensors, origin = _read(data)
        structure = _structure(origin["design"])
        original = _skeleton(_architecture(origin["architecture"]), origin["config"], origin.get("separate", False))
        model = _emptied(apply(structure, _with_room(structure, original)), where).train(False)
        _fill(model, tensors)
        return TorchPredictor(model.requires_grad_(False), where)


@dataclass(frozen=True)
class TorchTemplate:
    """The original in fp32 on the CPU, ready to be cut.

    Args:
        model: in evaluation mode.
        inverse_moments: by module name, of linears whose remaining inputs stand in for those that go; empty: none does.
        ranking: ids of tokens, most needed first; empty: every member has the whole vocabulary.
        grades: of tokens, by which rows are compressed; None: no member compresses.
    """

    model: PreTrainedModel
    inverse_moments: InverseMoments = field(default_factory=dict, repr=False, compare=False)
    ranking: tuple[int, ...] = field(default=(), repr=False)
    reads_first_token: bool = False
    book: None = None  # torch's file has whole rows only
    grades: Grades | None = field(default=None, repr=False)

    def compensating(self, inverse_moments: InverseMoments) -> "TorchTemplate":
        """The same template, in whose members what stays stands in for what goes."""
        return replace(self, inverse_moments=inverse_moments)

    def with_vocabulary(self, ranking: Sequence[int], book: Codebook | None = None) -> "TorchTemplate":
        """The same template, whose members may keep only the first tokens of `ranking`; all rows are exact."""
        return replace(self, ranking=tuple(ranking))

    def with_grades(self, grades: Grades) -> "TorchTemplate":
        """The same template, whose members may read the most significant tokens alone."""
        return replace(self, grades=grades)

    @property
    def graphs(self) -> tuple[str, ...]:
        """One: torch executes modules as they are."""
        return (PLAIN,)

    @property
    def shape(self) -> ModelShape:
        """The model's sizes."""
        return Anatomy.of(self.model).shape

    def untouched(self) -> bytes:
        """The original as the bytes of a safetensors file."""
        return self.assemble(Member((Pruning.identity(self.shape),)))

    def assemble(self, member: Member, graph: str = PLAIN) -> bytes:
        """The built model as the bytes of a safetensors file.

        Raises:
            DesignError: the member keeps tokens that nobody ranked, or reads some alone that nobody graded.
            ModelError: the member asks for widths other than 32 bits.
        """
        whole = self._standing_in(member)
        if self.grades is not None and compression(member).level != WHOLE:
            whole = graded(whole, torch.tensor(self.grades.grades, dtype=torch.uint8))
        built = apply(_but_vocabulary(member), whole)
        tensors = {name: tensor.detach().contiguous() for name, tensor in _tensors(built).items()}
        if (tokens := self._tokens(member)) is not None:
            words = _word_table(built)
            for name in {words, GRADES} & tensors.keys():
                tensors[name] = tensors[name][list(tokens)]
        return safetensors.torch.save(tensors, self._metadata(member))

    def _standing_in(self, member: Member) -> PreTrainedModel:
        pruning = next((config for config in member.configs if isinstance(config, Pruning)), None)
        return self.model if pruning is None else standing_in(pruning, self.model, self.inverse_moments)

    def size(self, member: Member) -> int:
        """Bytes of that file, from shapes alone."""
        original = _skeleton(type(self.model), self._config(member), _separate(self.model))
        tensors = _tensors(apply(_but_vocabulary(member), _with_room(member, original)))
        return _header_bytes(tensors, self._metadata(member)) + sum(tensor.nbytes for tensor in tensors.values())

    def _tokens(self, member: Member) -> tuple[int, ...] | None:
        """Rows of the word table that stay; None: all."""
        vocabulary = next((config for config in member.configs if isinstance(config, Vocabulary)), Vocabulary.whole())
        padding = getattr(self.model.config, "pad_token_id", None)  # models of images have none
        return vocabulary.kept(self.ranking, () if padding is None else (padding,))

    def _config(self, member: Member) -> dict[str, Any]:
        """The original's configuration with the member's vocabulary; the design says the rest."""
        tokens = self._tokens(member)
        config = self.model.config if tokens is None else pruned_config(self.model.config, tokens)
        content: dict[str, Any] = config.to_diff_dict()
        return content

    def _metadata(self, member: Member) -> dict[str, str]:
        origin = {
            "architecture": type(self.model).__name__,
            "config": self._config(member),
            "design": {config.family: config.to_decoded() for config in member.configs},
            **({"separate": True} if _separate(self.model) else {}),
        }
        return {METADATA: json.dumps(origin, sort_keys=True)}


@dataclass(frozen=True)
class TorchPredictor:
    """A loaded model: padded inputs, each (B, T), to logits (B, C) in float32; on a GPU products are of half precision.

    Handing the logits over waits for the device, so whoever times a call times all of it.
    """

    model: PreTrainedModel
    device: torch.device

    def __call__(self, inputs: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        half = torch.autocast(self.device.type, enabled=self.device.type == "cuda")
        with torch.inference_mode(), half:
            logits: Tensor = self.model(
                **{name: torch.tensor(values, device=self.device) for name, values in inputs.items()}
            ).logits
        return logits.float().cpu().numpy()


@cache
def _available(device: str) -> torch.device:
    """The device, or the CPU where there is none, which is said once."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        logger.warning("Device %s asked for, but torch sees no CUDA device; running on the CPU.", device)
        return torch.device("cpu")
    return torch.device(device)


def _read(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, and where they come from: architecture, config, design."""
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ModelError(f"Not a safetensors file: {error}. {_CURE}") from error
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    if METADATA not in metadata:
        raise ModelError(f"The safetensors file has no {METADATA!r} in its metadata: its design is unknown. {_CURE}")
    return tensors, json.loads(metadata[METADATA])


def _architecture(name: str) -> type[PreTrainedModel]:
    found = SentenceEncoder if name == SentenceEncoder.__name__ else getattr(transformers, name, None)
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        version = transformers.__version__
        raise ModelError(
            f"transformers {version} has no model class {name!r}. Install the version it was exported with."
        )
    return found


def _skeleton(architecture: type[PreTrainedModel], config: Mapping[str, object], separate: bool) -> PreTrainedModel:
    """The original's structure without values: no time for random weights, no draw from the global generator.

    Args:
        architecture: class of the model.
        config: its configuration.
        separate: whether layers that share their weights in a checkpoint have their own.
    """
    kind = architecture.config_class or type(AutoConfig.for_model(str(config["model_type"])))
    with torch.device("meta"):
        conformed = conform(architecture(kind.from_dict(dict(config))))
    return separated(conformed) if separate else conformed


def _separate(model: PreTrainedModel) -> bool:
    """Whether layers that share their weights in the family's checkpoints have their own, as after training them."""
    alike = sharing(model, Anatomy.of(model).layers)
    return not alike and any(isinstance(module, Unrolled) for module in model.modules())


def _emptied(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """With room for values on the device; parameters that were one still are."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    aliases = {name: first[id(parameter)] for name, parameter in model.named_parameters(remove_duplicate=False)}
    model.to_empty(device=device)
    for name, own in aliases.items():
        module, _, kind = name.rpartition(".")
        setattr(model.get_submodule(module), kind, model.get_parameter(own))
    return model


def _structure(design: Mapping[str, Mapping[str, object]]) -> Member:
    """The families of `design` that change a model's structure."""
    decoded: dict[str, Any] = reduce(merged, design.values(), {})
    return Member(tuple(kind.from_decoded(decoded) for kind in _STRUCTURAL if kind.family in design))


def _with_room(member: Member, skeleton: PreTrainedModel) -> PreTrainedModel:
    """`skeleton`, with room for the grades of its tokens where `member` reads the most significant alone."""
    if compression(member).level == WHOLE:
        return skeleton
    words = skeleton.get_parameter(_word_table(skeleton))
    return graded(skeleton, torch.empty(len(words), dtype=torch.uint8, device=words.device))


def _but_vocabulary(member: Member) -> Member:
    """The families that cut a model in memory; the vocabulary is cut where the file is written.

    Raises:
        DesignError: rows of rare words are to be put together.
    """
    if any(isinstance(config, RareTokens) and config.exact is not None for config in member.configs):
        raise DesignError("torch does not put rows of rare words together. Use onnxruntime, or keep all rows exact.")
    return Member(
        tuple(config for config in member.configs if not isinstance(config, Vocabulary | RareTokens)), member.weights
    )


def _word_table(model: PreTrainedModel) -> str:
    """Name of the parameter that holds a row per token."""
    words = model.get_input_embeddings()
    if not isinstance(words, nn.Embedding):
        raise ModelError(
            f"{type(model).__name__} has no table of words. Keep the whole vocabulary, or use another model."
        )
    return next(name for name, parameter in model.named_parameters() if parameter is words.weight)


def _tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """Parameters and all buffers, those outside the state dict too: a skeleton has no values for them."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _fill(model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> None:
    """Copy values into all of the model's tensors."""
    slots = _tensors(model)
    expected = {(name, tuple(slot.shape)) for name, slot in slots.items()}
    found = {(name, tuple(tensor.shape)) for name, tensor in tensors.items()}
    if expected != found:
        raise ModelError(
            f"The file's tensors do not fit its design: expected {sorted(expected - found)[:2]}, "
            f"found {sorted(found - expected)[:2]}. {_CURE}"
        )
    with torch.no_grad():
        for name, slot in slots.items():
            slot.copy_(tensors[name])


def _header_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
    """Length prefix and JSON header of a safetensors file, padded to 8 bytes."""
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        entries[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    header = len(json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-header // 8) * 8
