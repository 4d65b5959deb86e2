"""What a call is given, and how it says no."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gradients.localchain.pallets.declare import ErrorKind, EventKind
from gradients.localchain.pallets.substrate_types import ModuleError
from gradients.localchain.scale.choices import Choice
from gradients.localchain.state import Draft

BAD_ORIGIN = Choice("BadOrigin")
FUNDS_UNAVAILABLE = Choice("Token", (Choice("FundsUnavailable"),))
NOT_EXPENDABLE = Choice("Token", (Choice("NotExpendable"),))
BELOW_MINIMUM = Choice("Token", (Choice("BelowMinimum"),))


class RefusedError(Exception):
    """A call broke a rule of the chain: nothing that it wrote stays, and the transaction fails with this error."""

    def __init__(self, error: ErrorKind | Choice) -> None:
        super().__init__(error.name if isinstance(error, ErrorKind) else str(error))
        if isinstance(error, ErrorKind):
            error = Choice("Module", (ModuleError(error.pallet_index, bytes([error.number, 0, 0, 0])),))
        self.dispatch_error = error


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Who calls, in which block, on which state."""

    state: Draft
    block: int
    signer: bytes
    deposit: Callable[[bytes], None]

    def emit(self, kind: EventKind, *values: object) -> None:
        """Record an event of this call."""
        self.deposit(kind.encode(*values))


def require(condition: bool, error: ErrorKind | Choice) -> None:
    """Go on only when `condition` holds."""
    if not condition:
        raise RefusedError(error)
