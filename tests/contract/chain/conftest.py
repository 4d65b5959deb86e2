"""One local chain as a real process for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gradients.testing.chain_process import ChainProcess, chain_process

BLOCK_SECONDS = 0.1


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _sdk_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The SDK keeps each chain's metadata in the home folder unless it is told another one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BITTENSOR_RUNTIME_CACHE_DIR", str(tmp_path_factory.mktemp("sdk-cache")))
        yield


@pytest.fixture(scope="session")
def shared_chain(tmp_path_factory: pytest.TempPathFactory, _sdk_cache: None) -> Iterator[ChainProcess]:
    """Its epochs run only when a test triggers one."""
    folder = tmp_path_factory.mktemp("chain")
    with chain_process(folder, f"--block-seconds={BLOCK_SECONDS}", "--tempo=50000") as chain:
        yield chain
