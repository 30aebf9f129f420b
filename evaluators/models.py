"""Models by name, folder or Hub id, and their fine-tuned checkpoints. Knows how to load; knows nothing of designs."""

import difflib
import hashlib
import json
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from logging import ERROR
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.utils import logging as hub_logging
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel
from transformers.models.auto import modeling_auto
from transformers.utils import logging

from evaluators.anatomy import Anatomy
from evaluators.answers import unnamed
from evaluators.base import Watch
from evaluators.cache import cache_folder
from evaluators.conforming import conform, published
from evaluators.media import FileReader, check_medium, open_reader
from evaluators.packaged import MODELS
from evaluators.problems.base import Problem
from evaluators.problems.classes import CLASSIFICATION
from evaluators.problems.embeddings import EMBEDDINGS
from evaluators.problems.words import TokenClassification
from evaluators.sentence_encoder import SentenceEncoder, behind_the_encoder
from evaluators.tasks.base import Splits, Task, encode
from evaluators.training.finetune import FinetuneSettings, finetune
from spaces.errors import ModelError
from spaces.medium import IMAGE, SOUND, TEXT, Medium
from spaces.shape import ModelShape

_HUB_SECONDS = 5
# Settings of fine-tuning that came later: as long as they are off, what was fine-tuned before them is found again.
_LATER = (("averaged", 1), ("consistency", 0.0))

# Class that opens models that say something of every word, and how their classes end.
_OF_WORDS = "AutoModelForTokenClassification", ("ForTokenClassification",)
# Types of models of each medium that have a class with a head; of several, the first.
_FAMILIES: Mapping[Medium, Collection[str]] = {
    TEXT: modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    IMAGE: modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    SOUND: modeling_auto.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES,
}

_ALTERNATIVES = f"Local models: {', '.join(MODELS)}, or a folder written by save_pretrained."


def resolve(name_or_path: str) -> str:
    """The folder of a name from MODELS, an existing folder, or else the text as an id of the Hub.

    Raises:
        ModelError: a package that is not installed, a path without a folder, or what looks like a mistyped name.
    """
    if name_or_path in MODELS:
        return MODELS[name_or_path].locate()
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return str(path)
    if "/" not in name_or_path and (near := difflib.get_close_matches(name_or_path, MODELS, n=1)):
        raise ModelError(f"Unknown model {name_or_path!r}. Did you mean {near[0]!r}?")
    if path.is_absolute() or name_or_path.startswith((".", "~")) or name_or_path.count("/") > 1:
        raise ModelError(f"There is no folder {name_or_path}. {_ALTERNATIVES}")
    return name_or_path


def load_classifier(
    source: str,
    classes: Sequence[str],
    problem: Problem = CLASSIFICATION,
    *,
    trust_remote_code: bool = False,
    seed: int = 0,
) -> tuple[Any, Any]:
    """A classifier of rows or words, or where vectors are asked for an encoder of sentences, in fp32 and
    evaluation mode, with its tokenizer or what reads files for it; from safetensors files only.

    Args:
        source: a folder, or an id of the Hub.
        classes: the task's, one per output; a checkpoint with another number of them gets a new head.
        problem: what outputs mean.
        trust_remote_code: run the model author's code.
        seed: draws the weights of a new head.

    Raises:
        ModelError: no such model, no safetensors weights, or a head with the same classes in another order.
    """
    config = _config(source, trust_remote_code)
    if problem == EMBEDDINGS:
        return _encoder(source, config, trust_remote_code), _reader(source, config, trust_remote_code)
    _check_order(source, config, classes)
    replaced = config.num_labels != len(classes)
    config.id2label = dict(enumerate(classes))
    config.label2id = {name: index for index, name in enumerate(classes)}
    config.problem_type = problem.problem_type
    auto, _ = _head_of(config, problem)
    model, _ = _model(source, config, auto, trust_remote_code, seed=seed, ignore_mismatched_sizes=replaced)
    tokenizer = _reader(source, config, trust_remote_code)
    if not isinstance(tokenizer, FileReader) and getattr(model.config, "pad_token_id", 0) is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def has_head(source: str, outputs: int, problem: Problem = CLASSIFICATION, *, trust_remote_code: bool = False) -> bool:
    """Whether `source` is fine-tuned for the problem with so many outputs, all of its weights there; an encoder of
    sentences always is.

    Raises:
        ModelError: no such model, or no safetensors weights.
    """
    config = _config(source, trust_remote_code)
    if problem == EMBEDDINGS:
        return True
    other = config.problem_type not in (None, problem.problem_type)  # older checkpoints do not say
    auto, heads = _head_of(config, problem)
    if not _ends(config, heads) or other or config.num_labels != outputs:
        return False
    _, complete = _model(source, config, auto, trust_remote_code, seed=0, ignore_mismatched_sizes=True)
    return complete


