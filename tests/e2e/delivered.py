"""A validator's answers about one scored task, made by the code that makes them there, and the commands of its customer."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import boto3
import torch
from moto.server import ThreadedMotoServer
from tokenizers import Tokenizer, decoders, models, normalizers, trainers
from transformers import AutoModelForCausalLM

from gradients.bases.bases import SHIPPED, BaseInfo, BaseModels, files_of
from gradients.bases.continued import continued_task
from gradients.client.stored import BaseFiles, ModelFile, ModelListing
from gradients.domain.evaluation import Metric
from gradients.files.digest import file_sha256
from gradients.ml.adapters import LoraShape, add_adapter, write_adapter
from gradients.ml.device import choose_device
from gradients.ml.diffusion_lora import add_lora, write_lora
from gradients.ml.pipelines import load_image_base
from gradients.repo.card import Merit, Result
from gradients.repo.delivery import Delivery, delivery
from gradients.repo.manifest import TrainingSummary, describe_folder
from gradients.testing.loopback_site import Page, loopback_site, pages
from gradients.testing.tiny_models import Shape, write_tiny_llama
from tests.unit.client import answers

BEST, SECOND = "5Winner", "5Second"
METRIC = Metric("completion cross-entropy", "nats/token", 1, "lower")


def nano(name: str = "nano-lm") -> BaseInfo:
    """A base that ships, as every customer has it."""
    return BaseModels.default().resolve(name)


def adapter(folder: Path, base: BaseInfo, *, seed: int = 5) -> Path:
    """The repo of a LoRA that changes every layer."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    adapted = add_adapter(model, LoraShape(rank=4, alpha=8.0))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    folder.mkdir(parents=True)
    write_adapter(adapted, folder, base_name="evil/base")
    (folder / "README.md").write_text("evil")
    return folder


def full_model(folder: Path, base: BaseInfo) -> Path:
    """The repo of a full fine-tune."""
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.01)
    model.save_pretrained(folder, max_shard_size="2MB")
    (folder / "generation_config.json").unlink()
    return folder


def image_lora(folder: Path, base: BaseInfo) -> Path:
    """The repo of a LoRA of an image model."""
    loaded = load_image_base(base.folder, choose_device())
    add_lora(loaded, LoraShape(rank=2, alpha=2.0), targets="attention", text_encoders=False)
    folder.mkdir(parents=True)
    write_lora(loaded, folder, LoraShape(rank=2, alpha=2.0))
    return folder


def delivered(repo: Path, base: BaseInfo, *, hotkey: str, task_id: str) -> Delivery:
    """What a validator delivers of a repo."""
    kind: Literal["adapter", "full"] = "full" if (repo / "config.json").exists() else "adapter"
    summary = TrainingSummary()
    about = describe_folder(repo, task_id=task_id, hotkey=hotkey, base_digest=base.digest, kind=kind, training=summary)
    merit = Merit(
        task_id=task_id,
        task_type=task_id.partition("-")[0],
        hotkey=hotkey,
        metric=METRIC,
        hours=1.5,
        train_rows=2_000,
        held_out_rows=100,
        ours=Result(2.5, 0.1),
        base=Result(3.0, 0.2),
        before=("nano-lm", before) if (before := continued_task(base.name)) else (),
    )
    return delivery(repo, about, base, merit)


