"""The project as Dagster sees it: where it keeps its state, and which pipelines it declares."""

import io
from contextlib import redirect_stdout
from pathlib import Path

import dagster as dg
from filelock import FileLock

import embed_assets.defs
from embed_assets.errors import SettingsError
from embed_assets.orchestration.component import EmbeddingPipeline
from embed_assets.settings import PipelineSettings, dagster_home, uses_postgres

_PACKAGE = Path(__file__).resolve().parent.parent


def project_root() -> Path:
    """The folder of the checkout; the working folder where there is none (a plain install)."""
    return _PACKAGE.parent if (_PACKAGE.parent / "dagster.yaml").is_file() else Path.cwd()


def component_tree() -> dg.ComponentTree:
    """Everything declared under `embed_assets/defs`."""
    return dg.ComponentTree.from_module(embed_assets.defs, project_root())


def declared_pipelines() -> dict[str, PipelineSettings]:
    """Name -> settings of every pipeline declared in a defs.yaml.

    Raises SettingsError with the file, line and key of what is wrong.
    """
    tree = component_tree()
    try:
        pipelines = [c.settings for c in tree.get_all_components(of_type=EmbeddingPipeline)]
    except Exception as error:
        # Dagster wraps what is wrong in the file in errors of its own; the innermost says it.
        raise SettingsError(_innermost(error)) from error
    return {settings.name: settings for settings in pipelines}


def open_instance() -> dg.DagsterInstance:
    """The Dagster instance that the UI of this project shows; one in memory outside a checkout."""
    home = dagster_home() or project_home()
    if home is None:
        return dg.DagsterInstance.ephemeral()
    return dg.DagsterInstance.from_config(str(prepared_home(home)))


def project_home() -> Path | None:
    """DAGSTER_HOME of a checkout: a folder in it that git ignores."""
    root = project_root()
    return root / ".dagster" if (root / "dagster.yaml").is_file() else None


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


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip()
