"""What keeps a run that was overtaken from publishing: a look at what is in force, each time."""

from embed_assets import fingerprints
from embed_assets.fingerprints import Configuration
from embed_assets.manifest import pieces_by_shard, read_manifest
from embed_assets.shards import Piece, shard_version
from embed_assets.tables.table import Superseded, Tables


class RunFence:
    """The fence of one run, for all its shards.

    Between this look and the commit stands the compare-and-set of the shard: a later run that
    publishes the shard in that time makes the commit fail.
    """

    def __init__(self, tables: Tables, configuration: Configuration) -> None:
        self._tables = tables
        self._configuration = configuration
        self._in_force: tuple[int, Configuration | None] = (-2, None)
        self._manifest: tuple[int, dict[str, list[Piece]]] = (-2, {})

    def check(self, shard: str, version: str | None) -> None:
        """Raise Superseded if other settings are in force, or if the shard's files are others.

        `version` is that of the shard's pieces as this run knows them, None if it has none.
        """
        latest = self._latest_configuration()
        if latest is not None and latest != self._configuration:
            raise Superseded(
                f"shard {shard}: a run with other settings started after this one; what that run "
                "publishes stands"
            )
        self.check_files(shard, version)

    def check_files(self, shard: str, version: str | None) -> None:
        """The second half of `check`: raise Superseded if the shard's files are others.

        Of another pipeline's shards only this is looked at, whether they still are there: what
        was made of older documents stands until it is made again, and is no reason to fail.
        """
        pieces = self._latest_pieces().get(shard)
        latest = shard_version(pieces) if pieces else None
        if self._tables.shares_documents and (latest is None) == (version is None):
            return
        if latest != version:
            raise Superseded(
                f"shard {shard}: another run has seen newer files of it since this run listed the "
                "corpus; run again"
            )

    def _latest_configuration(self) -> Configuration | None:
        version = self._tables.fingerprints.version()
        if version != self._in_force[0]:
            self._in_force = version, fingerprints.in_force(self._tables)
        return self._in_force[1]

    def _latest_pieces(self) -> dict[str, list[Piece]]:
        version = self._tables.manifest.version()
        if version != self._manifest[0]:
            self._manifest = version, pieces_by_shard(read_manifest(self._tables).frame)
        return self._manifest[1]
