"""Digests: the same anywhere and for ever, and different wherever the content is."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_assets.digests import digest, digest_of, file_sha256, text_hash, vector_checksums

PART = st.text(st.characters(), max_size=5) | st.integers(-9, 9)


def test_ids_do_not_change_between_releases() -> None:
    """A change here makes every id, and so every vector of every user, stale."""
    assert digest("a.txt", 0, 12) == "f76eeb2a0954a3d523d97be20951802e"
    assert text_hash("Grüße") == "c483baa27a9abd2202924662a88aaf32"
    vectors = np.array([[1.0, -2.5]], dtype=np.float32)
    assert vector_checksums(["c"], ["h"], vectors).tolist() == [-4789604828860163547]


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


def test_a_file_name_that_is_not_utf8_has_a_digest() -> None:
    assert len(digest("caf\udce9.txt")) == 32


def test_file_hash_is_the_sha256_that_hubs_publish(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "model").write_bytes(content)
    assert file_sha256(tmp_path / "model") == hashlib.sha256(content).hexdigest()


def test_a_checksum_notices_every_change_of_a_row() -> None:
    vectors = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    ids, hashes = ["a", "b", "c"], ["x", "y", "z"]
    sound = vector_checksums(ids, hashes, vectors)
    assert len(set(sound.tolist())) == 3
    flipped = vectors.copy()
    flipped.view(np.uint32)[1, 4] ^= 1
    assert (vector_checksums(ids, hashes, flipped) == sound).tolist() == [True, False, True]
    assert vector_checksums(["a", "B", "c"], hashes, vectors)[1] != sound[1]
    assert vector_checksums(ids, ["x", "Y", "z"], vectors)[1] != sound[1]


def test_a_checksum_depends_on_the_numbers_alone() -> None:
    vectors = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    expected = vector_checksums(["a", "b"], ["x", "y"], vectors).tolist()
    for same in (
        np.asfortranarray(vectors),
        vectors.astype(">f4"),
        np.hstack([vectors] * 2)[:, :4],
    ):
        assert vector_checksums(["a", "b"], ["x", "y"], same).tolist() == expected


def test_rows_without_partner_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        vector_checksums(["a"], ["x", "y"], np.zeros((2, 2), dtype=np.float32))
