"""Rows of rare words: what is learnt, and that a runtime reads what was learnt."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators.anatomy import Anatomy
from evaluators.codebook import PART, Codebook, codebook
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.runtimes.torch import TorchRuntime
from spaces.axes.quantization import Quantization
from spaces.axes.rare import RareTokens
from spaces.axes.vocabulary import Vocabulary
from spaces.design import Config, Member
from spaces.errors import DesignError
from tests.contracts.runtime import arrays
from tests.tiny_models import tiny

EXACT = 40


def table_of(family: str) -> np.ndarray:
    return tiny(family)[0].get_input_embeddings().weight.detach().numpy()


def test_few_different_rows_are_learnt_exactly() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(6, 24)).astype(np.float32)[rng.integers(0, 6, 100)]
    rows = list(range(20, 100))
    book = codebook(table, rows, "these")
    assert book.codes.shape == (100, 24 // PART)
    np.testing.assert_allclose(book.rows()[rows], table[rows], atol=1e-6)
    assert not book.codes[:20].any()


def test_more_rows_than_parts_are_near_and_nearer_than_their_mean() -> None:
    table = np.random.default_rng(0).normal(size=(2000, 16)).astype(np.float32)
    book = codebook(table, range(2000))
    lost = np.square(book.rows() - table).mean() / np.square(table - table.mean(0)).mean()
    # A byte for 8 Gaussian numbers leaves at best 2 ** (-2 * 8 / 8) = 0.25 of the variance, of rows seen a little less.
    assert 0.2 < lost < 0.3


def test_an_odd_width_has_narrower_parts_and_a_book_reads_back(tmp_path: Path) -> None:
    book = codebook(np.random.default_rng(0).normal(size=(50, 12)).astype(np.float32), range(50), "odd")
    assert book.parts.shape == (3, 256, 4)
    book.save(tmp_path / "codebook.npz")
    again = Codebook.load(tmp_path / "codebook.npz")
    assert np.array_equal(again.codes, book.codes)
    assert np.array_equal(again.parts, book.parts)
    assert again.of == "odd"


@pytest.mark.parametrize("bits", [32, 8, 4])
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_the_graph_looks_up_exact_rows_and_puts_the_others_together(family: str, bits: int) -> None:
    model, inputs, runtime = tiny(family)[0], arrays(tiny(family)[1]), OnnxRuntime()
    table = table_of(family)
    ranking = [1, *(row for row in np.random.default_rng(0).permutation(len(table)).tolist() if row != 1)]
    exact, others = RareTokens(EXACT).split(ranking, len(table)) or ((), ())
    book = codebook(table, others)
    template, widths = (
        runtime.template(model).with_vocabulary(ranking, book),
        Quantization.uniform(Anatomy.of(model).shape, bits),
    )
    member = Member((widths, RareTokens(EXACT)))
    artefact = template.assemble(member)
    assert template.size(member) == len(artefact)
    found, plain = (runtime.load(file, threads=1) for file in (artefact, template.assemble(Member((widths,)))))

    padding = inputs["input_ids"] == 1  # RoBERTa counts positions from it
    known = {**inputs, "input_ids": np.where(padding, 1, np.asarray(exact)[inputs["input_ids"] % EXACT])}
    np.testing.assert_allclose(found(known), plain(known), atol=1e-5)
    if bits == 32:
        halves = Codebook(book.codes, book.parts.astype(np.float16).astype(np.float32)).rows()
        mixed = copy.deepcopy(model)
        mixed.get_input_embeddings().weight.data[list(others)] = torch.from_numpy(halves[list(others)])
        same = runtime.load(runtime.template(mixed).assemble(Member((widths,))), threads=1)
        np.testing.assert_allclose(found(inputs), same(inputs), atol=1e-5)


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ((RareTokens(EXACT),), "no codebook for rare words"),
        ((RareTokens(EXACT), Vocabulary(EXACT)), "not both"),
    ],
)
def test_what_cannot_be_put_together_is_refused(configs: tuple[Config, ...], message: str) -> None:
    rows = len(table_of("bert"))
    template = OnnxRuntime().template(tiny("bert")[0])
    book = codebook(table_of("bert"), range(rows)) if len(configs) > 1 else None
    with pytest.raises(DesignError, match=message):
        template.with_vocabulary(tuple(range(rows)), book).assemble(Member(configs))


def test_torch_refuses() -> None:
    with pytest.raises(DesignError, match="torch does not put rows of rare words together"):
        TorchRuntime().template(tiny("bert")[0]).with_vocabulary(range(100)).assemble(Member((RareTokens(EXACT),)))
