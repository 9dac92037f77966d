"""The one exception for what a user can mend: bad input, bad settings, a table in the way."""


class InputError(Exception):
    """Something the user gave cannot be used.

    The message is one line that says what came, where, what was expected and what to do. The
    command line prints it alone; Dagster fails the step without a retry, since a second try
    would meet the same input.
    """


class SettingsError(InputError):
    """A setting is unknown, or what it names cannot be had: the command line exits with 2."""


class NothingYet(InputError):
    """The tables hold nothing so far: to a person who asks a mistake, to a schedule none."""