@dataclass(frozen=True, slots=True)
class Customer:
    """Somebody with a key for the validator and a folder of models."""

    url: str
    home: Path
    task_id: str

    @property
    def models(self) -> Path:
        """Where downloads go."""
        return self.home / "models"

    def runs(self, *arguments: str, fails: bool = False, variables: Mapping[str, str] | None = None) -> str:
        """What `gradients ARGUMENTS` prints; what it complains of when it is to fail."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "AWS_"))},
            "HOME": str(self.home),
            "GRADIENTS_API_URL": self.url,
            "GRADIENTS_API_KEY": "gr_key",
            "GRADIENTS_MODELS": str(self.models),
            "OMP_NUM_THREADS": "1",
            **(variables or {}),
        }
        run = subprocess.run(
            [sys.executable, "-m", "gradients.cli", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=1200,
            env=environment,
        )
        assert (run.returncode != 0) == fails, run.stdout + run.stderr
        return run.stderr if fails else run.stdout

    def downloads(self, *options: str) -> Path:
        """The folder of a model that was downloaded."""
        told = json.loads(self.runs("task", "download", self.task_id, "--json", *options))
        return Path(told["folder"])


@contextlib.contextmanager
def customer_of(
    repos: Mapping[str, Path], base: BaseInfo, home: Path, *, task_id: str = "instruct-000000000001"
) -> Iterator[Customer]:
    """A customer whose task is scored with these miners, best first; their repos by hotkey."""
    miners = [
        answers.miner(hotkey=hotkey, uid=place, rank=place, repo=f"/v1/tasks/{task_id}/models/{hotkey}")
        for place, hotkey in enumerate(repos, start=1)
    ]
    data = {
        "train_rows": 2_000,
        "held_out_rows": 100,
        "made_up_rows": 0,
        "removed": {},
        "train_sha256": "c" * 64,
        "held_out_commitment": "d" * 64,
        "base_digest": base.digest,
        "base_parameters": base.parameters,
    }
    task = answers.task(*miners, id=task_id, type=task_id.partition("-")[0], base=base.name, data=data)
    path = f"/v1/tasks/{task_id}"
    served = {path: Page([task.model_dump_json().encode()])}
    for hotkey, repo in repos.items():
        files = _contents(repo, delivered(repo, base, hotkey=hotkey, task_id=task_id))
        listed = {
            name: ModelFile(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
            for name, content in files.items()
        }
        listing = Page([ModelListing(hotkey=hotkey, files=listed).model_dump_json().encode()])
        served[f"{path}/models/{hotkey}"] = listing
        served.setdefault(f"{path}/models/best", listing)
        served |= {f"{path}/models/{hotkey}/{name}": Page([content]) for name, content in files.items()}
    if continued_task(base.name):
        found = files_of(base.folder)
        listed = {
            name: ModelFile(sha256=file_sha256(file), size_bytes=file.stat().st_size) for name, file in found.items()
        }
        of_base = BaseFiles(base=base.name, digest=base.digest, files=listed)
        served[f"{path}/base"] = Page([of_base.model_dump_json().encode()])
        served |= {f"{path}/base/{name}": Page([file.read_bytes()]) for name, file in found.items()}
    with loopback_site(pages(served)) as site:
        yield Customer(site.url, home, task_id)


def _contents(repo: Path, model: Delivery) -> dict[str, bytes]:
    return {
        **{name: (repo / name).read_bytes() for name in model.weights},
        **model.written,
        **{name: file.read_bytes() for name, file in model.of_base.items()},
    }


OURS = Path(SHIPPED).parent.parent.parent  # the checkout, or what our packages are installed in
_STRANGER = f"""
import sys
sys.path[:] = [path for path in sys.path if path not in ("", {str(OURS)!r}) or path.endswith("site-packages")]
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("gradients", "validator", "miner"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""


def a_stranger_runs(code: str, folder: Path, **variables: str) -> str:
    """What Python code prints in a process that finds none of our code, started in `folder`."""
    run = subprocess.run(
        [sys.executable, "-I", "-c", _STRANGER + code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **variables},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


def base_with_pieces(folder: Path) -> BaseInfo:
    """A tiny Llama whose tokenizer is of the kind that Llama 2 and Mistral have, which llama.cpp's converter knows by its form."""
    write_tiny_llama(folder, shape=Shape(vocabulary=400))
    pieces = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    pieces.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    pieces.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    pieces.train_from_iterator(["a lighthouse stands where ships find shelter from the weather " * 4], trainer)
    pieces.add_tokens([f"<filler{number}>" for number in range(400 - pieces.get_vocab_size())])
    pieces.save(str(folder / "tokenizer.json"))
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
    (folder / "tokenizer_config.json").write_text(json.dumps({**told, "chat_template": template}))
    return BaseModels.default(folders=True).resolve(str(folder))


STORE_KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@contextlib.contextmanager
def s3_store() -> Iterator[tuple[Any, str]]:  # Any: boto3 makes its clients' classes at run time
    """A client of an empty S3 store, and the store's address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    store = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    try:
        yield store, f"http://{host}:{port}"
    finally:
        store.close()
        server.stop()
