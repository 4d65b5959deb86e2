"""Whether two fingerprints are of one model: cosines of what two submissions changed, and of what that does to secret probes.

A sketch has no direction when nothing was changed, and sketches made with other keys or of other probes have nothing in common: neither
is ever taken for a copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradients.domain.evaluation import Fingerprint


@dataclass(frozen=True, slots=True)
class Likeness:
    """Cosines from which on two submissions are one model, calibrated in docs/benchmarks/copies.md.

    Updates of honest runs with other seeds have at most 0.85, and 0.95 where a full fine-tune takes the whole data set in each of a dozen
    small steps; copies with noise of a fifth of the factors' size have 0.98. Outputs count where a full model hides its update in other
    weights for the same function: barely trained honest models have up to 0.998, such copies 1.
    """

    update: float = 0.97
    outputs: float = 0.999


def similarity(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The cosine of two sketches, from -1 to 1; 0 when either is empty or they are not of one length."""
    if len(ours) != len(theirs):
        return 0.0
    length, their_length = math.hypot(*ours), math.hypot(*theirs)
    if not length or not their_length:
        return 0.0
    cosine = math.fsum(x / length * (y / their_length) for x, y in zip(ours, theirs, strict=True))
    return max(-1.0, min(cosine, 1.0))


def same_model(ours: Fingerprint | None, theirs: Fingerprint | None, *, likeness: Likeness | None = None) -> str | None:
    """The evidence that one submission is the other's copy, as a sentence; None when there is none.

    Args:
        likeness: other thresholds than the calibrated ones.
    """
    if ours is None or theirs is None:
        return None
    likeness = likeness or Likeness()
    update, outputs = similarity(ours.update, theirs.update), similarity(ours.outputs, theirs.outputs)
    if update >= likeness.update:
        return f"their updates of the base point the same way (cosine {update:.4f})"
    if outputs >= likeness.outputs:
        return f"their outputs differ from the base's in the same way (cosine {outputs:.4f})"
    return None
