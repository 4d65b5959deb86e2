"""What leaves the system is used with a stranger's tools, in processes that find none of our code."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from gguf import GGUFReader, dequantize

from gradients.bases.bases import BaseInfo, base_in
from gradients.client.exporting import convert, converter_command
from gradients.errors import JobFailed
from gradients.ml.base_model import load_base
from gradients.ml.continuing import write_language_base
from gradients.ml.device import Device
from gradients.ml.submission import applied
from gradients.testing.hub_uploads import CREATED
from gradients.testing.loopback_hub import commit_of, loopback_hub
from tests.e2e.delivered import (
    BEST,
    SECOND,
    STORE_KEYS,
    Customer,
    a_stranger_runs,
    adapter,
    base_with_pieces,
    customer_of,
    full_model,
    image_lora,
    nano,
    s3_store,
)

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# As docs/delivery.md calls them.
TASK, OTHER = "instruct-d513668f7a5f", "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty"
TOKEN = {"HF_TOKEN": "hf_customers", "HF_HUB_DISABLE_XET": "1"}


@pytest.fixture(scope="module")
def repos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, base = tmp_path_factory.mktemp("repos"), nano()
    return {BEST: adapter(folder / BEST, base), SECOND: full_model(folder / SECOND, base)}


@pytest.fixture
def customer(repos: dict[str, Path], tmp_path: Path) -> Iterator[Customer]:
    with customer_of(repos, nano(), tmp_path) as somebody:
        yield somebody


def _card_code(folder: Path) -> str:
    [code] = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    return str(code)


def test_an_adapter_of_a_base_that_no_hub_has_loads_by_itself_and_by_its_cards_lines_where_it_was_moved_to(
    customer: Customer,
) -> None:
    folder = customer.downloads()
    assert folder.name == f"{customer.task_id}-{BEST}"
    assert "evil" not in "".join(file.read_text() for file in folder.iterdir() if file.suffix in (".json", ".md"))
    printed = a_stranger_runs(
        "import os\n"
        "from peft import AutoPeftModelForCausalLM\n"
        "from transformers import AutoTokenizer\n"
        f"model = AutoPeftModelForCausalLM.from_pretrained({str(folder)!r})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({str(folder)!r})\n"
        "chat = tokenizer.apply_chat_template([{'role': 'user', 'content': 'Hi'}], tokenize=False)\n"
        "print(model.peft_config['default'].task_type, repr(chat))\n"
        f"os.rename({str(folder)!r}, 'moved')\n"
        "os.chdir('moved')\n" + _card_code(folder),
        customer.home,
    )
    found, _, answer = printed.partition("\n")
    assert found == "CAUSAL_LM '<|im_start|>user\\nHi<|im_end|>\\n'"
    assert answer.strip()


def test_a_full_model_in_parts_is_the_customers_own_and_stands_beside_the_best(customer: Customer) -> None:
    best, second = customer.downloads(), customer.downloads("--miner", SECOND)
    assert {best, second} == set(customer.models.iterdir())
    printed = a_stranger_runs(
        _card_code(second) + "\nprint(model.num_parameters(), model.generation_config.top_p)", second
    )
    assert printed.splitlines()[-1] == f"{nano().parameters} 0.95"
    assert not (second / "base").exists()


def test_a_base_that_is_not_the_one_that_was_measured_is_not_put_beside_its_adapter(
    repos: dict[str, Path], tmp_path: Path
) -> None:
    base = nano()
    other = BaseInfo(base.name, base.folder, "0" * 64, base.parameters)
    with customer_of(repos, other, tmp_path) as customer:
        said = customer.runs("task", "download", customer.task_id, fails=True)
        assert "not the one that the model was measured on" in said
        assert not customer.models.exists()
        assert not (customer.downloads("--without-base") / "base").exists()


def test_a_model_that_goes_on_from_another_brings_the_base_that_only_its_validator_has(tmp_path: Path) -> None:
    first = nano()
    (made := tmp_path / "made").mkdir()
    write_language_base(first.folder, adapter(tmp_path / "first", first), made)
    base = base_in("task:chat-00000000000a", made)
    repos = {BEST: adapter(tmp_path / BEST, base, seed=6), SECOND: full_model(tmp_path / SECOND, base)}
    with customer_of(repos, base, tmp_path / "home") as customer:
        folder, whole = customer.downloads(), customer.downloads("--miner", SECOND)
        merged = Path(json.loads(customer.runs("task", "export", customer.task_id, "--merged", "--json"))["folder"])
        said = customer.runs("task", "chat", customer.task_id, "--prompt", "Hi", "--max-new-tokens", "4")
    assert "base:" in said
    assert "`nano-lm` → `chat-00000000000a`" in (folder / "README.md").read_text()
    assert base_in(base.name, folder / "base").digest == base_in(base.name, whole / "base").digest == base.digest
    printed = a_stranger_runs(
        "import torch\n"
        "from peft import AutoPeftModelForCausalLM\n"
        "from transformers import AutoModelForCausalLM\n"
        "tokens = torch.arange(4, 200).unsqueeze(0)\n"
        f"parts = AutoPeftModelForCausalLM.from_pretrained({str(folder)!r}, dtype=torch.float32)\n"
        "models = [AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)\n"
        f"    for name in ({str(merged)!r}, {str(folder / 'base')!r}, {str(first.folder)!r}, {str(whole)!r})]\n"
        "with torch.inference_mode():\n"
        "    print(*(float(each(tokens, labels=tokens).loss) for each in (parts, *models)))\n" + _card_code(folder),
        folder,
    )
    apart, together, between, at_first, full = map(float, printed.splitlines()[0].split())
    assert together == pytest.approx(apart, abs=2e-3)  # rounded once more
    assert len({round(each, 2) for each in (apart, between, at_first, full)}) == 4


def test_a_lora_of_an_image_model_loads_with_its_pipeline(tmp_path: Path) -> None:
    base = nano("nano-image")
    repo = image_lora(tmp_path / "repo", base)
    with customer_of({BEST: repo}, base, tmp_path / "home", task_id="diffusion-000000000001") as customer:
        folder = customer.downloads()
        code = _card_code(folder).replace('"a lighthouse"', '"a lighthouse", num_inference_steps=2')
        printed = a_stranger_runs(code + "\nprint(image.size, pipeline.get_list_adapters())", folder)
    assert "(32, 32)" in printed
    assert "'unet'" in printed


def test_a_merged_model_needs_no_base_and_computes_what_adapter_and_base_compute(customer: Customer) -> None:
    """Half precision rounds each weight by 2^-11 of it at most."""
    folder = Path(json.loads(customer.runs("task", "export", customer.task_id, "--merged", "--json"))["folder"])
    assert folder == customer.models / f"{customer.task_id}-{BEST}-merged"
    assert os.access(folder / "serve-vllm.sh", os.X_OK)
    printed = a_stranger_runs(
        _card_code(folder) + "\n"
        "import torch\n"
        "from peft import AutoPeftModelForCausalLM\n"
        f"parts = AutoPeftModelForCausalLM.from_pretrained({str(customer.models / f'{customer.task_id}-{BEST}')!r}, dtype=torch.float32)\n"
        "tokens = torch.arange(4, 200).unsqueeze(0)\n"
        "with torch.inference_mode():\n"
        "    print(*(float(each(tokens, labels=tokens).loss) for each in (model.float(), parts)))",
        folder,
    )
    merged, apart = map(float, printed.splitlines()[-1].split())
    assert merged == pytest.approx(apart, abs=2e-3)


class Documented(NamedTuple):
    """What the commands of docs/delivery.md have left, and what each has printed."""

    customer: Customer
    base: BaseInfo
    repo: Path  # the winner's
    hub: Path
    fetched: Path  # what was in the bucket
    printed: dict[str, str]


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Documented:
    """Every command of the document, in its order and as it stands there."""
    place = tmp_path_factory.mktemp("documented")
    base = base_with_pieces(place / "base")
    repos = {BEST: adapter(place / "repos" / BEST, base), OTHER: adapter(place / "repos" / OTHER, base, seed=6)}
    text = (ROOT / "docs" / "delivery.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    hub, printed = place / "hub", dict[str, str]()
    with (
        loopback_hub(hub, uploads=True) as url,
        s3_store() as (store, address),
        customer_of(repos, base, place / "home", task_id=TASK) as customer,
    ):
        store.create_bucket(Bucket="acme-models")
        theirs = {**TOKEN, "HF_ENDPOINT": url, **STORE_KEYS, "AWS_ENDPOINT_URL_S3": address}
        for line in "".join(blocks).splitlines():
            program, *arguments = shlex.split(line)
            assert program == "gradients"
            printed[" ".join(arguments[:2])] = customer.runs(*arguments, variables=theirs)
        for each in store.list_objects_v2(Bucket="acme-models")["Contents"]:
            file = place / "fetched" / each["Key"]
            file.parent.mkdir(parents=True, exist_ok=True)
            store.download_file("acme-models", each["Key"], str(file))
    return Documented(customer, base, repos[BEST], hub, place / "fetched" / "support-bot", printed)


def test_the_documents_commands_leave_what_it_says(documented: Documented) -> None:
    folders = {folder.name for folder in documented.customer.models.iterdir()}
    assert folders == {f"{TASK}-{BEST}", f"{TASK}-{OTHER}", f"{TASK}-{BEST}-merged", f"{TASK}-{BEST}-gguf"}
    assert "winner:" in documented.printed["task chat"]
    assert all(who in documented.printed["task compare"] for who in ("base model", "uid 1", "uid 2"))
    pushed = documented.hub / "models" / "acme" / "support-bot"
    merged = documented.customer.models / f"{TASK}-{BEST}-merged"
    assert {file.name for file in pushed.iterdir()} == {file.name for file in merged.iterdir()}
    assert (pushed / "model.safetensors").read_bytes() == (merged / "model.safetensors").read_bytes()


def test_an_adapter_in_a_store_lies_beside_its_base_and_loads_from_where_it_was_fetched_to(
    documented: Documented,
) -> None:
    fetched = documented.fetched
    assert json.loads((fetched / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"
    assert not (fetched / "task.json").exists()
    assert a_stranger_runs(_card_code(fetched), fetched).strip()


def test_a_gguf_file_holds_the_merged_weights_the_tokens_and_the_template(documented: Documented) -> None:
    """Eight bits hold a weight within 1/254 of the largest of its 32 neighbours."""
    base, folder = documented.base, documented.customer.models / f"{TASK}-{BEST}-gguf"
    name = f"{TASK}-{BEST}-q8_0.gguf"
    assert {file.name for file in folder.iterdir()} == {name, "Modelfile", "README.md", "serve-llama.cpp.sh"}
    assert (folder / "Modelfile").read_text().startswith(f"FROM ./{name}\nTEMPLATE")
    reader = GGUFReader(folder / name)
    assert reader.fields["general.architecture"].contents() == "llama"
    template = str(reader.fields["tokenizer.chat_template"].contents())
    assert template == json.loads((base.folder / "tokenizer_config.json").read_text())["chat_template"]
    tokens = json.loads((base.folder / "tokenizer.json").read_text())["model"]["vocab"]
    assert reader.fields["tokenizer.ggml.tokens"].contents()[259:300] == [*tokens][259:300]
    [embeddings, changed] = [
        dequantize(each.data, each.tensor_type)
        for name in ("token_embd.weight", "blk.1.ffn_down.weight")
        for each in reader.tensors
        if each.name == name
    ]
    loaded = load_base(base.folder, Device("cpu"))
    assert np.array_equal(embeddings, loaded.model.get_parameter("model.embed_tokens.weight").numpy())
    down = "model.layers.1.mlp.down_proj.weight"
    untouched = loaded.model.get_parameter(down).numpy().copy()
    with applied(loaded.model, documented.repo):
        tuned = loaded.model.get_parameter(down).detach().numpy().copy()
    rounding = np.abs(tuned).max() / 254 + np.abs(tuned).max() / 2048
    assert np.abs(changed - tuned).max() <= rounding < np.abs(changed - untouched).max()


def test_a_converter_that_does_not_know_the_tokenizer_says_so(tmp_path: Path) -> None:
    """llama.cpp knows tokenizers of this kind by a list, and the one of this small base is not on it."""
    with pytest.raises(JobFailed, match="BPE pre-tokenizer was not recognized") as failed:
        convert(converter_command(), nano().folder, tmp_path / "nano.gguf", "f16")
    assert "--merged" in str(failed.value.fix)


def _with_commit(base: BaseInfo, name: str, commit: str, folder: Path) -> BaseInfo:
    """A base as it is when it was fetched from a hub under a name without a revision."""
    shutil.copytree(base.folder, folder)
    (folder / "hub-commit").write_text(commit)
    return replace(base, name=name, folder=folder)


def test_an_adapter_is_pushed_to_a_hub_and_loads_from_there_with_its_base_at_its_revision(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    shutil.copytree(nano().folder, hub / "models" / "acme" / "base")
    base = _with_commit(nano(), "acme/base", commit_of(hub / "models" / "acme" / "base"), tmp_path / "base")
    repo = adapter(tmp_path / "repo", base)
    with loopback_hub(hub, uploads=True) as url, customer_of({BEST: repo}, base, tmp_path / "home") as customer:
        hubs = {**TOKEN, "HF_ENDPOINT": url}
        folder = customer.downloads()
        assert not (folder / "base").exists()
        config = (folder / "adapter_config.json").read_bytes()
        pushed = customer.runs("task", "push", customer.task_id, "--to", "hub:acme/tuned", "--json", variables=hubs)
        assert json.loads(pushed) == {"address": f"{url}/acme/tuned"}
        printed = a_stranger_runs(
            "from peft import AutoPeftModelForCausalLM\n"
            "from transformers import AutoTokenizer\n"
            "model = AutoPeftModelForCausalLM.from_pretrained('acme/tuned')\n"
            "print(model.peft_config['default'].base_model_name_or_path, len(AutoTokenizer.from_pretrained('acme/tuned')))",
            tmp_path,
            **{**hubs, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "cache")},
        )
        for token in ("", "wrong"):
            said = customer.runs(
                "task",
                "push",
                customer.task_id,
                "--to",
                "hub:acme/other",
                fails=True,
                variables={**hubs, "HF_TOKEN": token},
            )
            assert "Set HF_TOKEN to a token that may write there" in said
    assert printed == "acme/base 2048\n"
    pushed_config = json.loads((hub / "models" / "acme" / "tuned" / "adapter_config.json").read_bytes())
    assert pushed_config == json.loads(config)
    assert pushed_config["revision"] == commit_of(hub / "models" / "acme" / "base")
    asked = json.loads((hub / CREATED / "acme--tuned.json").read_text())
    assert asked.get("private") is True or asked.get("visibility") == "private"
    assert not (hub / "models" / "acme" / "tuned" / "task.json").exists()
    assert (hub / "models" / "acme" / "tuned" / "adapter_model.safetensors").read_bytes() == (
        folder / "adapter_model.safetensors"
    ).read_bytes()


def test_what_cannot_be_used_where_it_would_go_is_not_pushed(customer: Customer) -> None:
    refused = customer.runs("task", "push", customer.task_id, "--to", "hub:acme/tuned", fails=True)
    assert "nobody could load an adapter of it from there. Push with --merged" in refused
    assert "is not a place for models" in customer.runs(
        "task", "push", customer.task_id, "--to", "acme/tuned", fails=True
    )


def test_base_and_miners_are_asked_side_by_side(customer: Customer) -> None:
    asked = ("task", "compare", customer.task_id, "Give me a quote about work.", "--max-new-tokens", "8", "--json")
    answers = json.loads(customer.runs(*asked))["answers"]
    assert list(answers) == ["base", BEST, SECOND]
    assert answers["base"] != answers[BEST]
