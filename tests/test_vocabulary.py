"""A smaller vocabulary: texts it covers are split and answered exactly as before, all others are still spelled."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer, models
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertTokenizer,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaTokenizer,
    XLMRobertaConfig,
    XLMRobertaTokenizer,
)

from evaluators.runtimes.base import Runtime, Template
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.runtimes.torch import TorchRuntime
from evaluators.tasks.base import Rows, encode
from evaluators.vocabulary import (
    Affected,
    Ranking,
    affected,
    foreign_text,
    load_vocabulary,
    pruned_config,
    pruned_tokenizer,
    rank_tokens,
    save_vocabulary,
    tokenizer_sha256,
)
from spaces.axes.quantization import Quantization
from spaces.axes.vocabulary import Vocabulary
from spaces.design import Member
from spaces.errors import DesignError, ModelError, RunError
from tests.contracts.runtime import arrays, members
from tests.tiny_models import TEXT_FAMILIES, VOCAB, tiny
from tests.tiny_task import GOOD, PLAIN, write_encoder

KINDS = {
    "wordpiece": (BertTokenizer, BertConfig),
    "byte-level bpe": (RobertaTokenizer, RobertaConfig),
    "unigram": (XLMRobertaTokenizer, XLMRobertaConfig),
}
TEXTS = ("A warm, funny and wise film.", "The cast of the film is the best that was assigned to it.", "Empty: no!")
FOREIGN = tuple(text for text in foreign_text() if text.isascii())[:200]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def tokenizer(kind: str) -> Any:
    """Trained on the foreign text, so that it spells every word of it."""
    return KINDS[kind][0]().train_new_from_iterator(FOREIGN, vocab_size=600)


@pytest.fixture(scope="module")
def ranking(tokenizer: Any) -> Ranking:
    return rank_tokens(tokenizer, TEXTS)


def keep(ranking: Ranking, size: int) -> tuple[int, ...]:
    kept = Vocabulary(size).kept(ranking.tokens)
    assert kept is not None
    return kept


def sizes(ranking: Ranking) -> list[int]:
    return [ranking.required, ranking.seen - 1, ranking.seen, ranking.seen + 50, len(ranking.tokens)]


class TestRanking:
    def test_ranks_every_token_once(self, tokenizer: Any, ranking: Ranking) -> None:
        assert sorted(ranking.tokens) == sorted(tokenizer.get_vocab().values())
        assert ranking.required < ranking.seen < len(ranking.tokens)

    def test_special_tokens_and_letters_must_stay(self, kind: str, tokenizer: Any, ranking: Ranking) -> None:
        required = tokenizer.convert_ids_to_tokens(list(ranking.tokens[: ranking.required]))
        assert set(tokenizer.all_special_tokens) <= set(required)
        assert {"a", "e"} <= set(required)
        if kind == "wordpiece":
            assert {"##a", "##e"} <= set(required)
        if kind == "byte-level bpe":
            assert sum(len(piece) == 1 for piece in required) == 256

    def test_what_occurs_more_often_comes_first(self, tokenizer: Any) -> None:
        (often,), (seldom,) = (tokenizer(word, add_special_tokens=False)["input_ids"] for word in (" the", " is"))
        tokens = rank_tokens(tokenizer, (" the the is", " the the")).tokens
        assert tokens.index(often) < tokens.index(seldom)

    def test_without_texts_only_what_is_required_comes_first(self, tokenizer: Any) -> None:
        empty = rank_tokens(tokenizer, ())
        assert empty.seen == empty.required

    def test_other_kinds_of_tokenizers_are_refused(self) -> None:
        backend = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
        words = PreTrainedTokenizerFast(tokenizer_object=backend)  # type: ignore[no-untyped-call]
        with pytest.raises(ModelError, match="is a WordLevel, expected one of WordPiece, BPE, Unigram"):
            rank_tokens(words, TEXTS)


class TestPrunedTokenizer:
    def test_covered_texts_are_split_as_before(self, tokenizer: Any, ranking: Ranking) -> None:
        for size in (ranking.seen, ranking.seen + 50, len(ranking.tokens)):
            kept = keep(ranking, size)
            found = pruned_tokenizer(tokenizer, kept)(list(TEXTS))["input_ids"]
            expected = [[kept.index(token) for token in row] for row in tokenizer(list(TEXTS))["input_ids"]]
            assert found == expected
            assert affected(tokenizer, pruned_tokenizer(tokenizer, kept), TEXTS) == Affected(0.0, 0.0, 0.0)

    def test_other_words_are_spelled_and_read_back(self, tokenizer: Any, ranking: Ranking) -> None:
        before = [tokenizer.decode(ids, skip_special_tokens=True) for ids in tokenizer(list(FOREIGN))["input_ids"]]
        for size in sizes(ranking):
            pruned = pruned_tokenizer(tokenizer, keep(ranking, size))
            rows = pruned(list(FOREIGN))["input_ids"]
            assert [pruned.decode(ids, skip_special_tokens=True) for ids in rows] == before
            assert affected(tokenizer, pruned, FOREIGN).unknown == 0
            assert max(token for ids in rows for token in ids) < size == len(pruned)

    def test_every_piece_that_stays_is_still_found(self, tokenizer: Any, ranking: Ranking) -> None:
        for size in sizes(ranking):
            pruned = pruned_tokenizer(tokenizer, keep(ranking, size))
            for piece in pruned.get_vocab().keys() - set(tokenizer.all_special_tokens):
                before, after = (
                    [token.value for token in each.backend_tokenizer.model.tokenize(piece)]
                    for each in (tokenizer, pruned)
                )
                assert after == before or before != [piece]

    def test_a_saved_one_comes_back(self, kind: str, tokenizer: Any, ranking: Ranking, tmp_path: Path) -> None:
        kept = keep(ranking, ranking.seen)
        pruned = pruned_tokenizer(tokenizer, kept)
        config = KINDS[kind][1](vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
        pruned.save_pretrained(tmp_path)
        pruned_config(config, kept).save_pretrained(tmp_path)
        again = AutoTokenizer.from_pretrained(tmp_path)
        assert type(again) is type(tokenizer)
        assert again.get_vocab() == pruned.get_vocab()
        for text in (*TEXTS, *FOREIGN[:20]):
            assert again(text) == pruned(text)
        assert again.pad_token_id == pruned_config(config, kept).pad_token_id

    def test_the_original_stays_as_it_was(self, tokenizer: Any, ranking: Ranking) -> None:
        before = tokenizer_sha256(tokenizer), tokenizer(list(TEXTS))
        pruned = pruned_tokenizer(tokenizer, keep(ranking, ranking.required))
        assert (tokenizer_sha256(tokenizer), tokenizer(list(TEXTS))) == before
        assert tokenizer_sha256(pruned) != before[0]

    def test_tokens_that_a_user_added_stay(self, kind: str) -> None:
        tokenizer = KINDS[kind][0]().train_new_from_iterator(FOREIGN[:50], vocab_size=400)
        tokenizer.add_tokens(["<film>"])
        ranking = rank_tokens(tokenizer, TEXTS)
        kept = keep(ranking, ranking.required)
        found = pruned_tokenizer(tokenizer, kept)("a <film>")["input_ids"]
        assert kept.index(tokenizer.convert_tokens_to_ids("<film>")) in found

    def test_special_tokens_cannot_go(self, tokenizer: Any, ranking: Ranking) -> None:
        with pytest.raises(DesignError, match=r"A vocabulary of \d+ tokens lacks .+Keep at least the tokens"):
            pruned_tokenizer(tokenizer, sorted(ranking.tokens[2:]))


class TestAffected:
    PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fine", "film", "f", "##i", "##n", "##e", "##l", "##m")

    def without(self, *pieces: str) -> Affected:
        tokenizer = BertTokenizer(vocab={piece: token for token, piece in enumerate(self.PIECES)})
        kept = [token for token, piece in enumerate(self.PIECES) if piece not in pieces]
        return affected(tokenizer, pruned_tokenizer(tokenizer, kept), ("fine film", "fine", "x"))

    def test_shares_are_of_tokens_and_rows(self) -> None:
        assert self.without() == Affected(0.0, 0.0, 0.0)
        assert self.without("film") == Affected(1 / 4, 1 / 3, 0.0)

    def test_a_word_that_cannot_be_spelled_is_unknown(self) -> None:
        assert self.without("film", "##m") == Affected(1 / 4, 1 / 3, 1 / 4)

    def test_foreign_text_suffers_more(self, tokenizer: Any, ranking: Ranking) -> None:
        pruned = pruned_tokenizer(tokenizer, keep(ranking, ranking.seen))
        assert affected(tokenizer, pruned, FOREIGN).tokens > 0.1
        assert len(foreign_text()) > 500


def test_a_configuration_gets_the_new_ids() -> None:
    config = RobertaConfig(vocab_size=100, pad_token_id=1, bos_token_id=0, eos_token_id=50)
    pruned = pruned_config(config, (0, 1, 7, 50, 60))
    assert (pruned.vocab_size, pruned.pad_token_id, pruned.bos_token_id, pruned.eos_token_id) == (5, 1, 0, 3)
    assert (config.vocab_size, config.eos_token_id) == (100, 50)


def test_files_come_back_and_belong_to_tokenizer_and_texts(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.json"
    ranking = Ranking((0, 2, 1), 1, 2)
    save_vocabulary(path, ranking, "t" * 64, "r" * 64)
    assert load_vocabulary(path, "t" * 64, "r" * 64) == ranking
    assert [file.name for file in tmp_path.iterdir()] == ["vocabulary.json"]
    with pytest.raises(RunError, match="tokenizer_sha256"):
        load_vocabulary(path, "x" * 64, "r" * 64)
    with pytest.raises(RunError, match="texts_sha256"):
        load_vocabulary(path, "t" * 64, "x" * 64)


RANKING = (*range(5), *random.Random(0).sample(range(5, VOCAB), VOCAB - 5))
SIZE = 70


def with_vocabulary(member: Member) -> Member:
    return Member((*member.configs, Vocabulary(SIZE)))


def renumbered(ids: NDArray[np.int64], kept: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.searchsorted(kept, ids).astype(np.int64)


@pytest.mark.parametrize("family", TEXT_FAMILIES)
@pytest.mark.parametrize("runtime", [OnnxRuntime(), TorchRuntime()], ids=["onnxruntime", "torch"])
class TestTemplates:
    @pytest.fixture
    def template(self, runtime: Runtime, family: str) -> Template:
        return runtime.template(tiny(family)[0]).with_vocabulary(RANKING)

    def test_answers_are_the_whole_model_s_own(self, runtime: Runtime, family: str, template: Template) -> None:
        inputs = arrays(tiny(family)[1])
        kept = np.sort(RANKING[:SIZE])
        covered = {**inputs, "input_ids": kept[inputs["input_ids"] % SIZE]}
        fewer = {**inputs, "input_ids": renumbered(covered["input_ids"], kept)}
        for bits in runtime.bits:
            for name in ("identity", "random 0"):
                member = members(template.shape, bits)[name]
                expected = runtime.load(template.assemble(member), threads=1)(covered)
                found = runtime.load(template.assemble(with_vocabulary(member)), threads=1)(fewer)
                assert np.array_equal(found, expected), f"{name} in {bits} bits"

    def test_the_predicted_size_counts_the_rows_that_stay(
        self, runtime: Runtime, family: str, template: Template
    ) -> None:
        for bits in runtime.bits:
            member = members(template.shape, bits)["random 0"]
            artefact = template.assemble(with_vocabulary(member))
            assert template.size(with_vocabulary(member)) == pytest.approx(len(artefact), rel=0.01)
            width = 16 if family in ("electra", "albert") else template.shape.hidden
            saved = (VOCAB - SIZE) * (width * bits // 8 + (4 if bits < 32 else 0))  # codes, a scale per row
            assert len(template.assemble(member)) - len(artefact) == pytest.approx(saved, abs=128)  # descriptions

    def test_the_whole_vocabulary_is_the_member_without(self, family: str, runtime: Runtime) -> None:
        template, inputs = runtime.template(tiny(family)[0]), arrays(tiny(family)[1])
        whole, without = (
            runtime.load(template.assemble(Member(configs)), threads=1)(inputs)
            for configs in ((Vocabulary.whole(),), ())
        )
        assert np.array_equal(whole, without)

    def test_tokens_that_nobody_ranked_are_refused(self, family: str, runtime: Runtime, template: Template) -> None:
        for unable, count in ((runtime.template(tiny(family)[0]), 0), (template.with_vocabulary((0, 1, 2)), 3)):
            with pytest.raises(DesignError, match=rf"keeps {SIZE} tokens, the template's ranking has {count}"):
                unable.assemble(Member((Vocabulary(SIZE),)))


def test_the_predicted_size_is_exact() -> None:
    template = OnnxRuntime().template(tiny("bert")[0]).with_vocabulary(RANKING)
    for bits in (32, 8, 4):
        member = with_vocabulary(members(template.shape, bits)["random 1"])
        assert template.size(member) == len(template.assemble(member))


@pytest.mark.parametrize("runtime", [OnnxRuntime(), TorchRuntime()], ids=["onnxruntime", "torch"])
def test_the_padding_that_positions_are_counted_from_keeps_its_id(runtime: Runtime) -> None:
    template = runtime.template(tiny("roberta")[0]).with_vocabulary(range(1, VOCAB))
    with pytest.raises(DesignError, match="relies on token 1, whose id a vocabulary of 60 tokens would change"):
        template.assemble(Member((Vocabulary(60),)))


@pytest.mark.parametrize("runtime", [OnnxRuntime(), TorchRuntime()], ids=["onnxruntime", "torch"])
def test_images_have_no_words(runtime: Runtime) -> None:
    template = runtime.template(tiny("vit")[0]).with_vocabulary(RANKING)
    with pytest.raises(ModelError, match="Keep the whole vocabulary"):
        template.assemble(Member((Vocabulary(SIZE),)))


def test_a_text_is_classified_as_before(tmp_path: Path) -> None:
    """From text to logits in 4 bits, with a word table that is longer than the tokenizer's vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(write_encoder(tmp_path / "encoder"))
    rows = Rows((" ".join(GOOD), " ".join((*GOOD[:2], *PLAIN[:3]))), (0, 0))
    ranking = rank_tokens(tokenizer, rows.texts)
    template = OnnxRuntime().template(tiny("bert")[0]).with_vocabulary(ranking.tokens)
    four = Quantization.uniform(template.shape, 4)
    logits = []
    for vocabulary in (Vocabulary.whole(), Vocabulary(ranking.seen)):
        kept = vocabulary.kept(ranking.tokens)
        own = tokenizer if kept is None else pruned_tokenizer(tokenizer, kept)
        predictor = OnnxRuntime().load(template.assemble(Member((four, vocabulary))), threads=1)
        (batch,) = encode(rows, own, max_length=16).batches(2)
        logits.append(predictor(batch))
    assert ranking.seen < len(ranking.tokens) < VOCAB
    assert np.array_equal(logits[0], logits[1])
