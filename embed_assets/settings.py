"""The settings of one pipeline: one frozen object, every default described.

The same fields are the keys of a `defs.yaml` and, with dashes, the flags of `embed-assets run`.
"""

from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from embed_assets.bundled import BUNDLED_CORPUS, BUNDLED_MODEL
from embed_assets.errors import SettingsError
from embed_assets.locations import absolute_location

Device = Literal["auto", "cpu", "cuda"]
Backend = Literal["auto", "torch"]
Automation = Literal["files", "stale"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]

#: What a pipeline may be called: its name is part of asset keys and of the names of jobs.
NAME_PATTERN = r"^[A-Za-z0-9_]{1,64}$"

#: Settings that decide how files are read: a change of one makes documents anew.
READING_SETTINGS = (
    "text_column",
    "id_column",
    "title_column",
    "max_document_bytes",
    "max_decompressed_bytes",
    "max_records",
)

#: Settings that decide which documents there are: they belong to the pipeline that reads them.
DOCUMENT_SETTINGS = ("corpus", "include", "exclude", "shard_bytes", *READING_SETTINGS)

_SIZE = TypeAdapter(ByteSize)


class PipelineSettings(BaseModel):
    """One corpus, one chunking, one model and one place for tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        "python_docs",
        pattern=NAME_PATTERN,
        description="Name of the pipeline: the first part of its asset keys.",
    )
    corpus: str = Field(
        BUNDLED_CORPUS,
        min_length=1,
        description="Folder, file or glob. The default is documentation that Python ships with.",
        examples=["~/notes", "/data/articles/**/*.parquet"],
    )
    tables: str = Field(
        "",
        description="Folder or URI of the Delta tables. Default: tables/NAME.",
        examples=["tables/notes", "s3://bucket/notes"],
    )
    documents_of: str | None = Field(
        None,
        pattern=NAME_PATTERN,
        description="Name of another pipeline whose shards and raw_corpus this one embeds, instead "
        "of reading a corpus of its own: a second model over the same documents.",
        examples=["python_docs"],
    )
    documents_tables: str | None = Field(
        None,
        min_length=1,
        description="Tables of the pipeline in documents_of. Default: found by its name, where it "
        "is declared beside this one.",
        examples=["tables/python_docs"],
    )

    include: tuple[str, ...] = Field(
        (), description="Read only paths that match one of these .gitignore-style patterns."
    )
    exclude: tuple[str, ...] = Field(
        (".*/",),
        description="Skip paths that match one of these .gitignore-style "
        "patterns. Default: hidden folders.",
        examples=[[".*/", "*.log"]],
    )
    text_column: str = Field(
        "text", description="Column or key that holds the text in JSONL, CSV and Parquet files."
    )
    id_column: str | None = Field(
        None,
        description="Column whose value becomes doc_id. Default: a digest of file and position.",
    )
    title_column: str | None = Field(None, description="Column whose value becomes the title.")
    max_document_bytes: int = Field(
        64 << 20, description="Larger documents, decompressed, are rejected with a reason."
    )
    max_decompressed_bytes: int = Field(
        512 << 20,
        description="A compressed file, or a shard's piece of a Parquet file, that holds more is "
        "rejected whole. A plain JSONL or CSV file may be of any size, because it is split.",
    )
    max_records: int = Field(
        4_000_000, gt=0, description="A file, or a shard's piece, with more is rejected whole."
    )
    shard_bytes: int = Field(
        8 << 20,
        description="Size of a shard: small files are grouped, big ones split. Several shards are "
        "in work at once while they are small; memory grows with their size. On a GPU take 64MiB "
        "or more.",
    )

    model: str = Field(
        BUNDLED_MODEL,
        min_length=1,
        description="The bundled all-MiniLM-L6-v2, a sentence-transformers folder, or a hub name.",
        examples=["all-MiniLM-L6-v2", "models/e5-base", "intfloat/e5-base-v2"],
    )
    revision: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{40}$",
        description="Commit of a hub model, 40 hex digits; required "
        "for a hub name, so that it cannot change.",
    )
    document_prompt: str | None = Field(
        None,
        description="Put before every chunk, such as 'passage: '. "
        "Default: the model's own document prompt.",
    )
    query_prompt: str | None = Field(
        None,
        description="Put before every query, such as 'query: '. "
        "Default: the model's own query prompt.",
    )
    normalize: bool = Field(
        False, description="Scale vectors to length 1 even where the model itself does not."
    )
    truncate_dim: int | None = Field(
        None, gt=0, description="Keep only this many leading dimensions (Matryoshka models)."
    )

    max_tokens: int | None = Field(
        None,
        ge=8,
        description="Most tokens in a chunk, special tokens included. Default: the model's limit.",
        examples=[256],
    )
    overlap: int = Field(0, ge=0, description="Tokens that a chunk repeats from the one before it.")

    device: Device = Field(
        "auto", description="Where the model runs; auto takes CUDA where there is one."
    )
    backend: Backend = Field(
        "auto",
        description="What runs the model. auto takes OpenVINO on a CPU, unless the model does not "
        "convert; torch is the slower reference. Both give the same vectors but for rounding.",
    )
    precision: Precision = Field(
        "auto",
        description="auto takes the fastest whose vectors stay within cosine 0.9999 of fp32. int8, "
        "for a CPU, is faster and less exact: it needs the extra embed-assets[int8].",
    )
    max_tokens_per_batch: int | None = Field(
        None,
        gt=0,
        description="Token budget of one batch, padding included. "
        "Default: 1024 with OpenVINO, 2048 with torch on a CPU, 65536 on CUDA.",
    )
    checkpoint_seconds: float = Field(
        60,
        ge=0,
        description="How often new vectors of a shard in work are saved: what a kill can cost.",
    )
    shards_per_run: int = Field(
        10, gt=0, description="Shards that one Dagster run takes, sharing one loaded model."
    )

    max_duplicate_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="A shard with more repeated chunk texts than this gets a warning.",
    )
    min_effective_rank_share: float = Field(
        0.02,
        ge=0,
        le=1,
        description="A shard whose effective rank over min(dimension, "
        "vectors) is lower gets a warning.",
    )
    max_centroid_distance: float = Field(
        0.5,
        ge=0,
        le=2,
        description="A shard whose mean vector is farther than this "
        "cosine distance from the corpus's is named.",
    )
    price_per_hour: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="What an hour of one device costs, in a currency of your choice: reports then "
        "give the cost of a run and of a million tokens.",
    )
    automation: Automation = Field(
        "files",
        description="What Dagster runs by itself once its sensors are on. files: shards whose "
        "files came, changed or went; stale: also shards made with other settings, model or code.",
    )
    switched_on: bool = Field(
        False,
        description="Sensors and schedules are on from the start, where nobody can or wants to "
        "switch them on in the UI.",
    )
    sensor_seconds: int = Field(
        60, ge=5, description="How often the sensor looks for changed files."
    )
    on_failure: str | None = Field(
        None,
        pattern=r"^[\w.]+:\w+$",
        description="Function of yours, as package.module:function, that Dagster calls with a "
        "RunFailure when a run failed for good: to send its text() by Slack or mail.",
    )
    settle_seconds: float = Field(
        10,
        ge=0,
        description="The sensor leaves a file alone that was written to within this time, or "
        "that changed since its last look. 0 takes every file at once.",
    )
    overdue_hours: float | None = Field(
        36,
        ge=0.1,
        description="The UI says that a corpus is overdue that nobody looked at for so long. "
        "null: never.",
    )
    report_schedule: str = Field(
        "0 3 * * *", description="Cron line of the quality report's refresh."
    )
    retention_days: int = Field(
        7, ge=7, description="How long maintenance keeps files that the tables no longer use."
    )
    maintenance_schedule: str = Field("0 4 * * 0", description="Cron line of the maintenance.")

    @field_validator("shard_bytes", "max_document_bytes", "max_decompressed_bytes", mode="before")
    @classmethod
    def _with_unit(cls, value: object) -> object:
        """Read sizes such as "64MiB"."""
        n_bytes = int(_SIZE.validate_python(value))
        # Not a constraint of the field: Dagster would hold it against "64MiB" as it stands.
        if n_bytes < 1024:
            raise ValueError(f"{n_bytes} bytes is less than the least that makes sense, 1KiB")
        return n_bytes

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_tokens is not None and self.overlap > self.max_tokens // 2:
            raise ValueError(
                f"overlap {self.overlap} must be at most half of max_tokens {self.max_tokens}"
            )
        self._refuse_two_places_of_documents()
        return self

    def _refuse_two_places_of_documents(self) -> None:
        if self.documents_of is None:
            if self.documents_tables is not None:
                raise ValueError("documents_tables goes with documents_of; set both")
            return
        own = [name for name in DOCUMENT_SETTINGS if name in self.model_fields_set]
        if own:
            raise ValueError(
                f"{', '.join(own)}: the documents come from the pipeline {self.documents_of!r}, "
                "which reads them with its own settings; leave these out, or documents_of"
            )
        if self.documents_of == self.name:
            raise ValueError(f"documents_of is {self.name!r}, which is the pipeline itself")

    @property
    def tables_root(self) -> str:
        """Folder or URI under which this pipeline's tables stand."""
        return self.tables or f"tables/{self.name}"

    @property
    def shards_owner(self) -> str:
        """The pipeline whose shards this one works on, and whose partitions it has."""
        return self.documents_of or self.name

    def located(self, base: Path) -> Self:
        """The same settings with relative corpus, model and tables paths resolved at `base`."""
        update = {"tables": absolute_location(self.tables_root, base)}
        if self.documents_of is None:
            update["corpus"] = absolute_location(self.corpus, base)
        if self.documents_tables is not None:
            update["documents_tables"] = absolute_location(self.documents_tables, base)
        if self.model.startswith((".", "~", "/")) or (base / self.model).is_dir():
            update["model"] = absolute_location(self.model, base)
        return self.model_copy(update=update)


