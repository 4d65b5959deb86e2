"""What leaves the system is used with a stranger's tools, in processes that find none of our code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradients.bases.bases import BaseInfo
from tests.e2e.delivered import (
    BEST,
    SECOND,
    Customer,
    a_stranger_runs,
    adapter,
    customer_of,
    full_model,
    image_lora,
    nano,
)

pytestmark = pytest.mark.slow


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


def test_a_lora_of_an_image_model_loads_with_its_pipeline(tmp_path: Path) -> None:
    base = nano("nano-image")
    repo = image_lora(tmp_path / "repo", base)
    with customer_of({BEST: repo}, base, tmp_path / "home", task_id="diffusion-000000000001") as customer:
        folder = customer.downloads()
        code = _card_code(folder).replace('"a lighthouse"', '"a lighthouse", num_inference_steps=2')
        printed = a_stranger_runs(code + "\nprint(image.size, pipeline.get_list_adapters())", folder)
    assert "(32, 32)" in printed
    assert "'unet'" in printed
