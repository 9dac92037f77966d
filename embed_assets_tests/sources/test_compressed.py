"""Compressed files read like plain ones; broken ones and bombs are rejected, not swallowed."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from embed_assets.sources.compressed import opened, read_all
from embed_assets.sources.refusal import Refusal
from embed_assets_tests.sources.reading import document, outcomes, read, rejection

TEXT = b"".join(b"line %d of many\n" % n for n in range(20_000))

PACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstandard.compress}


def streamed_zstd(content: bytes) -> bytes:
    """A zstd frame that, unlike `compress`, does not say how long its content is."""
    packer = zstandard.ZstdCompressor().compressobj()
    return packer.compress(content) + packer.flush()


@pytest.mark.parametrize("suffix", PACK)
def test_a_packed_text_reads_like_the_plain_one(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"guide.md{suffix}").write_bytes(PACK[suffix](TEXT))
    item = document(tmp_path)
    assert (item.text, item.title) == (TEXT.decode(), "guide")


@pytest.mark.parametrize("suffix", PACK)
def test_files_packed_in_several_parts_are_read_to_the_end(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.txt{suffix}").write_bytes(PACK[suffix](b"one ") + PACK[suffix](TEXT))
    assert document(tmp_path).text == "one " + TEXT.decode()


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".gz", gzip.compress(TEXT)[:-3]),
        (".gz", gzip.compress(TEXT)[: len(TEXT) // 100]),
        (".gz", b"no gzip at all"),
        (".gz", gzip.compress(TEXT)[:50] + b"\0" * 50 + gzip.compress(TEXT)[100:]),
        (".zst", zstandard.compress(TEXT)[:-3]),
        (".zst", streamed_zstd(TEXT)[:-3]),
        (".zst", streamed_zstd(TEXT)[:100]),
        (".zst", zstandard.compress(TEXT) + streamed_zstd(TEXT)[:-1]),
        (".zst", b"no zstd at all"),
        (".zst", zstandard.compress(TEXT) + b"trailing garbage"),
    ],
)
def test_a_truncated_or_corrupt_file_is_rejected(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    (tmp_path / f"a.txt{suffix}").write_bytes(content)
    assert rejection(tmp_path).reason == "corrupt compression"


@pytest.mark.parametrize("suffix", PACK)
def test_records_before_the_break_are_kept(tmp_path: Path, suffix: str) -> None:
    lines = b"".join(b'{"text": "%064x"}\n' % (n * n * n * 7919) for n in range(5000))
    (tmp_path / f"a.jsonl{suffix}").write_bytes(PACK[suffix](lines)[:-20])
    results = outcomes(read(tmp_path))
    assert results[0] == f"{0:064x}"
    assert results[-1] == "<corrupt compression>"
    assert len(results) > 100


@pytest.mark.parametrize("suffix", PACK)
def test_a_bomb_is_rejected_by_its_unpacked_size(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(PACK[suffix](b"\0" * (8 << 20)))
    assert path.stat().st_size < 20_000
    assert rejection(tmp_path, max_document_bytes=1 << 20).reason == "document too large"


def test_an_empty_zstd_file_is_an_empty_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt.zst").write_bytes(b"")
    assert rejection(tmp_path).reason == "empty document"


def test_a_vanished_file_is_refused_with_the_systems_reason(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="unreadable file: No such file"), opened(tmp_path / "a.txt"):
        pass


def test_no_more_than_the_limit_is_ever_held(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"\0" * (8 << 20)))
    with opened(path) as stream:
        with pytest.raises(Refusal, match="document too large"):
            read_all(stream, 1 << 20)
        assert stream.tell() <= 3 << 20
