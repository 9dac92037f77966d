"""The corpus that every Python carries: language reference and standard library docstrings.

Needs no download and no permission, so the first run works anywhere.
"""

import os
import sysconfig
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from embed_assets.digests import digest
from embed_assets.errors import InputError
from embed_assets.shards import Piece, SourceFile
from embed_assets.sources.byte_ranges import whole
from embed_assets.sources.decoding import without_surrogates
from embed_assets.sources.docstrings import module_markdown
from embed_assets.sources.refusal import Refusal
from embed_assets.sources.source import Document, Listing, Rejection

_TOPICS = "topics"
_STDLIB = "stdlib"
_SKIPPED_FOLDERS = frozenset(
    # pydoc_data is the topics' own source.
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "pydoc_data"}
)


class PythonDocsSource:
    """One document per language topic (`topics/for.rst`) and per standard library module
    (`stdlib/asyncio/tasks.py`). Modules are parsed, never imported.
    """

    def __init__(self, stdlib: Path | None = None) -> None:
        self._stdlib = stdlib or Path(sysconfig.get_path("stdlib"))

    def files(self) -> Listing:
        """Every topic and module. Raises InputError where this Python has no topics."""
        topics = [
            SourceFile(f"{_TOPICS}/{name}.rst", len(text.encode()), digest(text))
            for name, text in _topics().items()
        ]
        # A frozen or zipped Python has no folder of modules; the topics are still there.
        has_folder = self._stdlib.is_dir()
        modules = _modules(self._stdlib, PurePosixPath(_STDLIB)) if has_folder else ()
        return Listing(sorted([*topics, *modules], key=lambda file: file.source), Counter())

    def pieces(self, file: SourceFile, shard_bytes: int) -> list[Piece]:
        """The topic or module in one piece."""
        return [whole(file)]

    def read(self, piece: Piece) -> Iterator[Document | Rejection]:
        """The one document, or why there is none."""
        try:
            title, text = self._title_and_text(PurePosixPath(piece.source))
        except Refusal as refusal:
            yield refusal.at(piece.source, piece.start)
        else:
            yield Document(digest(piece.source, 0), piece.source, title, without_surrogates(text))

    def _title_and_text(self, source: PurePosixPath) -> tuple[str, str]:
        kind, *inner = source.parts
        if kind == _TOPICS:
            text = _topics().get(source.stem)
            if text is None:
                raise Refusal("unreadable file", "this Python has no such topic")
            return source.stem, text
        if ".." in inner:
            raise Refusal("link out of the corpus", "a source name with '..' in it")
        name = ".".join(PurePosixPath(*inner).with_suffix("").parts).removesuffix(".__init__")
        try:
            code = self._stdlib.joinpath(*inner).read_bytes()
        except OSError as error:
            raise Refusal("unreadable file", error.strerror or type(error).__name__) from error
        return name, module_markdown(name, code)


def _modules(folder: Path, source: PurePosixPath) -> Iterator[SourceFile]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _SKIPPED_FOLDERS and not entry.name.startswith("config-"):
                    yield from _modules(Path(entry.path), source / entry.name)
            elif entry.name.endswith(".py") and entry.is_file():
                status = entry.stat()
                version = f"{status.st_size}-{status.st_mtime_ns}"
                yield SourceFile(str(source / entry.name), status.st_size, version)


def _topics() -> Mapping[str, str]:
    try:
        # Imported here: it is 700 KB of text that other corpora have no use for.
        from pydoc_data.topics import topics
    except ImportError as error:
        raise InputError(
            "the bundled corpus needs Python's pydoc_data, which this Python lacks;"
            " set corpus to a folder of your own"
        ) from error
    return topics
