"""From the corpus named in the settings to the source that reads it."""

import re
from urllib.parse import unquote, urlsplit

from embed_assets.bundled import BUNDLED_CORPUS
from embed_assets.errors import SettingsError
from embed_assets.settings import PipelineSettings
from embed_assets.sources.folder import FolderSource
from embed_assets.sources.python_docs import PythonDocsSource
from embed_assets.sources.source import Source

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def open_source(settings: PipelineSettings) -> Source:
    """The corpus of the settings. Raises SettingsError for a kind that cannot be read."""
    corpus = settings.corpus
    if corpus == BUNDLED_CORPUS:
        return PythonDocsSource()
    if corpus.startswith("bundled:"):
        raise SettingsError(f"unknown bundled corpus {corpus!r}; there is {BUNDLED_CORPUS!r}")
    if corpus.startswith("file://"):
        return FolderSource(_path_of_uri(corpus), settings)
    if _SCHEME.match(corpus):
        raise SettingsError(
            f"corpus {corpus!r} is a URI; only local paths and file:// URIs can be read yet:"
            " copy or mount the corpus and give its path"
        )
    return FolderSource(corpus, settings)


def _path_of_uri(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise SettingsError(
            f"corpus {uri!r} names the host {parts.netloc!r}; write file:///path for a local path"
        )
    return unquote(parts.path)
