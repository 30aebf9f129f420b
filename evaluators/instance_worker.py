"""One instance: opens a model and answers tasks until its pipe closes. Knows kinds of folders; draws no conclusions.

Started by pool.py as `python -m evaluators.instance_worker PIPE SETUP.json CORES`. It settles on its cores before any
library is loaded, because threads stay where they were started, and loads what its model needs, nothing else.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from evaluators.pool import Setup, Task
    from evaluators.tasks.base import Text

    Logits: TypeAlias = NDArray[np.float32]

# Rows by number and rows per call, to logits (rows, classes).
Kept: TypeAlias = "Callable[[Sequence[int], int], Logits]"


@dataclass(frozen=True)
class Model:
    """An opened model, as its caller sees it.

    Args:
        classes: their names, in the order of the logits.
        of_texts: texts and rows per call, to logits (rows, classes).
        keep: tokenises texts, to be answered by number later.
    """

    classes: tuple[str, ...]
    of_texts: "Callable[[Sequence[Text], int], Logits]"
    keep: "Callable[[Sequence[Text]], Kept]"


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is a `transformers` checkpoint, not an exported model."""
    return (folder / "config.json").is_file() and not (folder / "design.json").is_file()


def load(setup: "Setup") -> Model:
    """Whatever lies in the folder, opened; nothing is downloaded. A further kind of folder is a further line here.

    Raises:
        ModelError: the folder holds no model.
    """
    folder = Path(setup.folder)
    if (folder / "cascade.json").is_file():
        return _cascade(folder, setup)
    return _checkpoint(folder, setup) if is_checkpoint(folder) else _exported(folder, setup)


def main(open_model: "Callable[[Setup], Model]" = load) -> None:
    """Answer tasks; what cannot be opened or answered is answered with the error, and that is the end."""
    pipe, setup_file, cores = sys.argv[1:]
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
    from evaluators.pool import Setup
    from spaces.errors import ParetoformerError

    with Connection(int(pipe)) as connection:
        try:
            _serve(connection, Setup(**json.loads(Path(setup_file).read_text())), open_model)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return  # nobody is listening any more
        except ParetoformerError as error:
            connection.send(error)
        except Exception as error:
            connection.send(ParetoformerError(f"An instance failed with {type(error).__name__}: {error}"))


def _serve(connection: "Connection[object, Task]", setup: "Setup", open_model: "Callable[[Setup], Model]") -> None:
    model = open_model(setup)
    kept = model.keep(setup.kept)
    connection.send(model.classes)
    while True:
        task = connection.recv()
        if task.texts is None:
            connection.send(kept(task.rows, task.batch_size))
        else:
            connection.send(model.of_texts(task.texts, task.batch_size))


def _exported(folder: Path, setup: "Setup") -> Model:
    from evaluators.artifact import Artifact
    from evaluators.tasks.base import Encoded, Rows

    artifact = Artifact.open(folder, threads=setup.threads)

    def encoded(texts: "Sequence[Text]") -> Encoded:
        return artifact.encode(Rows(tuple(texts), (0,) * len(texts))) if texts else Encoded((), ())

    def keep(texts: "Sequence[Text]") -> Kept:
        rows = encoded(texts)
        return lambda numbers, batch_size: artifact.logits(rows.take(numbers), batch_size)

    return Model(artifact.classes, lambda texts, batch_size: artifact.logits(encoded(texts), batch_size), keep)


def _cascade(folder: Path, setup: "Setup") -> Model:
    from evaluators.cascade import Cascade

    cascade = Cascade.open(folder, threads=setup.threads)

    def keep(texts: "Sequence[Text]") -> Kept:
        stages = cascade.encode(texts) if texts else ()

        def answer(numbers: Sequence[int], batch_size: int) -> "Logits":
            rows = [None if stage is None else stage.take(numbers) for stage in stages]
            return cascade.logits([texts[number] for number in numbers], rows, batch_size)[0]

        return answer

    return Model(cascade.classes, lambda texts, batch_size: cascade.logits(texts, batch_size=batch_size)[0], keep)


def _checkpoint(folder: Path, setup: "Setup") -> Model:
    """A checkpoint as it comes: the pipeline on texts, its eager fp32 model on rows that are read, one row per call."""
    import numpy as np
    import torch
    from transformers import pipeline

    from evaluators.anatomy import labels_words
    from evaluators.media import open_reader
    from evaluators.models import as_it_comes, medium_of
    from evaluators.problems.classes import CLASSIFICATION
    from evaluators.problems.words import TokenClassification
    from evaluators.sentence_encoder import SentenceEncoder
    from evaluators.tasks.base import Encoded, Rows, encode

    torch.set_num_threads(setup.threads)
    model = as_it_comes(folder)
    medium = medium_of(model.config)
    tokenizer = open_reader(folder, medium, local_files_only=True)
    classes = tuple(model.config.id2label[index] for index in range(model.config.num_labels))
    of_words = labels_words(model)
    longest = setup.max_length or 0
    if not medium.of_files:
        longest = longest or min(tokenizer.model_max_length, model.config.max_position_embeddings)

    def of_texts(texts: "Sequence[Text]", batch_size: int) -> "Logits":
        asked = {"top_k": None, "function_to_apply": "none", "truncation": True, "max_length": longest}
        parts: Any = [
            text if isinstance(text, str) else dict(zip(("text", "text_pair"), text, strict=True)) for text in texts
        ]
        classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
        answers: Any = classify(parts, **asked)
        scores = [{answer["label"]: answer["score"] for answer in row} for row in answers]
        return np.asarray([[row[name] for name in classes] for row in scores], dtype=np.float32)

    def keep(texts: "Sequence[Text]") -> Kept:
        problem = TokenClassification.reading(texts, classes) if of_words else CLASSIFICATION
        rows = encode(Rows(tuple(texts), (), problem), tokenizer, longest) if texts else Encoded((), ())

        def answer(numbers: Sequence[int], batch_size: int) -> "Logits":
            with torch.inference_mode():
                calls = [
                    {name: torch.from_numpy(values) for name, values in call.items()}
                    for call in rows.take(numbers).batches(1)
                ]
                return rows.take(numbers).outputs([model(**call).logits.numpy() for call in calls])

        return answer

    pools = isinstance(model, SentenceEncoder)
    if pools or of_words or medium.of_files:  # transformers has no pipeline that pools, shows all scores, or reads grey
        return Model(() if pools else classes, lambda texts, _: keep(texts)(range(len(texts)), 1), keep)
    return Model(classes, of_texts, keep)


if __name__ == "__main__":
    main()
