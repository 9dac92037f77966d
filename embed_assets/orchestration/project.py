"""The project as Dagster sees it: where it keeps its state, and which pipelines it declares.

It is the `dg` project of the working folder, anybody's, or else the checkout of embed_assets.
"""

import io
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from filelock import FileLock
from pydantic import ValidationError
from pydantic_core import ErrorDetails

import embed_assets.defs
from embed_assets.errors import InputError, SettingsError
from embed_assets.orchestration.component import declared_in
from embed_assets.orchestration.environment import dagster_home, uses_postgres
from embed_assets.settings import PipelineSettings, expectation, unknown_setting

# Of a project that has none. Dagster would complain of its absence, and tell its makers of use.
_CONFIG = "telemetry:\n  enabled: false\n"
_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Project:
    """A project as `dg` finds it: its folder, where its modules are imported from, where its
    pipelines are declared, and the module with its definitions.
    """

    root: Path
    source: Path
    defs_folder: Path
    definitions_module: str


def current_project() -> Project | None:
    """The project that the working folder is in, else the checkout; None for a plain install.

    Raises InputError if there is one that `dg` does not understand.
    """
    here = _project_at(Path.cwd())
    if here is not None:
        return here
    ours = _project_at(_PACKAGE.parent)
    # Installed into a project's own environment, the package lies below that project.
    return ours if ours is not None and ours.root == _PACKAGE.parent else None


def _project_at(folder: Path) -> Project | None:
    # Imported here: `embed_assets.definitions` loads this module in every process of a run.
    from dagster_dg_core.context import DgContext
    from dagster_dg_core.error import DgError

    try:
        context = DgContext.from_file_discovery_and_command_line_config(folder, {})
        if not context.is_project:
            return None
        defs_folder = context.defs_path
    except DgError as error:
        raise InputError(f"the Dagster project around {folder}: {error}") from error
    source = defs_folder
    for _ in context.defs_module_name.split("."):
        source = source.parent
    return Project(context.root_path, source, defs_folder, context.code_location_target_module_name)


def project_root() -> Path:
    """The project's folder; the working folder where there is none (a plain install)."""
    project = current_project()
    return project.root if project else Path.cwd()


def component_tree() -> dg.ComponentTree:
    """Everything declared under `embed_assets/defs`."""
    root = _PACKAGE.parent if (_PACKAGE.parent / "dagster.yaml").is_file() else Path.cwd()
    return dg.ComponentTree.from_module(embed_assets.defs, root)


def declared_pipelines() -> dict[str, PipelineSettings]:
    """Name -> settings of every pipeline that the project declares.

    Raises SettingsError with the file, line and key of what is wrong.
    """
    project = current_project()
    try:
        return declared_in(component_tree() if project is None else _tree_of(project))
    except Exception as error:
        # Dagster wraps what is wrong in the file in errors of its own; the innermost says it.
        raise SettingsError(_innermost(error)) from error


def _tree_of(project: Project) -> dg.ComponentTree:
    make_importable(project)
    return dg.ComponentTree.for_project(project.root)


def make_importable(project: Project) -> None:
    """Let the modules of a project be imported, as `dg` does: it need not be installed."""
    if str(project.source) not in sys.path:
        sys.path.insert(0, str(project.source))


def open_instance() -> dg.DagsterInstance:
    """The Dagster instance that the UI of this project shows; one in memory outside a project."""
    home = dagster_home() or project_home()
    if home is None:
        return dg.DagsterInstance.ephemeral()
    return dg.DagsterInstance.from_config(str(prepared_home(home)))


def project_home() -> Path | None:
    """DAGSTER_HOME of a project: a folder in it that git ignores; None where there is none."""
    project = current_project()
    return project.root / ".dagster" if project else None


def prepared_home(home: Path) -> Path:
    """A DAGSTER_HOME that is safe to use: the project's dagster.yaml in force, storage migrated.

    With DAGSTER_POSTGRES_URL set, deploy/dagster-postgres.yaml is the one in force.

    Several processes that meet an empty SQLite home at once corrupt it for good, so it is made
    here, by one.
    """
    home = home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / ".lock"):
        if home == project_home():
            _link_configuration(home / "dagster.yaml")
            (home / ".gitignore").write_text("*\n")
        if not (home / "history").exists():
            with (
                redirect_stdout(io.StringIO()),
                dg.DagsterInstance.from_config(str(home)) as instance,
            ):
                instance.upgrade()
    return home


def _link_configuration(config: Path) -> None:
    """Put the project's configuration in force, unless somebody put a file of their own there."""
    sources = [project_root() / "dagster.yaml", project_root() / "deploy/dagster-postgres.yaml"]
    source = sources[uses_postgres()]
    is_ours = config.is_symlink() and config.readlink() in sources
    if source.is_file() and (is_ours or not config.exists()):
        config.unlink(missing_ok=True)
        config.symlink_to(source)
    elif not config.exists():
        config.write_text(_CONFIG)


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ValidationError):
        return "; ".join(map(_wrong_attribute, error.errors()))
    return str(error).strip()


def _wrong_attribute(item: ErrorDetails) -> str:
    """Where it is, "attributes.overlap at FILE:LINE" as Dagster notes it, and what is wrong."""
    if not item["loc"]:
        return expectation(item["msg"])
    where = ".".join(map(str, item["loc"])).strip("`")
    key = where.partition(" at ")[0]
    if item["type"] != "extra_forbidden":
        return f"{where}: {expectation(item['msg'])}, not {item['input']!r:.80}"
    if not key.startswith("attributes."):
        return f"{where}: unknown key; the settings of a pipeline stand below attributes:"
    return f"{where}: {unknown_setting(key.rpartition('.')[2])}"
