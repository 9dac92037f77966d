"""Where a corpus stands on disk, and the way from a source name back to its file.

Nothing outside the root is ever opened, and nothing but regular files: a FIFO would block for
ever, and a link may lead anywhere.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePath

from embed_assets.errors import SettingsError
from embed_assets.sources.refusal import Refusal

_WILDCARDS = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class CorpusRoot:
    """A folder with all symbolic links resolved, and what of it is wanted.

    At most one of `pattern` (a glob relative to the folder) and `file` (the one file, whose own
    link may lead anywhere, since the user named it) is set.
    """

    folder: Path
    pattern: str | None = None
    file: Path | None = None

    def path_of(self, source: str) -> Path:
        """The regular file behind a source name. Raises Refusal where it is not one, or outside."""
        try:
            real = Path(os.path.realpath(self.folder / source, strict=True))
            is_regular = stat.S_ISREG(real.stat().st_mode)
        except OSError as error:
            raise Refusal("unreadable file", error.strerror or type(error).__name__) from error
        is_named = self.file is not None and self.file.name == source
        if not is_named and not real.is_relative_to(self.folder):
            raise Refusal("link out of the corpus", "its target is not in the corpus folder")
        if not is_regular:
            raise Refusal("not a regular file", "only regular files are opened")
        # By its own name, not its target's: the name tells the format.
        return self.folder / source


def corpus_root(corpus: str) -> CorpusRoot:
    """The place that a folder, file or glob names. Raises SettingsError where there is none."""
    path = Path(corpus).expanduser()
    # A folder may be called "a[1]": what exists is taken literally.
    if not path.exists() and _WILDCARDS.intersection(corpus):
        return _glob_root(path)
    if path.is_dir():
        return CorpusRoot(Path(os.path.realpath(path)))
    if path.is_file():
        return CorpusRoot(Path(os.path.realpath(path.parent)), file=path)
    if path.exists():
        raise SettingsError(f"corpus {corpus!r} is neither a folder nor a regular file; name one")
    raise SettingsError(
        f"corpus {corpus!r} does not exist (looked for {path.absolute()}); set corpus to a"
        " folder, a file or a glob such as 'docs/**/*.md'"
    )


def _glob_root(path: Path) -> CorpusRoot:
    parts = path.parts
    first = next(i for i, part in enumerate(parts) if _WILDCARDS.intersection(part))
    folder = Path(*parts[:first])
    if not folder.is_dir():
        raise SettingsError(
            f"corpus {str(path)!r} is a glob in {str(folder)!r}, which is no folder;"
            " check the part before the first wildcard"
        )
    return CorpusRoot(Path(os.path.realpath(folder)), pattern=PurePath(*parts[first:]).as_posix())
