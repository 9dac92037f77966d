"""A corpus of files: a folder with all below it, a glob, or one file."""

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from embed_assets.errors import InputError
from embed_assets.settings import PipelineSettings
from embed_assets.shards import Piece, SourceFile
from embed_assets.sources.byte_ranges import whole
from embed_assets.sources.corpus_root import CorpusRoot, corpus_root
from embed_assets.sources.file_version import listed, version_at
from embed_assets.sources.folder_walk import FolderWalk
from embed_assets.sources.formats import FORMATS, format_of, suffix_of
from embed_assets.sources.refusal import Refusal, TooMuch
from embed_assets.sources.source import Document, Listing, Rejection
from embed_assets.sources.text_files import TextFormat

_CHANGED = "its documents may be of the old and of the new version; the next run reads it again"


class FolderSource:
    """Files on a local disk. A file's `source` is its posix path relative to the corpus root."""

    def __init__(self, corpus: str, settings: PipelineSettings) -> None:
        self._corpus = corpus
        self._settings = settings

    def files(self) -> Listing:
        """Every readable file. Raises InputError if it has none."""
        if self._root.file is not None:
            return self._one_file(self._root.file)
        walk = FolderWalk(self._root, self._settings)
        files = sorted(walk.files(), key=lambda file: file.source)
        if not files:
            raise self._nothing_usable(walk.skipped)
        return Listing(files, walk.skipped)

    def pieces(self, file: SourceFile, shard_bytes: int) -> list[Piece]:
        """The file cut into pieces; one piece where it cannot be cut or has vanished."""
        try:
            form = format_of(file.source)
        except Refusal:
            return [whole(file)]
        return form.pieces(self._root.folder / file.source, file, shard_bytes)

    def read(self, piece: Piece) -> Iterator[Document | Rejection]:
        """The piece's documents and rejections, at least one. Raises only if the corpus is gone.

        The first comes when all are read: a piece that goes beyond a limit gives none.
        """
        items: list[Document | Rejection] = []
        try:
            path = self._root.path_of(piece.source)
            for item in format_of(piece.source).read(path, piece, self._settings):
                items.append(item)
                if len(items) > self._settings.max_records:
                    detail = f"more than max_records, {self._settings.max_records}"
                    raise TooMuch("too many records", detail)
        except TooMuch as refusal:
            items = [refusal.at(piece.source, piece.start)]
        except Refusal as refusal:
            items.append(refusal.at(piece.source, piece.start))
        if not items:
            items = [Rejection(piece.source, piece.start, "no records", f"{piece.n_bytes} bytes")]
        yield from items
        if any(isinstance(item, Document) for item in items) and self._has_changed(piece):
            yield Rejection(piece.source, piece.start, "changed since it was listed", _CHANGED)

    def _has_changed(self, piece: Piece) -> bool:
        """Whether documents of a piece may be of two versions of its file, or from wrong cuts."""
        # A text is read as it stands now, and refused if it changed meanwhile.
        is_text = isinstance(format_of(piece.source), TextFormat)
        return not is_text and version_at(self._root.folder / piece.source) != piece.version

    @cached_property
    def _root(self) -> CorpusRoot:
        # Not in __init__: a corpus that is missing is an error of the run, not of loading.
        return corpus_root(self._corpus)

    def _one_file(self, path: Path) -> Listing:
        # Named by the user: neither the patterns nor the rule about links apply.
        if suffix_of(path.name) not in FORMATS:
            raise self._nothing_usable(Counter([suffix_of(path.name)]))
        status = path.stat()
        return Listing([listed(path.name, status)], Counter())

    def _nothing_usable(self, skipped: Counter[str]) -> InputError:
        found = ", ".join(f"{n} {kind}" for kind, n in skipped.most_common(10)) or "nothing"
        return InputError(
            f"corpus {self._corpus!r} has no file that can be read; found: {found};"
            f" readable types: {', '.join(FORMATS)}"
        )
