"""A pipeline declared in YAML: `defs/<name>/defs.yaml` with the settings as attributes."""

from pathlib import Path
from types import ModuleType
from typing import Self

import dagster as dg
from dagster.components.core.component_tree import ComponentTree
from dagster.components.core.defs_module import find_defs_or_component_yaml
from pydantic import BaseModel, PrivateAttr

from embed_assets.errors import SettingsError
from embed_assets.orchestration.attributes import attributes_model
from embed_assets.orchestration.build import build_pipeline
from embed_assets.orchestration.doubled_keys import refuse_doubled_keys
from embed_assets.orchestration.scaffolder import PipelineScaffolder
from embed_assets.settings import PipelineSettings, load_settings
from embed_assets.siblings import Declared, side_by_side


@dg.scaffold_with(PipelineScaffolder)
class EmbeddingPipeline(dg.Component, dg.Resolvable, PipelineSettings):
    """Turn a text corpus into embeddings, shard by shard, into Delta tables.

    ```yaml
    type: embed_assets.EmbeddingPipeline
    attributes:
      corpus: ~/notes            # a folder, file or glob
      tables: tables/notes       # where the Delta tables go
    ```

    In `defs/notes/defs.yaml` this makes the assets `notes/shards`, `notes/raw_corpus`,
    `notes/chunks`, `notes/embeddings`, `notes/quality_metrics` and `notes/quality_report`, checks
    that keep bad vectors from being published, a sensor for changed files and two schedules.
    Materialise `notes/shards` first: it lists the corpus and registers its shards as partitions.
    The sensor `notes_files`, once switched on, does so by itself.

    All attributes are optional. Relative paths start at the project's root. Values may be
    templates, such as `corpus: '{{ env.CORPUS }}'`.

    A second model over the same documents reads nothing again:

    ```yaml
    type: embed_assets.EmbeddingPipeline
    attributes:
      documents_of: notes        # its chunks are made from notes/raw_corpus
      model: models/e5-base
    ```
    """

    _file: Path | None = PrivateAttr(default=None)

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """The attributes in YAML."""
        return attributes_model()

    @classmethod
    def resolve_from_model(cls, context: dg.ResolutionContext, model: BaseModel) -> Self:
        """The settings that were given, templates filled in."""
        given = {name: getattr(model, name) for name in model.model_fields_set}
        settings = load_settings({k: context.resolve_value(v) for k, v in given.items()})
        return cls(**settings.model_dump(exclude_unset=True))

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """From YAML. The name is the folder's unless it is set; paths start at the project root.

        Raises SettingsError, naming the file, for settings that do not go together, and for a key
        that stands twice.
        """
        folder = context.component_path.file_path
        file = find_defs_or_component_yaml(folder) or folder
        if file.is_file():
            refuse_doubled_keys(file)
        try:
            declared = super().load(attributes, context)
            values = declared.model_dump(exclude_unset=True)
            settings = load_settings({"name": folder.name, **values}).located(context.project_root)
        except SettingsError as error:
            raise SettingsError(f"{file}: {error}") from error
        pipeline = cls(**settings.model_dump(exclude_unset=True))
        pipeline._file = file
        return pipeline

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Build the pipeline's assets, checks, jobs, sensor and schedules.

        Raises SettingsError if another pipeline of the project is in its way.
        """
        tree = context.component_tree
        # Outside a project there is nothing beside it.
        if not isinstance(tree.defs_module, ModuleType):
            return build_pipeline(self.settings)
        return build_pipeline(declared_in(tree).get(self.name, self.settings))

    def located(self, base: Path) -> Self:
        """The same with relative paths resolved at `base`."""
        # Not of this object's own fields: Dagster's `model` hides the default of ours.
        located = self.settings.located(base)
        return type(self)(**located.model_dump(exclude_unset=True))

    @property
    def settings(self) -> PipelineSettings:
        """The plain settings, without the component around them."""
        return load_settings(self.model_dump(exclude_unset=True))

    @property
    def where(self) -> str:
        """The file that declares it, as errors name it."""
        return str(self._file) if self._file else f"{self.name} in Python"


def declared_in(tree: ComponentTree) -> dict[str, PipelineSettings]:
    """Name -> settings of every pipeline that a project declares.

    Raises SettingsError if two are in each other's way.
    """
    pipelines = tree.get_all_components(of_type=EmbeddingPipeline)
    return side_by_side(Declared(each.settings, each.where) for each in pipelines)
