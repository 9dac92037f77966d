"""Bytes -> valid Unicode. Newlines and NUL stay as they are: offsets must be those of the file."""

import codecs
import re

from embed_assets.sources.refusal import Refusal

_SURROGATE = re.compile("[\ud800-\udfff]")


def decoded(content: bytes, position: int = 0) -> str:
    """UTF-8 bytes as text. `position` is where in the file they stand: a byte order mark is
    removed (one, not two) only at the start. Raises Refusal for any other encoding.
    """
    body = content.removeprefix(codecs.BOM_UTF8) if position == 0 else content
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        offset = position + len(content) - len(body) + error.start
        raise Refusal(
            "not UTF-8", f"byte 0x{body[error.start]:02x} at offset {offset}: {error.reason}"
        ) from error


def without_surrogates(text: str) -> str:
    r"""The text with lone surrogates, which no UTF-8 can hold, replaced by U+FFFD.

    JSON smuggles them in: "\ud800" is valid there, and polars and Delta fail on it.
    """
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def is_blank(text: str) -> bool:
    """Whether a text is empty or nothing but white space."""
    return not text or text.isspace()
