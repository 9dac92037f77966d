"""Read a whole corpus the way the pipeline does: files, pieces, items."""

from embed_assets.settings import PipelineSettings
from embed_assets.shards import Piece
from embed_assets.sources.folder import FolderSource
from embed_assets.sources.source import Document, Rejection, Source

ONE_PIECE = 1 << 30


def settings(**values: object) -> PipelineSettings:
    return PipelineSettings.model_validate(values)


def folder(corpus: object, **values: object) -> FolderSource:
    return FolderSource(str(corpus), settings(**values))


def pieces_of(source: Source, shard_bytes: int = ONE_PIECE) -> list[Piece]:
    return [piece for file in source.files().files for piece in source.pieces(file, shard_bytes)]


def items_of(source: Source, shard_bytes: int = ONE_PIECE) -> list[Document | Rejection]:
    return [item for piece in pieces_of(source, shard_bytes) for item in source.read(piece)]


def read(
    corpus: object, shard_bytes: int = ONE_PIECE, **values: object
) -> list[Document | Rejection]:
    return items_of(folder(corpus, **values), shard_bytes)


def document(corpus: object, **values: object) -> Document:
    """The one document of a corpus that has just one."""
    [item] = items_of(folder(corpus, **values))
    assert isinstance(item, Document), item
    return item


def rejection(corpus: object, **values: object) -> Rejection:
    """The one rejection of a corpus that yields nothing else."""
    [item] = items_of(folder(corpus, **values))
    assert isinstance(item, Rejection), item
    return item


def outcomes(items: list[Document | Rejection]) -> list[str]:
    """The text of each document and the reason of each rejection, in order."""
    return [item.text if isinstance(item, Document) else f"<{item.reason}>" for item in items]
