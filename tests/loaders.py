"""Exported folders in the loaders that people have: run by an environment of theirs, without this project.

python loaders.py LOADER FOLDER TEXTS.json > ANSWERS.json
"""

import json
import sys
from typing import Any


def optimum(folder: str, texts: list[Any]) -> Any:
    """Logits of optimum's model for sequence classification, text by text; a text may be a pair."""
    from optimum.onnxruntime import ORTModelForSequenceClassification

    return _of_optimum(ORTModelForSequenceClassification, folder, texts)


def optimum_of_words(folder: str, texts: list[Any]) -> Any:
    """Logits of optimum's model for token classification, text by text."""
    from optimum.onnxruntime import ORTModelForTokenClassification

    return _of_optimum(ORTModelForTokenClassification, folder, texts)


def optimum_of_images(folder: str, rows: list[Any]) -> Any:
    """Logits of optimum's model for image classification, of pixels (channels, height, width) each."""
    from optimum.onnxruntime import ORTModelForImageClassification

    return _of_arrays(ORTModelForImageClassification, "pixel_values", folder, rows)


def optimum_of_sounds(folder: str, rows: list[Any]) -> Any:
    """Logits of optimum's model for audio classification, of spectrograms (frames, bins) or waves (samples,) each."""
    from optimum.onnxruntime import ORTModelForAudioClassification

    return _of_arrays(ORTModelForAudioClassification, "input_values", folder, rows)


def _of_arrays(kind: Any, name: str, folder: str, rows: list[Any]) -> Any:
    import torch

    model = kind.from_pretrained(folder)
    return [model(**{name: torch.tensor([row])}).logits[0].tolist() for row in rows]


def _of_optimum(kind: Any, folder: str, texts: list[Any]) -> Any:
    from transformers import AutoTokenizer

    model, tokenizer = kind.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    read = [tokenizer(*([text] if isinstance(text, str) else text), return_tensors="np") for text in texts]
    return [model(**inputs).logits[0].tolist() for inputs in read]


def sentence_transformers(folder: str, texts: list[Any]) -> Any:
    """Vectors of sentence-transformers with onnxruntime behind it."""
    from sentence_transformers import SentenceTransformer

    options = {"provider": "CPUExecutionProvider"}
    model = SentenceTransformer(folder, backend="onnx", device="cpu", model_kwargs=options)
    return model.encode(texts, batch_size=1).tolist()


def cross_encoder(folder: str, texts: list[Any]) -> Any:
    """Scores of pairs by a cross-encoder of sentence-transformers, without an activation behind the model."""
    import torch
    from sentence_transformers import CrossEncoder

    options = {"provider": "CPUExecutionProvider"}
    model = CrossEncoder(folder, backend="onnx", device="cpu", model_kwargs=options)
    return model.predict(texts, batch_size=1, activation_fn=torch.nn.Identity()).tolist()


_ALL = (
    optimum,
    optimum_of_words,
    optimum_of_images,
    optimum_of_sounds,
    sentence_transformers,
    cross_encoder,
)
LOADERS = {each.__name__: each for each in _ALL}

if __name__ == "__main__":
    loader, model_folder, questions = sys.argv[1:]
    with open(questions) as asked:
        print(json.dumps(LOADERS[loader](model_folder, json.load(asked))))
