"""Where something is: a path, or a URI that is left as it is."""

import os
import re
from pathlib import Path

from embed_assets.errors import SettingsError

_URI = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:")


def absolute_location(location: str, base: Path) -> str:
    """The same place whatever the working folder: a relative path begins at `base`, ~ at home.

    Raises SettingsError where there is no such home.
    """
    if _URI.match(location):
        return location
    try:
        return os.path.normpath(base / Path(location).expanduser())
    except RuntimeError as error:
        raise SettingsError(f"there is no home folder for {location!r}; give its path") from error
