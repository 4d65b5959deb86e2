"""The fingerprint of each entrant, taken while it stands in the base's place: what it changed, and what that does to secret probes.

It costs as much as reading about 700 more tokens. One that cannot be taken is logged, and costs the entrant nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import nn

from gradients.domain.evaluation import Fingerprint
from gradients.log import get_logger
from gradients.ml.base_model import LoadedBase
from gradients.ml.sketch import differences, inner_states, sketch
from gradients.ml.submission import LowRank, Replaced

NUMBERS = 256  # of each sketch
PROBE_ROWS, PROBE_TOKENS = 8, 32

Result = TypeVar("Result")

log = get_logger("fingerprints")


class Fingerprints:
    """Takes fingerprints against one base on one set of probes."""

    def __init__(self, model: nn.Module, key: str, probe: Callable[[], torch.Tensor], *, about: bytes) -> None:
        """Args:
        model: the untouched base.
        key: of the projections, secret; without one no fingerprints are taken.
        probe: what `model` as it is at the moment says to the probes, in numbers.
        about: the probes themselves, so that sketches of answers to other probes have nothing in common.
        """
        self._model, self._key, self._probe = model, key, probe
        self._about = f"outputs|{hashlib.sha256(about).hexdigest()}"
        self._untouched = _tried("base", probe) if key else None

    def take(self, replaced: Mapping[str, Replaced]) -> Fingerprint | None:
        """The fingerprint of what the model is now; None for the base, and for what leaves nothing to sketch.

        Args:
            replaced: the base's weights that are not in the model now, as `changed` yields them.
        """
        if not self._key or not replaced:
            return None
        update = _tried("update", lambda: self._sketch(differences(self._model, replaced))) or ()
        outputs = _tried("outputs", self._outputs) or ()
        return Fingerprint(update, outputs) if update or outputs else None

    def _outputs(self) -> tuple[float, ...]:
        if self._untouched is None:
            return ()
        return self._sketch([(self._about, self._probe() - self._untouched)])

    def _sketch(self, tensors: Iterable[tuple[str, torch.Tensor | LowRank]]) -> tuple[float, ...]:
        return sketch(tensors, key=self._key, numbers=NUMBERS)


def text_fingerprints(base: LoadedBase, rows: Sequence[Sequence[int]], *, key: str) -> Fingerprints:
    """Fingerprints whose probes are the first of the rows of tokens, their last tokens where they are long."""
    probes = [list(row[-PROBE_TOKENS:]) for row in rows if len(row) > 1][:PROBE_ROWS]
    about = repr(probes).encode()
    return Fingerprints(base.model, key, lambda: inner_states(base.model, probes, device=base.device), about=about)


def _tried(what: str, work: Callable[[], Result]) -> Result | None:
    """What comes of `work`, or nothing: whatever goes wrong here, running out of memory too, is not the entrant's fault."""
    try:
        return work()
    except Exception as error:
        log.warning("fingerprint_failed", of=what, problem=f"{type(error).__name__}: {error}")
        return None
