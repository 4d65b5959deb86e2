"""See gradients/domain/seeds.py."""

from gradients.domain.seeds import seed

__all__ = ["seed"]
