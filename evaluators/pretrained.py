"""A member as a `save_pretrained` folder: torch modules really as small as they are, and a short file that loads them.

Knows a run's model and its designs; knows nothing of figures.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from transformers import PreTrainedModel

from evaluators import pretrained_loader
from evaluators.answering import run_sorted
from evaluators.artifact import Artifact, save_tokenizer
from evaluators.base import Watch
from evaluators.conforming import rewritten
from evaluators.importance import load_importance
from evaluators.metrics.host import usable_cores
from evaluators.models import weights_sha256
from evaluators.prepare import Assignment, Original, original
from evaluators.problems.base import agreement
from evaluators.reading import Readings, Texts
from evaluators.recovery import ORIGINAL, load, weights_file
from evaluators.runtimes.torch import TorchPredictor, TorchRuntime
from evaluators.transforms.restore import put_back
from spaces.axes.pruning import LayerUnits, Pruning
from spaces.axes.vocabulary import Vocabulary
from spaces.design import Member
from spaces.errors import RunError

LOADER = "load.py"
_ROWS = 256  # that tell whether the folder answers as the exported model does
_BATCH = 16


def write_pretrained(
    out: Path, work: Assignment, run: Path, exported: Path, decoded: Mapping[str, Any], weights: str, watch: Watch
) -> tuple[float, int]:
    """Write a member to `out` with weights of 32 bits, all rows of its word table exact, and load it again.

    Args:
        out: an empty folder, or none yet.
        work: what the run was made of.
        run: its folder.
        exported: the same member as the run exported it.
        decoded: its design; layers attend softly to all tokens.
        weights: id of its weights.
        watch: told how far it is.

    Returns:
        Share of confirm rows on which `out` says the same as `exported`, and their number.

    Raises:
        RunError: the run's model or rows are not what they were, there are no weights of that id, or the model's family
            has modules that the loader cannot cut.
    """
    known = original(work, run, watch)
    if rewritten(known.model):
        raise RunError(
            f"{type(known.model).__name__} has no plain linears for {LOADER} to cut: --as torch writes BERT, "
            "DistilBERT, RoBERTa and ELECTRA. Leave --as out."
        )
    if (ranked := run / "importance.json").exists():
        rows = known.texts.calibration.sha256
        load_importance(ranked, weights_sha=weights_sha256(known.model), calibration_sha=rows)
    member = Member((Pruning.from_decoded(decoded), Vocabulary.from_decoded(decoded)), weights)
    watch("slicing", 0, 0)
    texts = Texts({"confirm": known.texts.confirm}, known.tokenizer, work.max_length, known.template.ranking)
    readings = Readings(texts, known.splits)
    save_sliced(out, sliced(known, member, run), member.config(Pruning))
    save_tokenizer(out, readings.tokenizer(member), work.max_length)
    watch("comparing", 0, 0)
    confirm = readings.rows(member, "confirm").first(_ROWS)
    predictor = TorchPredictor(pretrained_loader.load(out), torch.device("cpu"))
    measured = Artifact.open(exported, device=work.target.device).logits(confirm, work.target.batch_size)
    return agreement(work.task.problem, measured, run_sorted(predictor, confirm, _BATCH)), len(confirm)


def sliced(known: Original, member: Member, run: Path) -> PreTrainedModel:
    """The member's torch model."""
    runtime = TorchRuntime()
    if member.weights == ORIGINAL:
        template = runtime.template(known.model).compensating(known.template.inverse_moments)
    else:
        template = runtime.template(put_back(known.model, *load(weights_file(run / "weights", member.weights))))
    artefact = template.with_vocabulary(known.template.ranking).assemble(member)
    return runtime.load(artefact, threads=usable_cores()).model


def save_sliced(folder: Path, model: PreTrainedModel, pruning: Pruning) -> None:
    """Write a cut model's configuration, which says what is left of each layer, its weights, and the loader."""
    folder.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.kept_layers = list(pruning.kept_layers)  # of the original's
    neurons = "intermediate_size" if hasattr(config, "intermediate_size") else "hidden_dim"
    units = [layer for layer in pruning.layers if layer is not None]
    config.per_layer_config = {place: _left(layer, neurons) for place, layer in enumerate(units)}
    config.save_pretrained(folder)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / LOADER).write_text(Path(pretrained_loader.__file__).read_text())


def _left(units: LayerUnits, neurons: str) -> dict[str, Any]:
    """A layer's entry in `per_layer_config`: what it has of heads and neurons, and which block it skips."""
    blocks = {"attention": ("num_attention_heads", len(units.heads)), "mlp": (neurons, len(units.neurons))}
    skipped = [block for block, (_, count) in blocks.items() if not count]
    counts = {name: count for name, count in blocks.values() if count}
    return {**counts, **({"skip": skipped} if skipped else {})}