def own_classes(name: str, *, trust_remote_code: bool = False) -> tuple[str, ...]:
    """The classes that a checkpoint itself tells apart, in the order of its outputs.

    Raises:
        ModelError: no such model, or it has no classification head of one class per row.
    """
    source = resolve(name)
    config = _config(source, trust_remote_code)
    if not has_head(source, config.num_labels, trust_remote_code=trust_remote_code) or config.num_labels < 2:
        raise ModelError(
            f"Model {name!r} has no classification head, and without labels it cannot be given one. Fine-tune it "
            f"first, with `paretoformer finetune --model {name} --task FILE --out DIR`, and give DIR as the model."
        )
    return _names(config)


def class_names(name: str, *, trust_remote_code: bool = False) -> tuple[str, ...]:
    """What a checkpoint calls its classes, in the order of its outputs; none where nobody named them.

    Raises:
        ModelError: no such model.
    """
    names = _names(_config(resolve(name), trust_remote_code))
    return () if unnamed(names) else names


def medium_of(config: Any) -> Medium:
    """What a model of that configuration reads."""
    return next((medium for medium, types in _FAMILIES.items() if config.model_type in types), TEXT)


def as_it_comes(folder: Path) -> Any:
    """The model of a local checkpoint in fp32 and evaluation mode: a classifier, else an encoder of sentences."""
    config = AutoConfig.from_pretrained(folder)
    heads = _head_of(config, CLASSIFICATION), _OF_WORDS
    auto = next((auto for auto, ends in heads if _ends(config, ends)), None)
    if auto is None:
        return _encoder(str(folder), config, trust_remote_code=False)
    with quiet():
        found: Any = getattr(transformers, auto)
        return found.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).eval()


