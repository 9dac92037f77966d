"""Digests: the same anywhere and for ever, and different wherever the content is."""

import hashlib
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_assets.column_digests import row_digests, text_hashes
from embed_assets.digests import digest, digest_of, file_sha256

PART = st.text(st.characters(), max_size=5) | st.integers(-9, 9)

# From BLAKE3's own test vectors.
BLAKE3_OF_NOTHING = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


def test_ids_do_not_change_between_releases() -> None:
    """A change here makes every id, and so every vector of every user, stale."""
    assert digest("a.txt", 0, 12) == "f76eeb2a0954a3d523d97be20951802e"
    hashes = ["ba02b5ae7e469b96eafe5141351899f3", BLAKE3_OF_NOTHING[:32]]
    assert text_hashes(pl.Series(["Grüße", ""])).to_list() == hashes
    rows = pl.DataFrame({"a": ["x"], "b": [1]})
    assert row_digests(rows).to_list() == ["b3946691b53d5299a89186a0ef66c343"]


@given(st.lists(PART, max_size=4), st.lists(PART, max_size=4))
def test_different_parts_never_share_a_digest(a: list[str | int], b: list[str | int]) -> None:
    same = [str(part) for part in a] == [str(part) for part in b]
    assert (digest_of(a) == digest_of(b)) == same
    assert digest(*a) == digest_of(iter(a))


@pytest.mark.parametrize(
    ("a", "b"),
    [(("ab", "c"), ("a", "bc")), (("a",), ("a", "")), ((), ("",)), (("", "a"), ("a", ""))],
)
def test_the_edge_between_parts_counts(a: tuple[str, ...], b: tuple[str, ...]) -> None:
    assert digest(*a) != digest(*b)


def test_the_edge_between_columns_counts() -> None:
    rows = pl.DataFrame({"a": ["ab", "a", "1:a", "ab"], "b": ["c", "bc", "", "c"]})
    digests = row_digests(rows)
    assert digests[0] == digests[3]
    assert digests.n_unique() == 3


def test_a_file_name_that_is_not_utf8_has_a_digest() -> None:
    assert len(digest("caf\udce9.txt")) == 32


def test_file_hash_is_the_sha256_that_hubs_publish(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "model").write_bytes(content)
    assert file_sha256(tmp_path / "model") == hashlib.sha256(content).hexdigest()
