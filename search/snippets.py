"""How an exported folder is loaded without this project. Knows loaders by name; runs none."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spaces.medium import IMAGE, SOUND, Medium, medium_in

_OPTIMUM = """\
from optimum.onnxruntime import ORTModelForSequenceClassification
from transformers import AutoTokenizer

model = ORTModelForSequenceClassification.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
logits = model(**tokenizer({texts}, truncation=True, return_tensors="pt")).logits
print(logits)
"""
_OPTIMUM_OF_FILES = """\
{libraries}
from optimum.onnxruntime import {model}
from transformers import {processor}

model = {model}.from_pretrained("{name}")
processor = {processor}.from_pretrained("{name}")
{read}
logits = model(**inputs).logits
print(logits)
"""
# By medium of files what is imported for it, what pip installs for that, and how a file becomes inputs.
_FILES: Mapping[str, tuple[str, str, str]] = {
    IMAGE.name: (
        "from PIL import Image",
        "pillow",
        """\
image = Image.open("image.png").convert("L" if len(processor.image_mean or ()) == 1 else "RGB")
inputs = processor(image, return_tensors="pt")""",
    ),
    SOUND.name: (
        "import soundfile",
        "soundfile",
        """\
wave, rate = soundfile.read("sound.wav", dtype="float32")  # of one channel, in the model's sampling rate
inputs = processor(wave, sampling_rate=rate, return_tensors="pt")""",
    ),
}
_OPTIMUM_OF_WORDS = _OPTIMUM.replace("SequenceClassification", "TokenClassification")
_CROSS_ENCODER = """\
import torch
from sentence_transformers import CrossEncoder

model = CrossEncoder("{name}", backend="onnx")
logits = model.predict([("A text.", "Another one.")], activation_fn=torch.nn.Identity())
print(logits)
"""
_SENTENCE_TRANSFORMER = """\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{name}", backend="onnx")
vectors = model.encode(["A text."])
print(vectors)
"""
_TORCH = """\
import sys
{fetch}
sys.path.insert(0, folder)
from load import load
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder)
logits = load()(**tokenizer({texts}, truncation=True, return_tensors="pt")).logits
print(logits)
"""
_HERE = """\

folder = "{name}"
"""
_FROM_THE_HUB = """\
from huggingface_hub import snapshot_download

folder = snapshot_download("{name}")
"""


@dataclass(frozen=True)
class Snippet:
    """A few lines of Python: the loader that they use, and what pip installs for it."""

    loader: str
    needs: str
    code: str


def snippets(name: str, design: Mapping[str, Any], *, torch: bool, pushed: bool) -> tuple[Snippet, ...]:
    """For every loader that takes such a folder.

    Args:
        name: the folder, or its name in the Hub.
        design: content of design.json.
        torch: whether the folder holds torch weights, not an ONNX graph.
        pushed: whether `name` is that in the Hub.
    """
    pairs, problem = bool(design.get("pairs")), design.get("problem", "classification")
    texts = '"A text.", "Another one."' if pairs else '"A text."'
    if torch:
        fetch = (_FROM_THE_HUB if pushed else _HERE).format(name=name)
        return (Snippet("torch and transformers", '"transformers>=5" torch', _TORCH.format(fetch=fetch, texts=texts)),)
    if design.get("filename") != "model.onnx":
        return ()
    sentence_transformers = '"sentence-transformers[onnx]"'
    if problem == "embeddings":
        code = _SENTENCE_TRANSFORMER.format(name=name)
        return (Snippet("sentence-transformers", sentence_transformers, code),)
    if (medium := medium_in(design)).of_files:
        return (_of_files(name, medium),)
    optimum = _OPTIMUM_OF_WORDS if problem == "token-classification" else _OPTIMUM
    found = [Snippet("optimum", '"optimum-onnx[onnxruntime]"', optimum.format(name=name, texts=texts))]
    if pairs:
        found.append(Snippet("sentence-transformers", sentence_transformers, _CROSS_ENCODER.format(name=name)))
    return tuple(found)


def asking(design: Mapping[str, Any]) -> str:
    """Flags of `predict` with which the model can be tried."""
    medium = medium_in(design)
    return f"--file {medium.name}{medium.suffixes[0]}" if medium.of_files else '--text "..."'


def _of_files(name: str, medium: Medium) -> Snippet:
    libraries, needs, read = _FILES[medium.name]
    model = medium.model.replace("AutoModel", "ORTModel")
    code = _OPTIMUM_OF_FILES.format(name=name, libraries=libraries, model=model, processor=medium.processor, read=read)
    return Snippet("optimum", f'"optimum-onnx[onnxruntime]" {needs}', code)
