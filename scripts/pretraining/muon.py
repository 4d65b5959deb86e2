"""Muon in the precision of its parameters.

`torch.optim.Muon` orthogonalises in bfloat16, which a CPU without such instructions computes a hundred times slower.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch


def orthogonalise(matrix: torch.Tensor, *, steps: int = 5) -> torch.Tensor:
    """Nearly the orthogonal factor of `matrix` [rows, columns], singular values in about 0.7 to 1.2.

    The quintic Newton-Schulz iteration of Jordan et al., "Muon: An optimizer for hidden layers" (2024), with their factors.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


class Muon(torch.optim.Optimizer):  # type: ignore[misc] # torch is not followed by the type checker
    """Momentum whose update is orthogonalised; for matrices inside the network, not for embeddings."""

    def __init__(self, params: Iterable[torch.Tensor], *, lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    def step(self, closure: None = None) -> None:
        """Update every parameter by its gradient; a closure is not supported."""
        with torch.no_grad():
            for group in self.param_groups:
                lr, momentum = group["lr"], group["momentum"]
                for parameter in group["params"]:
                    velocity = self.state[parameter].setdefault("velocity", torch.zeros_like(parameter))
                    velocity.lerp_(parameter.grad, 1 - momentum)
                    nesterov = parameter.grad.lerp(velocity, momentum)
                    rows, columns = parameter.shape
                    parameter.add_(orthogonalise(nesterov), alpha=-lr * max(1.0, rows / columns) ** 0.5)
