"""Text, Markdown and reStructuredText: one file is one document, never split."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from embed_assets.digests import digest
from embed_assets.settings import PipelineSettings
from embed_assets.shards import Piece, SourceFile
from embed_assets.sources.byte_ranges import whole
from embed_assets.sources.compressed import COMPRESSIONS, opened, read_all
from embed_assets.sources.decoding import decoded, is_blank
from embed_assets.sources.file_version import version_at
from embed_assets.sources.refusal import Refusal
from embed_assets.sources.source import Document, Rejection

# A title stands near the top; looking further would cost more than reading the file.
_TITLE_SEARCH_CHARS = 1 << 14
_TITLE_CHARS = 200
# "# Title", also "# Title #"; the level-1 ATX heading of CommonMark.
_HEADING = re.compile(r"#[ \t]+(\S.*?)(?:[ \t]+#+)?[ \t]*")


class TextFormat:
    """A whole file as one document, titled by its first Markdown heading or else by its name."""

    def pieces(self, path: Path, file: SourceFile, shard_bytes: int) -> list[Piece]:
        """The file in one piece, however large."""
        return [whole(file)]

    def read(
        self, path: Path, piece: Piece, settings: PipelineSettings
    ) -> Iterator[Document | Rejection]:
        """The one document. Raises Refusal where the file is too large, not UTF-8 or empty."""
        before = version_at(path)
        with opened(path, settings.max_decompressed_bytes) as stream:
            content = read_all(stream, settings.max_document_bytes)
        if version_at(path) != before:
            raise Refusal("changed while being read", "the next run reads it again")
        text = decoded(content)
        if is_blank(text):
            raise Refusal("empty document", f"{len(content)} bytes, nothing but white space")
        title = _heading(text) or _stem(piece.source)
        yield Document(digest(piece.source, 0), piece.source, title, text)


def _heading(text: str) -> str:
    """The first Markdown heading of level 1 outside fenced code, or an empty string."""
    fenced = False
    for line in text[:_TITLE_SEARCH_CHARS].splitlines():
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced and (heading := _HEADING.fullmatch(line)):
            return heading[1][:_TITLE_CHARS]
    return ""


def _stem(source: str) -> str:
    """The file's name without its suffixes: `guide` for `docs/guide.md.gz`."""
    path = PurePosixPath(source)
    if path.suffix.lower() in COMPRESSIONS:
        path = path.with_suffix("")
    return path.stem
