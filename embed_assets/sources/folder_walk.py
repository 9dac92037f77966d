"""Walk a corpus folder: which of its files are wanted, and why the others are not."""

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from pathspec import GitIgnoreSpec

from embed_assets.errors import InputError
from embed_assets.settings import PipelineSettings
from embed_assets.shards import SourceFile
from embed_assets.sources.corpus_root import CorpusRoot
from embed_assets.sources.file_version import listed
from embed_assets.sources.formats import FORMATS, suffix_of


class FolderWalk:
    """One walk over a corpus root. Follows no folder link and reads no file's content.

    `skipped` counts what was passed over, by file type or, in round brackets, by reason.
    """

    def __init__(self, root: CorpusRoot, settings: PipelineSettings) -> None:
        self.skipped: Counter[str] = Counter()
        self._folder = str(root.folder)
        self._exclude = _patterns("exclude", settings.exclude)
        self._wanted: list[GitIgnoreSpec] = []
        if root.pattern is not None:
            # Anchored, since a bare "*.md" would match at any depth. As in a .gitignore, a folder
            # that matches brings all it holds.
            self._wanted.append(_patterns("corpus", [f"/{root.pattern}"]))
        if settings.include:
            self._wanted.append(_patterns("include", settings.include))
        # A corpus of "." holds the tables too, and they are Parquet files.
        self._own_tables = os.path.realpath(settings.tables_root)

    def files(self) -> Iterator[SourceFile]:
        """The wanted files in no particular order. Raises InputError if the root is unreadable."""
        prefixes = [""]
        while prefixes:
            prefix = prefixes.pop()
            try:
                with os.scandir(f"{self._folder}/{prefix}") as listing:
                    entries = list(listing)
            except OSError as error:
                if not prefix:
                    reason = error.strerror or type(error).__name__
                    raise InputError(
                        f"corpus folder {self._folder!r} cannot be read: {reason};"
                        " give this user the right to list it"
                    ) from error
                self.skipped["(unreadable folder)"] += 1
                continue
            for entry in entries:
                source = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    if self._is_wanted_folder(source, entry.path):
                        prefixes.append(f"{source}/")
                elif file := self._file(source, entry):
                    yield file

    def _is_wanted_folder(self, source: str, path: str) -> bool:
        if _matches(self._exclude, f"{source}/"):
            self.skipped["(excluded folder)"] += 1
        elif os.path.normpath(path) == self._own_tables:
            self.skipped["(this pipeline's tables)"] += 1
        else:
            return True
        return False

    def _file(self, source: str, entry: os.DirEntry[str]) -> SourceFile | None:
        """The file if it is to be read; otherwise counts it as skipped."""
        try:
            reason = self._reason_without_stat(source, entry) or self._reason_by_stat(entry)
            if reason is None:
                status = entry.stat()
                return listed(source, status)
        except OSError:
            # Even `is_dir` raises, for a link to itself.
            reason = "(broken link or vanished file)"
        self.skipped[reason] += 1
        return None

    def _reason_without_stat(self, source: str, entry: os.DirEntry[str]) -> str | None:
        if entry.is_symlink() and entry.is_dir():
            return "(link to a folder)"
        suffix = suffix_of(entry.name)
        if suffix not in FORMATS:
            return suffix
        if _matches(self._exclude, source):
            return "(excluded)"
        if not all(_matches(patterns, source) for patterns in self._wanted):
            return "(not included)"
        return None if _is_unicode(source) else "(name is not UTF-8)"

    def _reason_by_stat(self, entry: os.DirEntry[str]) -> str | None:
        mode = entry.stat().st_mode
        if entry.is_symlink() and not self._holds(os.path.realpath(entry.path)):
            return "(link out of the corpus)"
        return None if stat.S_ISREG(mode) else "(not a regular file)"

    def _holds(self, real_path: str) -> bool:
        return Path(real_path).is_relative_to(self._folder)


def _matches(patterns: GitIgnoreSpec, source: str) -> bool:
    # The dot of pathspec's regular expressions is no newline: a folder "a\nb" hid its files from
    # every pattern.
    return patterns.match_file(source.replace("\n", "\ufffd"))


def _patterns(setting: str, lines: Sequence[str]) -> GitIgnoreSpec:
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise InputError(
            f"setting {setting!r} is {list(lines)}: {error}; expected .gitignore-style patterns"
        ) from error


def _is_unicode(source: str) -> bool:
    """False for the odd POSIX name that is not UTF-8: no table could hold it."""
    try:
        source.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
