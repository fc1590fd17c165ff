"""Encoders against their formulas, and as they come back from beside an index."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gossamer.core import DataError, StoreError, UnsupportedError
from gossamer.retrieval.encoders import Names, WordEncoder, keep, open_encoder, read_queries
from gossamer.retrieval.encoders.splade import SpladeEncoder
from tests.zoo import llama, tiny_tokenizer

TEXTS = ["heat transfer over a flat plate", "flow past a flat plate", "shear flow"]


def test_words_come_back_as_they_were(tmp_path: Path) -> None:
    encoder, rows = WordEncoder.fit(TEXTS, stem="english")
    keep(encoder, tmp_path)
    found = open_encoder(tmp_path)
    assert isinstance(found, WordEncoder)
    assert found.lexicon.tokens == encoder.lexicon.tokens
    for given in (TEXTS, ["flowing plates", "", "unheard"]):
        for read in ("documents", "queries"):
            before, after = getattr(encoder, read)(given), getattr(found, read)(given)
            assert before.terms.tolist() == after.terms.tolist()
            assert before.weights.tolist() == after.weights.tolist()
    assert np.allclose(found.documents(TEXTS).weights, rows.weights)
    impacts = encoder.impacts.queries(["flow over flow"])
    assert encoder.queries(["flow over flow"]).weights.tolist() == impacts.weights.tolist()


def test_no_encoder_and_names(tmp_path: Path) -> None:
    assert open_encoder(tmp_path) is None
    keep(Names(["plate", "flow"]), tmp_path)
    found = open_encoder(tmp_path)
    assert found is not None
    assert found.lexicon.tokens == ["plate", "flow"]
    with pytest.raises(DataError, match="nothing here reads text"):
        found.documents(["flow"])


@pytest.mark.parametrize(("text", "words"), [
    ("{", "damaged"), ("[]", "version"), ('{"format": 2}', "version 1"),
    ('{"format": 1, "kind": "magic"}', "'magic' is not known"),
    ('{"format": 1, "kind": "bm25"}', "damaged"),
])
def test_what_is_damaged_or_newer_is_said(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "encoder.json").write_text(text)
    with pytest.raises(StoreError, match=words):
        open_encoder(tmp_path)


def test_statistics_that_do_not_fit(tmp_path: Path) -> None:
    encoder, _ = WordEncoder.fit(TEXTS)
    keep(encoder, tmp_path)
    path = tmp_path / "encoder" / "encoder.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, "idf": found["idf"][:-1]}))
    with pytest.raises(StoreError, match="frequencies"):
        open_encoder(tmp_path)


def test_typed_queries() -> None:
    names = Names(["plate", "a:b", "flow"])
    rows = read_queries(["flow:0.5 a:b:2", "plate"], names)
    assert [row.tolist() for row in rows.row(0)] == [[1, 2], [2.0, 0.5]]
    assert [row.tolist() for row in rows.row(1)] == [[0], [1.0]]
    assert read_queries(["3:0.5 7"], None).row(0)[1].tolist() == [0.5, 1.0]
    encoder, _ = WordEncoder.fit(TEXTS)
    assert read_queries(["shear flow"], encoder).nnz == 2
    for typed, given in (("plate", None), ("heron", names)):
        with pytest.raises(DataError):
            read_queries([typed], given)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny masked language model of random weights."""
    from transformers import BertConfig, BertForMaskedLM
    folder = tmp_path_factory.mktemp("masked")
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer) + 3, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=256, initializer_range=0.5)
    BertForMaskedLM(config).save_pretrained(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_masked_language_model(masked: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, BertForMaskedLM
    encoder = SpladeEncoder(str(masked))
    texts = ["a flat plate", "shear", "flow past a flat plate " * 3]
    rows = encoder.documents(texts)
    model = BertForMaskedLM.from_pretrained(masked)
    tokenizer = AutoTokenizer.from_pretrained(masked)
    for i, text in enumerate(texts):  # one by one: no padding
        with torch.inference_mode():
            logits = model.eval()(**tokenizer(text, return_tensors="pt")).logits[0].double()
        wanted = torch.log(1 + torch.relu(logits)).amax(0).numpy()
        dense = np.zeros(len(wanted))
        terms, weights = rows.row(i)
        dense[terms] = weights
        assert np.allclose(dense, wanted, atol=1e-4)
    assert encoder.lexicon.size == model.config.vocab_size
    keep(encoder, tmp_path)
    found = open_encoder(tmp_path)
    assert found is not None
    assert found.queries(texts).weights.tolist() == pytest.approx(rows.weights.tolist(), rel=1e-5)
    with pytest.raises(DataError, match="string, not int"):
        encoder.documents([7])  # type: ignore[list-item]
    assert encoder.documents([]).count == 0


def test_models_without_logits_of_tokens(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel
    tiny_tokenizer().save_pretrained(tmp_path)
    BertModel(BertConfig(vocab_size=300, hidden_size=16, num_hidden_layers=1,
                         num_attention_heads=2, intermediate_size=16)).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedError, match="no masked language model"):
        SpladeEncoder(str(tmp_path))
    llama().save_pretrained(bare := tmp_path / "bare")
    with pytest.raises(StoreError, match="no tokenizer"):
        SpladeEncoder(str(bare))