def weights_sha256(model: Any) -> str:
    """Hash of names, types, shapes and values of a model's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}\t{tensor.dtype}\t{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def architecture(name: str, *, trust_remote_code: bool = False) -> tuple[str, ModelShape]:
    """Family and sizes of a model, from its configuration alone.

    Raises:
        ModelError: no such model, or one that cannot be taken apart.
    """
    config = _config(resolve(name), trust_remote_code)
    make: Any = getattr(transformers, medium_of(config).model)
    with torch.device("meta"):
        model = make.from_config(config, trust_remote_code=trust_remote_code)
    return str(config.model_type), Anatomy.of(model).shape


def ensure_finetuned(
    name: str,
    task: Task,
    texts: Splits,
    *,
    settings: FinetuneSettings,
    seed: int,
    max_length: int,
    trust_remote_code: bool,
    watch: Watch,
) -> Path:
    """The folder (or Hub id) of a classifier for the task; fine-tuned on train and kept if `name` has no head for it.

    What was fine-tuned before is reused only if weights, rows, settings and seed are the same.

    Raises:
        ModelError: no such model, or one of other rows.
    """
    source = resolve(name)
    check_medium(task.medium, medium_of(_config(source, trust_remote_code)), f"Model {name!r}")
    if has_head(source, len(task.classes), task.problem, trust_remote_code=trust_remote_code):
        return Path(source)
    model, tokenizer = load_classifier(
        source, task.classes, task.problem, trust_remote_code=trust_remote_code, seed=seed
    )
    settings = replace(settings, epochs=settings.passes(len(texts.train), task.problem))
    recipe = {
        "weights": weights_sha256(model),
        "train": texts.train.sha256,
        "classes": task.classes,
        "settings": {name: value for name, value in asdict(settings).items() if (name, value) not in _LATER},
        "seed": seed,
        "max_length": max_length,
        "torch": torch.__version__,
        **({} if task.problem == CLASSIFICATION else {"problem": repr(task.problem)}),
    }
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_folder() / "finetuned" / f"{task.name}-{key}"
    if not folder.exists():
        train = encode(texts.train, tokenizer, max_length)
        tuned = finetune(
            model, train, settings, seed=seed, progress=lambda done: watch("fine-tuning", done.step, done.total)
        )
        save(tuned, tokenizer, folder)
    return folder


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a `save_pretrained` folder, which appears only when it is whole and takes the place of an older one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        whole = Path(scratch) / folder.name
        with quiet():
            model.save_pretrained(whole, state_dict=published(model))
            tokenizer.save_pretrained(whole)
        if folder.exists():
            folder.rename(Path(scratch) / "older")
        whole.rename(folder)


def _head_of(config: Any, problem: Problem) -> tuple[str, tuple[str, ...]]:
    """Name of the class that opens models with a head for the problem, and how the names of their classes end."""
    medium = medium_of(config)
    return _OF_WORDS if isinstance(problem, TokenClassification) else (medium.model, medium.heads)


def _names(config: Any) -> tuple[str, ...]:
    """Of the classes, in the order of the outputs."""
    return tuple(str(config.id2label[index]) for index in sorted(config.id2label))


def _ends(config: Any, heads: tuple[str, ...]) -> bool:
    return any(name.endswith(heads) for name in config.architectures or ())


def _config(source: str, trust_remote_code: bool) -> Any:
    with _loading(source) as options:
        return AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code, **options)


def _model(
    source: str, config: Any, auto: str, trust_remote_code: bool, *, seed: int, ignore_mismatched_sizes: bool
) -> tuple[Any, bool]:
    """The classifier, and whether its checkpoint has all the weights; those it lacks are drawn from `seed`."""
    with _loading(source) as options, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, info = getattr(transformers, auto).from_pretrained(
            source,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
            output_loading_info=True,
            **options,
        )
    return conform(model.eval()), not info["missing_keys"] and not info["mismatched_keys"]


def _encoder(source: str, config: Any, trust_remote_code: bool) -> SentenceEncoder:
    with _loading(source) as options:
        encoder = AutoModel.from_pretrained(
            source,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            **options,
        )
        for name, value in behind_the_encoder(_folder(source, options["local_files_only"])).items():
            setattr(encoder.config, name, value)
    found: SentenceEncoder = SentenceEncoder(encoder.config, conform(encoder)).train(False)
    return found


def _folder(source: str, local_files_only: bool) -> Path:
    """Where the small files of a model are, fetched if need be."""
    if Path(source).is_dir():
        return Path(source)
    return Path(snapshot_download(source, allow_patterns=["*.json"], local_files_only=local_files_only))


def _reader(source: str, config: Any, trust_remote_code: bool) -> Any:
    with _loading(source) as options:
        reader = open_reader(source, medium_of(config), trust_remote_code=trust_remote_code, **options)
    if not isinstance(reader, FileReader) and reader.pad_token is None:  # GPT-2's
        reader.pad_token = reader.eos_token
    return reader


def _check_order(source: str, config: Any, classes: Sequence[str]) -> None:
    """A head's classes may have other names than the task's, but not the same names in another order."""
    own = [str(config.id2label[index]).casefold() for index in sorted(config.id2label)]
    asked = [name.casefold() for name in classes]
    if own != asked and sorted(own) == sorted(asked):
        raise ModelError(
            f"Model {source!r} numbers its classes {', '.join(own)}, the task {', '.join(asked)}. "
            "Label the rows with the model's class numbers (0, 1, ...) instead of names."
        )


@contextmanager
def _loading(source: str) -> Iterator[dict[str, Any]]:
    """Options for `from_pretrained`, whose errors become one line.

    The Hub is asked one short question first: the loaders themselves retry for half a minute.
    """
    refusal = None if Path(source).is_dir() else _hub_refusal(source)
    try:
        with quiet():
            yield {"local_files_only": refusal is not None}
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        why = refusal or (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"Cannot load model {source!r}: {why.rstrip('.')}. {_ALTERNATIVES}") from None


def _hub_refusal(source: str) -> str | None:
    """Why the Hub does not serve this model now; None if it does."""
    try:
        HfApi().model_info(source, timeout=_HUB_SECONDS)
    except Exception as error:  # of httpx or httpx2, by the version of huggingface_hub
        return f"not in the Hugging Face Hub, or the Hub cannot be reached ({type(error).__name__})"
    return None


@contextmanager
def quiet() -> Iterator[None]:
    """No load report, no progress bars; put back afterwards."""
    own, hub, bars = logging.get_verbosity(), hub_logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(ERROR)
    hub_logging.set_verbosity(ERROR)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(own)
        hub_logging.set_verbosity(hub)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
