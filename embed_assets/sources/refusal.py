"""Why a file or record cannot become a document, on its way up from where that was found."""

from embed_assets.sources.source import Rejection


class Refusal(Exception):
    """Raised within `sources/` only; whoever reads a piece turns it into a Rejection.

    `reason` is a short fixed phrase to group by, `detail` says more; neither quotes corpus text.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def at(self, source: str, position: int) -> Rejection:
        """The rejection of what stands at this place."""
        return Rejection(source, position, self.reason, self.detail)


class TooMuch(Refusal):
    """A piece goes beyond a limit of the settings: nothing of it is taken.

    Not even what came before the limit: the start of a bomb is worth no computing, and half of a
    good file would go unnoticed.
    """
