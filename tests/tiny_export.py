"""A tiny random classifier as an exported folder. Knows its words and classes; knows nothing of what a test does."""

from pathlib import Path
from typing import Any

from transformers import BertTokenizer

from evaluators import artifact
from evaluators.runtimes.base import Runtime
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from spaces.axes.quantization import Quantization
from spaces.design import Member
from tests.tiny_models import tiny

WORDS = ("a", "warm", "funny", "wise", "film", "two", "hours", "of", "boredom", "dull", "and", ".", ",")
TEXTS = ["A warm, funny and wise film.", "Two hours of boredom.", "dull", "a film of two hours, funny and dull."]
CLASSES = ("bad", "fair", "good")


def tokenizer(folder: Path) -> BertTokenizer:
    """Of a vocabulary that is written to `folder`."""
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)))
    return BertTokenizer(str(vocabulary), do_lower_case=True)


def design(runtime: Runtime) -> dict[str, Any]:
    """The least that design.json holds."""
    return {"runtime": runtime.name, "filename": runtime.filename, "classes": list(CLASSES), "max_length": 8}


def export(runtime: Runtime, folder: Path, bits: int = 32, **more: Any) -> Path:
    """Write the classifier in this runtime and width to `folder`, with what else `artifact.write` takes."""
    model, _ = tiny("bert")
    template = runtime.template(model)
    shape = OnnxRuntime().template(model).shape
    artifact.write(
        folder,
        model_bytes=template.assemble(Member((Quantization.uniform(shape, bits),))),
        filename=runtime.filename,
        tokenizer=tokenizer(folder.parent),
        model_config=model.config,
        design=design(runtime),
        **more,
    )
    return folder
