"""Records of JSONL, CSV and Parquet files -> documents, by the column names in the settings."""

from collections.abc import Iterable, Mapping

from embed_assets.digests import digest
from embed_assets.settings import PipelineSettings
from embed_assets.sources.attributes import AttributesReader
from embed_assets.sources.decoding import is_blank, without_surrogates
from embed_assets.sources.refusal import Refusal, TooMuch
from embed_assets.sources.source import Document, Rejection

# Enough to recognise a wrong column name by, whatever a record has for keys.
_COLUMNS_CHARS = 200


class DocumentBuilder:
    """Builds the documents of one piece; knows the ids it has seen there."""

    def __init__(self, source: str, settings: PipelineSettings) -> None:
        self._source = source
        self._text = settings.text_column
        self._id = settings.id_column
        self._title = settings.title_column
        self._ids: set[str] = set()
        self._attributes = AttributesReader(settings.max_records)

    def check_columns(self, columns: Iterable[str]) -> None:
        """Raises Refusal where the text column is not among `columns`."""
        names = list(columns)
        if self._text not in names:
            # Few and short: a record may have a million keys, or one as long as a book.
            there = ", ".join(repr(name[:_COLUMNS_CHARS]) for name in names[:_COLUMNS_CHARS])
            if len(there) > _COLUMNS_CHARS:
                there = there[:_COLUMNS_CHARS] + " ..."
            raise Refusal(
                "no text column",
                f"text_column is {self._text!r}; there are: {there or 'no columns'}",
            )

    def build(self, record: Mapping[str, object], position: int) -> Document | Rejection:
        """The document in a record that stands at `position` in the file, or why there is none.

        Raises TooMuch where the records of the piece hold too many values.
        """
        try:
            return self._document(record, position)
        except TooMuch:
            raise
        except Refusal as refusal:
            return refusal.at(self._source, position)

    def _document(self, record: Mapping[str, object], position: int) -> Document:
        self.check_columns(record)
        text = record[self._text]
        if not isinstance(text, str):
            raise Refusal("text is not a string", f"the value of {self._text!r} is {_kind(text)}")
        if is_blank(text):
            raise Refusal("empty document", "the text is empty or nothing but white space")
        used = {self._text, self._id, self._title}
        others = {key: value for key, value in record.items() if key not in used}
        attributes = self._attributes.read(others)
        title = record.get(self._title) if self._title else None
        # The id comes last, so that a record rejected for another reason does not claim it.
        return Document(
            doc_id=self._doc_id(record, position),
            source=self._source,
            title="" if title is None else without_surrogates(str(title)),
            text=without_surrogates(text),
            attributes=attributes,
        )

    def _doc_id(self, record: Mapping[str, object], position: int) -> str:
        if self._id is None:
            return digest(self._source, position)
        value = record.get(self._id)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise Refusal("no id", f"the value of {self._id!r} is {_kind(value)}")
        doc_id = without_surrogates(str(value))
        if doc_id in self._ids:
            raise Refusal("duplicate id", "an earlier record of this piece has the same id")
        self._ids.add(doc_id)
        return doc_id


def _kind(value: object) -> str:
    if value is None:
        return "missing"
    return "an empty string" if value == "" else f"of type {type(value).__name__}"
