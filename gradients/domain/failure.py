"""A failure as a value: what is stored, sent and shown when something ends badly."""

from __future__ import annotations

from dataclasses import dataclass

from gradients.errors import Blame, GradientsError
from gradients.texts import harmless


@dataclass(frozen=True, slots=True)
class Failure:
    """Whose fault it was, a stable code, and a sentence for people."""

    blame: Blame
    code: str
    message: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", harmless(self.message, most=4_000, lines=True))  # it may quote a stranger

    @classmethod
    def of(cls, error: GradientsError) -> Failure:
        """The value that stands for `error`."""
        return cls(blame=error.blame, code=error.code, message=str(error))
