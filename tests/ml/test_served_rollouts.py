"""Answers of a server: a small one on loopback that speaks as vLLM does, and generates by transformers and peft alone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from gradients.errors import JobFailed, OutsideError
from gradients.ml.adapters import LoraShape, add_adapter, write_adapter
from gradients.ml.base_model import load_base
from gradients.ml.device import Device
from gradients.ml.rollouts import RolloutSettings
from gradients.ml.served_rollouts import RolloutServer
from gradients.tasks.grpo.trainer import train
from gradients.tasks.jobs.training import TrainingPlan, TrainJob, TrainResult

DRAWING = RolloutSettings(samples=3, max_new_tokens=6, temperature=1.0, stop_tokens=(2,), batch_tokens=256)
PROMPTS = [[5, 6, 7], [8, 9, 10, 11]]


class Served(ThreadingHTTPServer):
    """The base, and whatever adapters it was told of."""

    def __init__(self, base: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.base, self.adapters = base, dict[str, Any]()
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.one_at_a_time = threading.Lock()
        self.answers_with: tuple[int, dict[str, Any]] | None = None  # instead of what it should

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def reply(self, path: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.told.append((path, asked))
        if path == "/v1/load_lora_adapter":
            if asked["lora_name"] in self.adapters:  # as vLLM refuses it
                return 400, {"error": f"The lora adapter '{asked['lora_name']}' has already been loaded."}
            if not (Path(asked["lora_path"]) / "adapter_config.json").is_file():
                return 404, {"error": f"No adapter found for {asked['lora_path']}"}
            model = AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32)
            self.adapters[asked["lora_name"]] = PeftModel.from_pretrained(model, asked["lora_path"]).eval()
        elif path == "/v1/unload_lora_adapter":
            if asked["lora_name"] not in self.adapters:
                return 404, {"error": f"The lora adapter '{asked['lora_name']}' cannot be found."}
            del self.adapters[asked["lora_name"]]
        elif self.answers_with is not None:
            return self.answers_with
        else:
            torch.manual_seed(asked["seed"] + sum(asked["prompt"]))
            drawn = (
                self.adapters[asked["model"]]
                .generate(
                    input_ids=torch.tensor([asked["prompt"]]),
                    attention_mask=torch.ones(1, len(asked["prompt"]), dtype=torch.int64),
                    do_sample=True,
                    top_k=asked["top_k"],
                    top_p=asked["top_p"],
                    min_p=asked["min_p"],
                    repetition_penalty=asked["repetition_penalty"],
                    temperature=asked["temperature"],
                    num_return_sequences=asked["n"],
                    max_new_tokens=asked["max_tokens"],
                    eos_token_id=asked["stop_token_ids"],
                    pad_token_id=0,
                )[:, len(asked["prompt"]) :]
                .tolist()
            )
            ended = [_until(answer, asked["stop_token_ids"]) for answer in drawn]
            return 200, {"choices": [{"index": n, "text": "", "token_ids": each} for n, each in enumerate(ended)]}
        return 200, {}


def _until(answer: list[int], stop: list[int]) -> list[int]:
    end = next((place for place, token in enumerate(answer) if token in stop), len(answer))
    return answer[: end + 1]


class Handler(BaseHTTPRequestHandler):
    server: Served

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.one_at_a_time:
            status, told = self.server.reply(self.path, asked)
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def served(base_folder: Path) -> Iterator[Served]:
    with Served(base_folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_answers_come_from_the_adapter_as_it_is(served: Served, base_folder: Path, tmp_path: Path) -> None:
    model = add_adapter(load_base(base_folder, Device("cpu")).model, LoraShape(rank=4, alpha=8.0))
    with RolloutServer(served.url + "/", folder=tmp_path, task="a-task") as server:
        groups = server.draw(model, PROMPTS, DRAWING, seed=7)
        assert [[rollout.prompt for rollout in group] for group in groups] == [[prompt] * 3 for prompt in PROMPTS]
        assert all(1 <= len(rollout.completion) <= 6 for group in groups for rollout in group)
        assert all(rollout.finished == (rollout.completion[-1] == 2) for group in groups for rollout in group)
        assert server.draw(model, PROMPTS, DRAWING, seed=7) == groups
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.fill_(0.3)
        assert server.draw(model, PROMPTS, DRAWING, seed=7) != groups
    assert served.adapters == {}
    assert list(tmp_path.iterdir()) == []


def loads(served: Served) -> list[str]:
    return [told["lora_name"] for path, told in served.told if path == "/v1/load_lora_adapter"]


def test_two_tasks_and_a_process_after_a_kill_share_a_server(served: Served, base_folder: Path, tmp_path: Path) -> None:
    model = add_adapter(load_base(base_folder, Device("cpu")).model, LoraShape(rank=2, alpha=4.0))
    killed = str(tmp_path / "one" / "one-0a0b0c0d-7")
    Path(killed).mkdir(parents=True)
    write_adapter(model, Path(killed), base_name="base")
    assert served.reply("/v1/load_lora_adapter", {"lora_name": "one-0a0b0c0d-7", "lora_path": killed})[0] == 200
    with (
        RolloutServer(served.url, folder=tmp_path / "one", task="one") as first,
        RolloutServer(served.url, folder=tmp_path / "one", task="one") as second,
        RolloutServer(served.url, folder=tmp_path / "two", task="two") as third,
    ):
        answers = [server.draw(model, PROMPTS, DRAWING, seed=7) for server in (first, second, third, first)]
    assert answers == [answers[0]] * 4
    assert len(set(loads(served))) == len(loads(served)) == 5
    assert served.adapters == {}  # that of the killed process neither
    assert [name.rsplit("-", 2)[0] for name in loads(served)] == ["one", "one", "one", "two", "one"]


def test_a_server_that_was_started_anew_has_nothing_to_unload(
    served: Served, base_folder: Path, tmp_path: Path
) -> None:
    model = add_adapter(load_base(base_folder, Device("cpu")).model, LoraShape(rank=2, alpha=4.0))
    (tmp_path / "one-0a0b0c0d-7").mkdir()
    with RolloutServer(served.url, folder=tmp_path, task="one") as server:
        assert len(server.draw(model, PROMPTS, DRAWING, seed=7)) == len(PROMPTS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("answers_with", "said"),
    [
        ((404, {"error": "no such model"}), "404: .*no such model"),
        ((200, {"choices": [{"text": "words only"}]}), "no tokens"),
        ((200, {"choices": [{"token_ids": [4]}]}), "1 answers of 3"),
    ],
)
def test_a_server_that_does_not_answer_is_the_outsides_fault(
    served: Served, base_folder: Path, tmp_path: Path, answers_with: tuple[int, dict[str, Any]], said: str
) -> None:
    served.answers_with = answers_with
    model = add_adapter(load_base(base_folder, Device("cpu")).model, LoraShape(rank=2, alpha=4.0))
    with RolloutServer(served.url, folder=tmp_path, task="a-task") as server, pytest.raises(OutsideError, match=said):
        server.draw(model, PROMPTS, DRAWING, seed=7)


def test_a_server_that_is_not_there_is_named(base_folder: Path, tmp_path: Path) -> None:
    model = add_adapter(load_base(base_folder, Device("cpu")).model, LoraShape(rank=2, alpha=4.0))
    nobody = RolloutServer("http://127.0.0.1:9/v1", folder=tmp_path, task="a-task")
    with nobody as server, pytest.raises(OutsideError, match="load_lora_adapter: ConnectError") as caught:
        server.draw(model, PROMPTS, DRAWING, seed=7)
    assert "rollout_server" in (caught.value.fix or "")


def job(base: Path, folder: Path, **plan: object) -> TrainJob:
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"Say something about {n}"}) + "\n" for n in range(24)))
    settings = {"recipe": "test", "method": "lora", "learning_rate": 1e-2, "max_epochs": 2.0, **plan}
    return TrainJob(
        base_folder=base,
        train_file=rows,
        parameters={"rewards": [{"kind": "length", "at_most": 12}], "max_new_tokens": 8, "beta": 0.01},
        plan=TrainingPlan.model_validate(settings),
        seed=3,
        deadline_unix=time.time() + 900,
        checkpoint_folder=folder / "checkpoint",
        output_folder=folder / "output",
    )


@pytest.mark.parametrize("engine", ["ours", "trl"])
def test_a_training_draws_its_answers_there(served: Served, base_folder: Path, tmp_path: Path, engine: str) -> None:
    asked = job(base_folder, tmp_path, engine=engine, options={"answers": 4, "rollout_server": served.url})
    result = TrainResult.model_validate(train(asked.model_dump(mode="json"), lambda _: None))
    drawn = [told for path, told in served.told if path == "/v1/completions"]
    assert len(loads(served)) == result.steps
    assert served.adapters == {}
    assert len(drawn) == result.rows_seen
    assert {told["n"] for told in drawn} == {4}
    assert (asked.output_folder / "adapter_model.safetensors").is_file()


def test_all_weights_are_not_drawn_from_elsewhere(base_folder: Path, tmp_path: Path) -> None:
    asked = job(base_folder, tmp_path, method="full", options={"rollout_server": "http://127.0.0.1:9/v1"})
    with pytest.raises(JobFailed, match="adapters, not all weights") as caught:
        train(asked.model_dump(mode="json"), lambda _: None)
    assert caught.value.code == "engine_unfit"
