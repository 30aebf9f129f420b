"""Bytes of exported folders. Knows which files are the tokenizer's or for people; knows nothing inside a file."""

from collections.abc import Iterator
from pathlib import Path

from spaces.errors import ModelError

TOKENIZER_FILES = frozenset(
    {
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.txt",
        "vocab.json",
        "merges.txt",
        "sentencepiece.bpe.model",
        "spiece.model",
        "tokenizer.model",
        "chat_template.jinja",
        "preprocessor_config.json",
        "processor_config.json",
    }
)
FILES_FOR_PEOPLE = frozenset({"design.json", "metrics.json", "README.md", "example.py"})


def inference_bytes(folder: Path) -> int:
    """Bytes of all files that inference needs except the tokenizer's; a file of unknown purpose counts.

    Raises:
        ModelError: `folder` holds no such file.
    """
    sizes = [path.stat().st_size for path in _files(folder) if path.name not in TOKENIZER_FILES | FILES_FOR_PEOPLE]
    if not sizes:
        raise ModelError(f"{folder} holds no model file. Give a folder written by `paretoformer select --export`.")
    return sum(sizes)


def tokenizer_bytes(folder: Path) -> int:
    """Bytes of the tokenizer's (or preprocessor's) files; 0 where there are none."""
    return sum(path.stat().st_size for path in _files(folder) if path.name in TOKENIZER_FILES)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
