"""How much a program may use, and how it ends when it wants more."""

from __future__ import annotations

from dataclasses import dataclass

from gradients.errors import CustomerError

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ProgramLimits:
    """What one run of a program may use.

    Processor time decides, because it is the same on a busy machine; wall time only ends a program that sleeps.
    """

    cpu_seconds: int = 5
    memory_bytes: int = 512 * MEBIBYTE  # address space, Python's own 20 MiB included
    output_bytes: int = MEBIBYTE  # of its answer, of its complaints, and of each file that it writes
    patience: float = 10.0  # how many times as long it may take by the clock

    @property
    def wall_seconds(self) -> float:
        """When the program is killed whatever it does."""
        return self.patience * (1 + self.cpu_seconds)


class ProgramStopped(CustomerError):
    """The program ended without an answer: it broke, or it wanted more than its limits.

    Its code says how: program_slow, program_memory, program_output or program_crashed. It is the fault of whoever wrote the program;
    the sandbox's own failures are SetupErrors.
    """

    default_code = "program_crashed"
