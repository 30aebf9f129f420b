"""A tokenizer taken apart: pieces, merges and special tokens. Knows the tokenizers library's JSON; ranks nothing.

A text whose pieces all stay, and with them what BPE merges them from, is split as before: WordPiece's longest piece,
BPE's earliest merge and Unigram's likeliest split were chosen among more and are still there to be chosen. Any other
word is split into smaller pieces, at worst into single characters.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from spaces.errors import ModelError

Content: TypeAlias = Mapping[str, Any]  # a tokenizer as its library writes it

_KINDS = ("WordPiece", "BPE", "Unigram")
# Latin-1, the 68 characters behind it by which byte-level BPE writes the bytes that are not printable, typographic
# punctuation, and the space of SentencePiece.
_COMMON = frozenset(map(chr, (*range(0x144), *range(0x2010, 0x2060), 0x2581)))
# Pieces by which SentencePiece may write characters that have none.
_BYTES = frozenset(f"<0x{byte:02X}>" for byte in range(256))


def content_of(tokenizer: Any) -> Content:
    """A tokenizer of `transformers` as JSON, without what every call sets anew.

    Raises:
        ModelError: it is none of WordPiece, BPE and Unigram.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content: dict[str, Any] = {} if backend is None else json.loads(backend.to_str())
    kind = content.get("model", {}).get("type", type(tokenizer).__name__)
    if kind not in _KINDS:
        raise ModelError(
            f"The model's tokenizer is a {kind}, expected one of {', '.join(_KINDS)} of the tokenizers library. "
            "Leave the vocabulary out of the search, or use a model with such a tokenizer."
        )
    return {**content, "truncation": None, "padding": None}


def pieces(content: Content) -> dict[int, str]:
    """All tokens by id."""
    vocab = content["model"]["vocab"]
    entries = vocab.items() if isinstance(vocab, dict) else ((piece, token) for token, (piece, _) in enumerate(vocab))
    return {token: piece for piece, token in entries} | {one["id"]: one["content"] for one in content["added_tokens"]}


def special(content: Content) -> set[int]:
    """Tokens that the tokenizer itself relies on."""
    model, added = content["model"], {token["id"] for token in content["added_tokens"]}
    if model["type"] != "Unigram":
        return added | {model["vocab"][piece] for piece in [model["unk_token"]] if piece in model["vocab"]}
    # The least likely piece sets how unlikely an unknown character is, and so how words around it are split.
    scores = [score for _, score in model["vocab"]]
    return added | {scores.index(min(scores))} | ({model["unk_id"]} - {None})


def letters(content: Content, seen: Iterable[int]) -> list[int]:
    """Pieces of one character, as far as it is common or occurs in the tokens `seen`."""
    prefix, suffix = (content["model"].get(name) or "" for name in ("continuing_subword_prefix", "end_of_word_suffix"))
    bare = {token: piece.removeprefix(prefix).removesuffix(suffix) for token, piece in pieces(content).items()}
    needed = _BYTES | _COMMON.union(*(bare[token] for token in seen))
    return sorted(token for token, piece in bare.items() if piece in needed)


def parents(content: Content) -> Mapping[int, Sequence[int]]:
    """By token, those that BPE merges it from, by whichever merge."""
    vocab = content["model"]["vocab"]
    found: defaultdict[int, list[int]] = defaultdict(list)
    for left, right, result in _merges(content["model"]):
        found[vocab[result]] += [vocab[left], vocab[right]]
    return found


def renumbered(content: Content, ids: Mapping[int, int]) -> Content:
    """The tokenizer with the tokens of `ids` alone, each under its new id; special tokens are among them."""
    return {
        **content,
        "model": _renumbered_model(content["model"], ids),
        "added_tokens": [{**token, "id": ids[token["id"]]} for token in content["added_tokens"]],
        "post_processor": _renumbered_processor(content["post_processor"], ids),
    }


def _merges(model: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Left, right and result of each merge; only BPE has any."""
    prefix = len(model.get("continuing_subword_prefix") or "")
    return ((left, right, left + right[prefix:]) for left, right in model.get("merges", ()))


def _renumbered_model(model: Mapping[str, Any], ids: Mapping[int, int]) -> dict[str, Any]:
    vocab = model["vocab"]
    if model["type"] == "Unigram":
        entries = [vocab[token] for token in ids if token < len(vocab)]
        return {**model, "vocab": entries, "unk_id": ids.get(model["unk_id"])}
    left = {piece: ids[token] for piece, token in vocab.items() if token in ids}
    if model["type"] == "WordPiece":
        return {**model, "vocab": left}
    return {**model, "vocab": left, "merges": [merge[:2] for merge in _merges(model) if left.keys() >= set(merge)]}


def _renumbered_processor(processor: Any, ids: Mapping[int, int]) -> Any:
    """A post-processor that sets the same special tokens under their new ids."""
    match processor:
        case {"processors": parts}:
            return {**processor, "processors": [_renumbered_processor(part, ids) for part in parts]}
        case {"special_tokens": tokens}:
            renumbered = {name: {**one, "ids": [ids[token] for token in one["ids"]]} for name, one in tokens.items()}
            return {**processor, "special_tokens": renumbered}
        case {"sep": [sep, sep_id], "cls": [cls, cls_id]}:
            return {**processor, "sep": [sep, ids[sep_id]], "cls": [cls, ids[cls_id]]}
    return processor
