"""Gradients: a market for fine-tuning on Bittensor."""

__version__ = "0.1.0"