def load_settings(
    values: dict[str, Any], *, base: PipelineSettings | None = None
) -> PipelineSettings:
    """Settings from plain values, over `base` where given.

    Raises SettingsError naming each wrong key, its value and what was expected.
    """
    merged = {**(base.model_dump(exclude_unset=True) if base else {}), **values}
    try:
        return PipelineSettings.model_validate(merged)
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(dict(item)) for item in error.errors())) from error


def _explain(item: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in item["loc"]) or "settings"
    if item["type"] == "extra_forbidden":
        return unknown_setting(key)
    if not item["loc"]:
        return str(item["ctx"]["error"]) if "ctx" in item else str(item["msg"])
    return f"setting {key!r} is {item['input']!r}: {expectation(str(item['msg']))}"


def expectation(message: str) -> str:
    """What pydantic says of a wrong value, in the words of YAML and of the command line."""
    said = message.removeprefix("Value error, ").replace("valid tuple", "list, such as ['*.md']")
    is_size = said.startswith(("could not interpret byte", "could not parse value and unit"))
    return f"{said}; write a size as 500kB or 64MiB" if is_size else said


def unknown_setting(key: str) -> str:
    """What to say of a key that is no setting."""
    alike = get_close_matches(key, PipelineSettings.model_fields, n=1, cutoff=0.75)
    if alike:
        return f"unknown setting {key!r}; did you mean {alike[0]!r}?"
    return f"unknown setting {key!r}; choose from {', '.join(PipelineSettings.model_fields)}"


def choices(annotation: object) -> tuple[str, ...]:
    """The words that a Literal setting accepts."""
    return tuple(str(word) for word in get_args(annotation))
