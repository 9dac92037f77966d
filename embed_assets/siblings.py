"""The pipelines of one project side by side: no two of one name or over one place for tables, and
one that embeds another's documents finds them. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from embed_assets.errors import SettingsError
from embed_assets.settings import PipelineSettings


@dataclass(frozen=True, slots=True)
class Declared:
    """A pipeline's settings, and where somebody would change them: a file, as errors name it."""

    settings: PipelineSettings
    where: str


def side_by_side(pipelines: Iterable[Declared]) -> dict[str, PipelineSettings]:
    """Name -> settings, with `documents_tables` filled in.

    Raises SettingsError for two of one name, two over the same tables, or `documents_of` that
    names none, or one without documents of its own.
    """
    by_name: dict[str, Declared] = {}
    by_place: dict[str, Declared] = {}
    for one in pipelines:
        name, place = one.settings.name, one.settings.tables_root.rstrip("/")
        if name in by_name:
            raise SettingsError(
                f"two pipelines are called {name!r}: {by_name[name].where} and {one.where}; set "
                "name in one of them, or rename its folder"
            )
        if place in by_place:
            raise SettingsError(
                f"the pipelines {by_place[place].settings.name!r} ({by_place[place].where}) and "
                f"{name!r} ({one.where}) have the same tables, {place}: each would remove what the "
                "other made; set tables in one of them"
            )
        by_name[name] = by_place[place] = one
    return {name: _with_documents(one, by_name) for name, one in by_name.items()}


def _with_documents(one: Declared, by_name: Mapping[str, Declared]) -> PipelineSettings:
    settings, of = one.settings, one.settings.documents_of
    if of is None or (of not in by_name and settings.documents_tables is not None):
        return settings
    if of not in by_name:
        others = ", ".join(sorted(by_name.keys() - {settings.name})) or "none"
        raise SettingsError(
            f"{one.where}: documents_of is {of!r}, and there is no such pipeline beside "
            f"{settings.name!r}, there is {others}; for one of another project set "
            "documents_tables, too"
        )
    first = by_name[of].settings
    if first.documents_of is not None:
        raise SettingsError(
            f"{one.where}: documents_of is {of!r}, which has no documents of its own but those of "
            f"{first.documents_of!r}; set documents_of to that one"
        )
    return settings.model_copy(update={"documents_tables": first.tables_root})
