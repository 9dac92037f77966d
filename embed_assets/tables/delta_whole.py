"""Small Delta tables that are replaced as a whole: the manifest, the fingerprints."""

import polars as pl
from deltalake import DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError

from embed_assets.tables.delta_files import DeltaFolder, commit, open_table, reading, scan_rows
from embed_assets.tables.table import Snapshot, Superseded

# Rounds of check and write: each lost round means that another writer won.
_ROUNDS = 10
# Name of the Delta application transaction that carries the table's counter.
_COUNTER = "embed_assets/counter"


class DeltaWholeTable(DeltaFolder):
    """A small Delta table that is replaced as a whole."""

    def version(self) -> int:
        """The current version; -1 where there is no table yet."""
        table = open_table(self._uri)
        return -1 if table is None else _replaced_at(table)

    def read(self) -> Snapshot:
        """All rows at the current version."""
        table = open_table(self._uri)
        if table is None:
            return Snapshot(self._schema.to_frame(), version=-1, counter=0)
        frame = reading(self._uri, lambda: scan_rows(table, self._uri, self._schema).collect())
        return Snapshot(frame, _replaced_at(table), table.transaction_version(_COUNTER) or 0)

    def replace(self, frame: pl.DataFrame, snapshot: Snapshot, counter: int) -> None:
        """Replace all rows in one commit, by compare-and-set on one handle."""
        for _ in range(_ROUNDS):
            table = self.opened()
            if _replaced_at(table) != snapshot.version:
                break
            try:
                # An overwrite of an empty table conflicts with nothing; two commits of one
                # application do.
                commit(
                    table,
                    self._uri,
                    frame.select(self._schema.names()).cast(self._schema),
                    transactions=[Transaction(_COUNTER, counter)],
                )
                return
            except CommitFailedError:
                # Replaced meanwhile, or only created by two at once: look again.
                continue
        raise Superseded(f"{self._uri} was replaced by another run meanwhile; run again")


def _replaced_at(table: DeltaTable) -> int:
    """The version of a whole table; -1 while it has been created and nothing more.

    Two processes that create a table at once can leave two commits without any row.
    """
    return -1 if table.transaction_version(_COUNTER) is None else table.version()
