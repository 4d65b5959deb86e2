"""An auditor with a permit sets the weights that it has recomputed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gradients.audit.auditor import Auditor, Scope
from gradients.audit.setting import set_recomputed
from gradients.domain.chain import Metagraph
from gradients.errors import SetupError
from gradients.record.models import WeightsBody
from gradients.testing.fake_chain import FakeGateway
from tests.unit.audit.cheating import InMemory
from tests.unit.audit.conftest import Published


def test_the_auditors_row_is_the_validators_own(published: Published) -> None:
    chain = published.gateway._chain  # the gateway's: another wallet on the same chain

    async def scenario() -> tuple[dict[int, float], Metagraph]:
        report = await Auditor(InMemory(published.records, published.blobs), Scope(), published.gateway).run()
        auditor: FakeGateway = chain.gateway("auditor")
        await auditor.register()
        ours = chain.graph.by_hotkey("auditor")
        assert ours is not None
        tasks = list(report.bodies.values())
        with pytest.raises(SetupError, match="no validator permit"):
            await set_recomputed(tasks, auditor)
        chain.change(replace(ours, validator_permit=True, stake_alpha=1000.0))
        await chain.advance(chain.graph.weights_rate_limit_blocks)
        assert "were set" in await set_recomputed(tasks, auditor)
        return dict(await auditor.weights_of(ours.uid)), chain.graph

    row, graph = asyncio.run(scenario())
    last = WeightsBody.model_validate([record for record in published.records if record.kind == "weights"][-1].body)
    shares = {neuron.uid: last.shares[neuron.hotkey] for neuron in graph.neurons if neuron.hotkey in last.shares}
    assert row == pytest.approx(shares, abs=2 / 65535)
