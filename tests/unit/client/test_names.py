"""What the package gives by its own name."""

from __future__ import annotations

import subprocess
import sys

import gradients.client
from gradients.client.aio import AsyncMarketClient
from gradients.client.api import MarketClient


def test_both_clients_are_had_from_the_package() -> None:
    from gradients.client import AsyncMarketClient as Asynchronous
    from gradients.client import MarketClient as Plain

    assert (Asynchronous, Plain) == (AsyncMarketClient, MarketClient)
    assert not hasattr(gradients.client, "Client")


def test_its_models_alone_import_neither() -> None:
    code = "import sys, gradients.client.models; print('gradients.client.api' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert run.stdout == "False\n"
