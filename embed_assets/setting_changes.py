"""Which settings have changed since a shard was up to date, in words. Pure, but for the model's
digests.

What a stage was made from says under which configuration it was made: a shard that would be up to
date under an earlier one is stale because of what differs between that one and the present one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from embed_assets import staleness
from embed_assets.calibration import possible_fingerprints
from embed_assets.digests import digest_of
from embed_assets.embedding import model as models
from embed_assets.errors import SettingsError
from embed_assets.fingerprints import Configuration, Recorded
from embed_assets.settings import READING_SETTINGS, PipelineSettings
from embed_assets.staleness import STAGES, Stale
from embed_assets.tables.table import ShardState
from embed_assets.wording import setting_value

_COMPARED = (
    *READING_SETTINGS,
    "document_prompt",
    "max_tokens",
    "overlap",
    "normalize",
    "truncate_dim",
)


def reading_version(settings: PipelineSettings) -> str:
    """Digest of everything that decides how files are read."""
    values = (getattr(settings, name) for name in READING_SETTINGS)
    return digest_of("" if value is None else value for value in values)


class SettingChanges:
    """Says of stale shards what has changed, for one run."""

    def __init__(
        self,
        earlier: Sequence[Recorded],
        settings: PipelineSettings,
        model: models.Model,
        precision: str,
        calibrations: Sequence[str] = (),
    ) -> None:
        """`earlier` is what was in force, latest first; `calibrations` are the versions of the
        samples that int8 may have been fitted to; the others are of the present run.
        """
        self._earlier = [
            (
                past.configuration,
                ", ".join(
                    _since(
                        past.configuration, past.settings, settings, model, precision, calibrations
                    )
                ),
            )
            for past in earlier
            if past.settings is not None
        ]

    def explained(
        self, stale: Stale, shard_version: str | None, states: Mapping[str, ShardState | None]
    ) -> Stale:
        """The same with the exact reason where it is known, else as it was.

        `shard_version` is None where the documents are another pipeline's.
        """
        n_standing = stale.n_standing
        for configuration, changes in self._earlier:
            n_then = _n_standing(configuration, shard_version, states)
            # Of those under which more stands than now, the one under which most does.
            if n_then > n_standing and changes:
                n_standing = n_then
                stale = replace(stale, reason=changes, by_settings=n_then == len(STAGES))
        return stale


def _n_standing(
    configuration: Configuration,
    shard_version: str | None,
    states: Mapping[str, ShardState | None],
) -> int:
    """How many stages of a shard are up to date under a configuration."""
    stale = staleness.first_stale_stage(shard_version, configuration, states)
    return len(STAGES) if stale is None else stale.n_standing


def _since(
    past: Configuration,
    before: PipelineSettings,
    now: PipelineSettings,
    model: models.Model,
    precision: str,
    calibrations: Sequence[str],
) -> list[str]:
    """What has changed between a past configuration, with its settings, and the present one."""
    then = _fingerprints(before, model, calibrations)
    return setting_changes(
        before,
        now,
        precisions=(then.get(past.fingerprint, ""), precision),
        has_same_files=past.fingerprint in then,
        has_same_tokenizer=past.chunking_version == _chunking_version(before, model),
    )


def setting_changes(
    before: PipelineSettings,
    now: PipelineSettings,
    *,
    precisions: tuple[str, str],
    has_same_files: bool,
    has_same_tokenizer: bool,
) -> list[str]:
    """One phrase for each change that makes rows stale, such as "max_tokens 256 -> 128".

    `precisions` are what ran before, empty where nobody knows, and what runs now, auto where that
    is not known yet. `has_same_files` says that the present model gives the vectors of then under
    the settings of then, and `has_same_tokenizer` the chunks.
    """
    changes = []
    if not has_same_files:
        changes += _model_change(before, now, has_same_tokenizer=has_same_tokenizer)
    then = precisions[0] or before.precision
    if "auto" not in (then, precisions[1]) and then != precisions[1]:
        changes.append(f"precision {then} -> {precisions[1]}")
    for name in _COMPARED:
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            changes.append(f"{name} {setting_value(old)} -> {setting_value(new)}")
    return changes


def _model_change(
    before: PipelineSettings, now: PipelineSettings, *, has_same_tokenizer: bool
) -> list[str]:
    if before.model != now.model:
        names = [settings.model.rstrip("/").rpartition("/")[2] for settings in (before, now)]
        if names[0] == names[1]:
            names = [before.model, now.model]
        return [f"model {names[0]} -> {names[1]}"]
    if before.revision != now.revision:
        return [
            f"model {now.model} {setting_value(before.revision)} -> {setting_value(now.revision)}"
        ]
    # Chunks are also made by this program, whose next version may make others.
    return [f"the model's files{'' if has_same_tokenizer else ' or embed-assets'} changed"]


def _fingerprints(
    settings: PipelineSettings, model: models.Model, calibrations: Sequence[str]
) -> dict[str, str]:
    """Fingerprint -> precision: those that a model has under these settings."""
    try:
        return possible_fingerprints(settings, model, calibrations)
    except SettingsError:
        # Its limit is below the max_tokens of then: it is another model.
        return {}


def _chunking_version(settings: PipelineSettings, model: models.Model) -> str:
    try:
        return models.chunking_version(settings, model)
    except SettingsError:
        return ""
