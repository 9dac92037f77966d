"""A pipeline as somebody sees it who only watches: its files and tables, but no device.

A sensor looks every minute, in a process that serves the UI and may have no GPU. So nothing here
imports torch, loads a model or asks which precision is fastest: that is what runs do, and what they
found is noted beside the tables.
"""

from collections import Counter
from collections.abc import Iterable
from functools import cached_property

from embed_assets import calibration, fingerprints
from embed_assets.digests import digest, digest_of
from embed_assets.embedding import model as models
from embed_assets.manifest import CorpusLook, look_at, read_manifest
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.settings import PipelineSettings
from embed_assets.shards import SourceFile
from embed_assets.sources.source import Listing


class WatchedPipeline(OpenedPipeline):
    """Raises InputError on opening if settings, model and tables don't fit."""

    def __init__(self, settings: PipelineSettings) -> None:
        super().__init__(settings)
        # What a device would tell is known before anything asks for it.
        self.precision, self.fingerprint = self._noted_precision()
        if dimension := models.vector_dimension(settings, self.model):
            fingerprints.check_fits(self.tables, dimension, settings.model)

    def look(self) -> CorpusLook:
        """The manifest and the files as they are now; no files where another pipeline reads them.

        Raises InputError if one of them cannot be read.
        """
        if self.tables.shares_documents:
            return CorpusLook(read_manifest(self.tables), Listing([], Counter()))
        return look_at(self.tables, self.source)

    def wanted_version(self, shard: str) -> str:
        """Digest of what all of a shard would be made from: its files, the settings, the model.

        The same on every machine, whatever `precision: auto` means there.
        """
        return digest(shard, self.ingest_version(shard), self._settings_version)

    @cached_property
    def _settings_version(self) -> str:
        return models.fingerprint(self.settings, self.model, self.settings.precision)

    def state(self, files: Iterable[SourceFile]) -> str:
        """Digest of all that decides which shards are stale: listing, settings, model, tables."""
        whole = [self.tables.manifest.version(), self.tables.fingerprints.version()]
        by_shard = [table.version() for table in self.tables.by_shard.values()]
        return digest_of(
            (
                self.settings.model_dump_json(),
                self.model.content_version,
                *whole,
                *by_shard,
                *(part for file in files for part in (file.source, file.version)),
            )
        )

    def _noted_precision(self) -> tuple[str, str]:
        """The precision and fingerprint of the vectors that runs make under these settings.

        Where runs decide that and have not yet: ("auto", a fingerprint that no vector has).
        """
        possible = calibration.possible_fingerprints(
            self.settings, self.model, calibration.versions(self.tables)
        )
        asked = self.settings.precision
        noted = fingerprints.in_force(self.tables)
        if noted is not None and noted.fingerprint in possible:
            precision = possible[noted.fingerprint]
            if asked == precision or (asked == "auto" and precision != "int8"):
                return precision, noted.fingerprint
        return asked, models.fingerprint(self.settings, self.model, asked)
