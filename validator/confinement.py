"""Whether this validator's workers run in a sandbox: by its settings, by what this machine can, and by who may reach it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gradients.errors import SetupError
from gradients.sandbox.trial import worker_refusal

Sandbox = Literal["on", "off"]


@dataclass(frozen=True, slots=True)
class Confinement:
    """How workers are run."""

    sandboxed: bool
    why_not: str = ""  # for people, where they are not


def confinement(setting: Sandbox, *, is_local: bool) -> Confinement:
    """How workers are to be run.

    Args:
        setting: what the operator asks for.
        is_local: whether the network is one machine's own; only there does a validator start when the sandbox doesn't work.

    Raises SetupError, with the reason and what to do, when strangers' bytes are to come and there is no sandbox to read them in.
    """
    if setting == "off":
        return Confinement(
            sandboxed=False,
            why_not="it is switched off (sandbox = off): strangers' bytes reach what this user may reach",
        )
    refused = worker_refusal()
    if refused is None:
        return Confinement(sandboxed=True)
    if is_local:
        return Confinement(sandboxed=False, why_not=f"{refused.message}; on a public network this would end the start")
    raise SetupError(
        f"Workers would read strangers' bytes without a sandbox: {refused.message}",
        code=refused.code,
        fix=f'{refused.fix}; where it cannot work, say sandbox = "off" (GRADIENTS_SANDBOX=off) and know that nothing holds them then',
    )
