"""The real all-MiniLM-L6-v2 from PyPI on real text."""

from pydoc_data.topics import topics

import numpy as np
import pytest

from embed_assets.chunking.token_windows import TokenWindows
from embed_assets.embedding.backends import load_encoder
from embed_assets.embedding.encoder import encode_all
from embed_assets.embedding.model import fingerprint, open_model, resolved_max_tokens
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.embedding.tokenizer import load_tokenizer
from embed_assets.settings import load_settings
from embed_assets_tests.tiny_models import sentence_transformer


@pytest.mark.slow
def test_the_bundled_model_gives_the_vectors_that_sentence_transformers_gives() -> None:
    settings = load_settings({"device": "cpu"})
    model = open_model(settings)
    assert (model.dimension, model.max_tokens, model.unit_length) == (384, 256, True)
    assert len(fingerprint(settings, model, "fp32")) == 32

    windows = TokenWindows(load_tokenizer(model), resolved_max_tokens(settings, model))
    documents = list(topics.values())
    chunks = [
        (text[chunk.start : chunk.end], chunk.token_ids)
        for text, own in zip(documents, windows.chunk(documents), strict=True)
        for chunk in own
    ]
    # Spread over all topics, long chunks and short ones.
    chunks = chunks[:: len(chunks) // 30][:30]
    ids = [token_ids for _, token_ids in chunks]
    assert max(map(len, ids)) > 200

    encoder = load_encoder(settings, "fp32")
    assert [encoder.token_ids(text) for text, _ in chunks] == [own.tolist() for own in ids]
    tokens = TokenRows(np.concatenate(ids), np.cumsum([0, *map(len, ids)], dtype=np.int64))
    vectors, stats = encode_all(encoder, tokens, encoder.max_tokens_per_batch)
    assert stats.n_tokens == sum(map(len, ids))

    expected = sentence_transformer(model.folder).encode([text for text, _ in chunks])
    assert np.einsum("ij,ij->i", vectors, expected).min() >= 0.99999
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
