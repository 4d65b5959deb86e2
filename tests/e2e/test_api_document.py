"""What docs/api.md shows works as it stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest

from gradients.domain.customer import Scope
from tests.e2e.api_market import Market

TEXT = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_documents_python_runs_as_it_stands_there(
    market: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one namespace, from top to bottom, against a served API; its base is called tiny here, and its task is taken back."""
    rows = [{"instruction": f"Which letter has number {i}?", "output": f"It is letter {i}"} for i in range(80)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.chdir(tmp_path)
    key = market.ledger.customers.issue("acme", scopes=[Scope.READ, Scope.SUBMIT])
    names: dict[str, object] = {"URL": market.url, "KEY": key}
    for block in BLOCKS:
        names["TASK"] = market.ledger.tasks.list(limit=1)[0].id if market.ledger.tasks.count() else ""
        source = block.replace('"nano-lm"', '"tiny"').replace('search="nano"', 'search="tiny"')
        exec(compile(source, "docs/api.md", "exec"), names)
    printed = capsys.readouterr().out
    assert len(BLOCKS) == 4
    assert "The base is fetched and the data are prepared" in printed
    assert "cancelled Cancelled before miners were drawn" in printed
    assert "[1.0, 0.0]" in printed


def test_the_documents_paths_codes_and_limits_are_the_apis(market: Market) -> None:
    document = market.acme.get("/openapi.json").json()
    named = {re.sub(r"\{\w+\}", "{}", path) for path in re.findall(r"`(?:GET|POST|DELETE) (/v1/[^` ]*)`", TEXT)}
    known = {re.sub(r"\{\w+\}", "{}", path) for path in document["paths"]}
    assert named <= known
    assert len(named) >= 5
    refusal = json.loads(re.findall(r"```json\n(.*?)```", TEXT, flags=re.DOTALL)[0])
    assert set(refusal) == {"code", "message", "fix"}
    settings = (Path(__file__).parents[2] / "configs" / "validator.toml").read_text(encoding="utf-8")
    for setting, value in re.findall(r"\| `(\w+)` \| (\d+) \|", TEXT):
        assert re.search(rf"^#? ?{setting} = {value}$", settings, flags=re.MULTILINE), setting
    assert httpx.get(f"{market.url}/v1/account", timeout=120, trust_env=False).json()["code"] == "key_refused"
