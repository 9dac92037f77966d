"""One pipeline, opened: its settings with the source, tables and model that they name.

Joins the parts that never import each other. Cheap to make: the model is hashed but not loaded.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property, partial

from embed_assets import calibration, fingerprints, staleness
from embed_assets.calibration import Calibration
from embed_assets.chunking.token_windows import TokenWindows
from embed_assets.clean_up import remove_spent_checkpoints, remove_vanished
from embed_assets.corpus_plan import CorpusPlan, plan_documents, plan_files
from embed_assets.embedding import model as models
from embed_assets.embedding.backends import load_encoder, refuse_int8_without_backend
from embed_assets.embedding.device_answers import tuned_budget
from embed_assets.embedding.device_choice import resolve_device
from embed_assets.embedding.encoder import Encoder, EncodeStats
from embed_assets.embedding.precision import resolve_precision
from embed_assets.embedding.tokenizer import load_tokenizer
from embed_assets.errors import InputError, SettingsError
from embed_assets.fence import RunFence
from embed_assets.fingerprints import Configuration
from embed_assets.manifest import CorpusLook, grouped_by_shard, pieces_by_shard, read_manifest
from embed_assets.setting_changes import SettingChanges, reading_version
from embed_assets.settings import PipelineSettings
from embed_assets.shards import Piece, shard_version
from embed_assets.sources.open_source import open_source
from embed_assets.sources.shard_reading import read_pieces
from embed_assets.sources.source import Document, Rejection, Source
from embed_assets.staleness import Stale
from embed_assets.tables.delta import open_delta_tables
from embed_assets.tables.table import Fence, ShardState, Tables


class OpenedPipeline:
    """What the stages work with. Raises InputError on opening if settings and tables don't fit."""

    def __init__(
        self,
        settings: PipelineSettings,
        tables: Tables | None = None,
        started_at: datetime | None = None,
    ) -> None:
        self.settings = settings
        self.tables = tables or _open_tables(settings)
        # When the run began: of two configurations, the one whose run began later is in force.
        self.started_at = started_at or datetime.now(UTC)
        self._budgets: dict[str, int] = {}

    @cached_property
    def source(self) -> Source:
        """The corpus."""
        return open_source(self.settings)

    @cached_property
    def model(self) -> models.Model:
        """The model's files, checked."""
        return models.open_model(self.settings)

    @cached_property
    def precision(self) -> str:
        """The precision that runs here."""
        return resolve_precision(self.settings)

    @cached_property
    def chunking_version(self) -> str:
        """Digest of everything that decides chunks."""
        return models.chunking_version(self.settings, self.model)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of everything that changes a vector."""
        version = self.calibration.version if self.calibration else ""
        word = calibration.precision_version(self.precision, version)
        return models.fingerprint(self.settings, self.model, word)

    @cached_property
    def calibration(self) -> Calibration | None:
        """The texts that int8 is fitted to, kept or taken just now; None for other precisions."""
        if self.precision != "int8":
            return None
        kept = calibration.standing(self.tables, self.chunking_version)
        if kept is not None:
            return kept
        if self.tables.shares_documents:
            texts = calibration.texts_of_documents(self.tables.raw_corpus)
        else:
            texts = calibration.texts_of_corpus(self.source)
        return calibration.taken(texts, self._chunker, self.chunking_version)

    @cached_property
    def dimension(self) -> int:
        """Length of a vector."""
        declared = models.vector_dimension(self.settings, self.model)
        return declared or self.encoder().dimension

    @cached_property
    def configuration(self) -> Configuration:
        """Everything in the settings that changes rows."""
        reading = reading_version(self.settings)
        return Configuration(reading, self.chunking_version, self.fingerprint)

    @cached_property
    def pieces(self) -> dict[str, list[Piece]]:
        """The manifest: every shard's pieces."""
        return pieces_by_shard(read_manifest(self.tables).frame)

    @cached_property
    def _fence(self) -> RunFence:
        return RunFence(self.tables, self.configuration)

    @cached_property
    def _changes(self) -> SettingChanges:
        earlier = fingerprints.recorded_configurations(self.tables)
        samples = calibration.versions(self.tables)
        return SettingChanges(earlier, self.settings, self.model, self.precision, samples)

    @cached_property
    def _chunker(self) -> TokenWindows:
        return TokenWindows(
            load_tokenizer(self.model),
            models.resolved_max_tokens(self.settings, self.model),
            self.settings.overlap,
            models.document_prompt(self.settings, self.model),
        )

    def chunker(self) -> TokenWindows:
        """The chunker, with the model's tokenizer; loaded once."""
        return self._chunker

    def encoder(self) -> Encoder:
        """The loaded model; loaded once per process."""
        tokens = self.calibration.tokens if self.calibration else None
        return load_encoder(self.settings, self.precision, tokens)

    def plan(self, look: CorpusLook | None = None) -> CorpusPlan:
        """Bring the manifest up to date with a look at the corpus, taken now where none is given,
        and remove the rows of vanished shards.

        Where the documents are another pipeline's, its manifest is only read.
        """
        fingerprints.check_documents(self.tables, self.settings.documents_of)
        plan = (
            plan_documents(self.settings, self.tables)
            if self.tables.shares_documents
            else plan_files(self.settings, self.tables, self.source, look)
        )
        self.pieces = grouped_by_shard(plan.shards.manifest)
        remove_vanished(self.tables, self.pieces.keys(), self._fence)
        remove_spent_checkpoints(self.tables, self.pieces.keys())
        return plan

    def read_shard(self, shard: str) -> Iterator[Document | Rejection]:
        """The documents of a shard, in the order of its files."""
        limit = int(self.settings.max_decompressed_bytes)
        return read_pieces(self.source, self._pieces_of(shard), limit)

    def ingest_version(self, shard: str) -> str:
        """What raw_corpus would be made from for this shard, or what another pipeline's is."""
        if self.tables.shares_documents:
            return staleness.documents_version(self.tables.raw_corpus.states().get(shard))
        pieces = shard_version(self._pieces_of(shard))
        return staleness.ingest_version(pieces, self.configuration.reading_version)

    def _pieces_of(self, shard: str) -> list[Piece]:
        if shard not in self.pieces:
            raise InputError(
                f"shard {shard} is not in the manifest {self.tables.manifest.uri}; materialise "
                f"{self.settings.name}/shards, which lists the corpus, and take a shard it names"
            )
        return self.pieces[shard]

    def stale_shards(self) -> dict[str, Stale]:
        """Every shard that has work to do, sorted, and why."""
        states = {name: table.states() for name, table in self.tables.by_shard.items()}
        stale = {}
        for shard, pieces in sorted(self.pieces.items()):
            version = None if self.tables.shares_documents else shard_version(pieces)
            standing: dict[str, ShardState | None] = {n: s.get(shard) for n, s in states.items()}
            found = staleness.first_stale_stage(version, self.configuration, standing)
            if found is not None:
                stale[shard] = self._changes.explained(found, version, standing)
        return stale

    def check_fits(self) -> None:
        """Raise InputError if the tables were made by a newer version or for another dimension, or
        SettingsError if a setting cannot be had with this model.
        """
        max_tokens = models.resolved_max_tokens(self.settings, self.model)
        if self.settings.overlap > max_tokens // 2:
            raise SettingsError(
                f"overlap {self.settings.overlap} must be at most half of the {max_tokens} tokens "
                "that a chunk may have"
            )
        if self.settings.precision == "int8":
            refuse_int8_without_backend(self.settings)
        fingerprints.check_fits(self.tables, self.dimension, self.settings.model)

    def check_device(self) -> None:
        """Raise SettingsError if the device of the settings is not there."""
        resolve_device(self.settings.device)

    def claim(self) -> None:
        """Put this configuration in force. Raises Superseded if a later run has another."""
        # Read before the claim, which replaces what is noted of this fingerprint.
        _ = self._changes
        if self.calibration is not None:
            calibration.keep(self.tables, self.calibration)
        fingerprints.claim(
            self.tables, self.configuration, self.dimension, self.settings, self.started_at
        )

    def prepare(self) -> None:
        """What a run does before it writes: `check_fits`, then `claim`.

        Who reads the corpus plans as well, at its own time; for the others it is done here.
        """
        self.check_fits()
        if self.tables.shares_documents:
            self.plan()
        self.claim()

    def fence(self, shard: str) -> Fence:
        """What raises Superseded once a later run has other settings or newer files for a shard."""
        return partial(self._fence.check, shard, self._version_of(shard))

    def _version_of(self, shard: str) -> str | None:
        pieces = self.pieces.get(shard)
        return shard_version(pieces) if pieces else None

    def batch_budget(self, encoder: Encoder) -> int:
        """Tokens per batch: what fitted last time in this process, else the setting, else what
        tuning found on this device, else the encoder's own.
        """
        if encoder.device not in self._budgets:
            chosen = self.settings.max_tokens_per_batch or tuned_budget(encoder, self.model)
            self._budgets[encoder.device] = chosen or encoder.max_tokens_per_batch
        return self._budgets[encoder.device]

    def remember_budget(self, encoder: Encoder, stats: EncodeStats) -> None:
        """Start the next shard with the budget that fitted, once the device ran out of memory."""
        if stats.n_halvings:
            self._budgets[encoder.device] = stats.max_tokens_per_batch


def _open_tables(settings: PipelineSettings) -> Tables:
    if settings.documents_of is not None and settings.documents_tables is None:
        raise SettingsError(
            f"the pipeline {settings.name!r} is to embed the documents of "
            f"{settings.documents_of!r}, and nobody says where they are: set documents_tables to "
            "the tables of that pipeline, or build both with build_pipelines"
        )
    return open_delta_tables(settings.tables_root, settings.documents_tables)
