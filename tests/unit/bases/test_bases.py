"""Base models by name: shipped, in a folder, on a hub; and what is said when there is none."""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from gradients.bases.bases import BaseInfo, BaseModels, HubName, hub_source
from gradients.errors import Blame, DiskFull, ModelUnknown, OperatorError, OutsideError
from gradients.testing.loopback_hub import commit_of, loopback_hub
from gradients.testing.loopback_site import Page, loopback_site
from gradients.testing.tiny_models import write_tiny_llama

TINY_PARAMETERS = 320 * 48 + 48 + 2 * (2 * 48 * 48 + 2 * 24 * 48 + 3 * 128 * 48 + 2 * 48)  # see tiny_models.Shape


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def bases(tmp_path: Path) -> BaseModels:
    return BaseModels(shipped=tmp_path / "shipped", cache=tmp_path / "cache", folders=True)


def test_a_folder_is_a_base(tiny: Path, bases: BaseModels) -> None:
    base = bases.resolve(str(tiny))

    assert (base.folder, base.parameters) == (tiny, TINY_PARAMETERS)
    assert base.digest == bases.resolve(str(tiny)).digest


@pytest.mark.parametrize("form", ["{}", "{}/", "{}/../tiny", "./{}"])
def test_a_folder_is_no_base_where_paths_are_not_allowed(form: str, tiny: Path, bases: BaseModels) -> None:
    """The same is said of a folder with a model, of one without, and of none, so that nobody learns what lies here."""
    strict = replace(bases, folders=False)
    strict.shipped.mkdir()

    problems = set()
    for folder in (tiny, tiny.parent, tiny / "nothing"):
        name = form.format(folder)
        with pytest.raises(ModelUnknown) as caught:
            strict.resolve(name)
        problems.add(str(caught.value).replace(name, "…"))

    assert len(problems) == 1
    assert "folder" not in problems.pop()


def test_a_shipped_base_is_known_by_its_name(tiny: Path, bases: BaseModels) -> None:
    shutil.copytree(tiny, bases.shipped / "tiny")

    assert bases.resolve("tiny").digest == bases.resolve(str(tiny)).digest
    assert bases.names() == ["tiny", "smollm2"]


def test_the_shipped_language_model_is_there() -> None:
    assert BaseModels.default().resolve("nano-lm").parameters > 100_000


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_base_is_another_when_any_file_that_matters_changes(
    name: str, tiny: Path, bases: BaseModels, tmp_path: Path
) -> None:
    copy = shutil.copytree(tiny, tmp_path / "copy")
    before = bases.resolve(str(copy)).digest
    content = bytearray((copy / name).read_bytes())
    content[-2] ^= 1 if name.endswith("safetensors") else 0
    (copy / name).write_bytes(bytes(content) if name.endswith("safetensors") else content + b"\n")

    assert bases.resolve(str(copy)).digest != before


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A pipeline of diffusers in miniature: two networks of 12 and 8 numbers, the first in half precision too."""
    folder = tmp_path / "pipeline"
    for part, name, shape in [
        ("unet", "diffusion_pytorch_model.safetensors", (3, 4)),
        ("unet", "diffusion_pytorch_model.fp16.safetensors", (3, 4)),
        ("text_encoder", "model.safetensors", (2, 4)),
        ("safety_checker", "model.safetensors", (9, 9)),
    ]:
        (folder / part).mkdir(parents=True, exist_ok=True)
        save_file({"weight": np.ones(shape, dtype=np.float32)}, folder / part / name)
        (folder / part / "config.json").write_text("{}")
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    return folder


def test_a_pipeline_is_a_base_of_the_networks_that_draw(pipeline: Path, bases: BaseModels, tiny: Path) -> None:
    base = bases.resolve(str(pipeline))

    assert (base.parameters, base.family) == (12 + 8, "image")
    assert bases.resolve(str(tiny)).family == "language"


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("model_index.json", True),
        ("unet/config.json", True),
        ("text_encoder/config.json", True),
        ("safety_checker/config.json", False),
        ("README.md", False),
    ],
)
def test_a_pipeline_is_another_when_a_part_that_draws_changes(
    name: str, counts: bool, pipeline: Path, bases: BaseModels
) -> None:
    before = bases.resolve(str(pipeline)).digest
    (pipeline / name).write_text('{"changed": 1}')

    assert (bases.resolve(str(pipeline)).digest != before) == counts


def test_a_base_is_the_same_whatever_is_said_about_its_training(tiny: Path, bases: BaseModels, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny, tmp_path / "copy")
    (copy / "training.json").write_text("{}")
    (copy / "README.md").write_text("words")

    assert bases.resolve(str(copy)).digest == bases.resolve(str(tiny)).digest


@pytest.mark.parametrize(
    "name",
    [
        "",
        "unknown",
        "..",
        "/nowhere/at/all",
        "a b/c d",
        "org/name@",
        "https://hub/x",
        "org/na/me",
        "../x",
        "a/..",
        "a/b\n",
    ],
)
def test_a_name_that_nothing_has_is_refused_with_what_there_is(name: str, bases: BaseModels) -> None:
    bases.shipped.mkdir()

    with pytest.raises(ModelUnknown) as caught:
        bases.resolve(name)
    with pytest.raises(ModelUnknown) as seen:
        bases.look(name)

    assert caught.value.blame is Blame.CUSTOMER
    assert str(seen.value) == str(caught.value)


@pytest.mark.parametrize("spoilt", ["config.json", "model.safetensors"])
def test_half_a_base_is_none(spoilt: str, tiny: Path, bases: BaseModels, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny, tmp_path / "copy")
    (copy / spoilt).unlink()

    with pytest.raises(ModelUnknown):
        bases.resolve(str(copy))


def test_a_base_that_cannot_be_read_is_no_miners_fault(tiny: Path, bases: BaseModels, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes(b"\xff" * 100)

    with pytest.raises(ModelUnknown) as caught:
        bases.resolve(str(copy))

    assert caught.value.blame is Blame.CUSTOMER


# ---- hubs


@pytest.fixture
def hub(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A hub on loopback with the model org/tiny, and code beside it that nobody wants; the model's folder there."""
    folder = tmp_path / "hub" / "models" / "org" / "tiny"
    shutil.copytree(tiny, folder)
    (folder / "modeling_evil.py").write_text("raise SystemExit('run')")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04pickle")
    with loopback_hub(tmp_path / "hub") as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield folder


def test_a_base_comes_from_a_hub_without_its_code(hub: Path, tiny: Path, bases: BaseModels) -> None:
    base = bases.resolve("org/tiny")

    assert base.digest == bases.resolve(str(tiny)).digest
    assert {file.suffix for file in base.folder.iterdir()} <= {".safetensors", ".json", ".jinja", ""}
    assert hub_source(base) == HubName("org/tiny", commit_of(hub))


def test_a_base_with_no_word_of_its_commit_is_at_the_revision_that_it_is_called_by(tiny: Path) -> None:
    base = BaseInfo("org/tiny@v1", tiny, "b" * 64, 1)
    assert hub_source(base) == HubName("org/tiny", "v1")
    assert hub_source(replace(base, name="tiny")) is None


def test_a_hub_is_asked_for_the_kind_of_a_base_and_nothing_is_fetched(
    hub: Path, pipeline: Path, bases: BaseModels
) -> None:
    shutil.copytree(pipeline, hub.parent / "drawing")

    assert (bases.look("org/tiny"), bases.look("org/drawing")) == ("language", "image")
    assert not bases.cache.exists()
    assert not bases.is_here("org/tiny")


@pytest.mark.parametrize(
    ("missing", "said"), [("config.json", "neither config.json"), ("model.safetensors", "no *.saf")]
)
def test_a_hub_that_has_no_model_under_a_name_is_found_out_at_a_look(
    missing: str, said: str, hub: Path, bases: BaseModels
) -> None:
    (hub / missing).unlink()

    with pytest.raises(ModelUnknown) as caught:
        bases.look("org/tiny")

    assert said in caught.value.message


@pytest.mark.parametrize("name", ["org/other", "org/tiny@no-such-revision"])
def test_what_a_hub_does_not_have_is_found_out_at_a_look(name: str, hub: Path, bases: BaseModels) -> None:
    with pytest.raises(ModelUnknown):
        bases.look(name)


def test_a_look_at_what_is_here_asks_no_hub(hub: Path, tiny: Path, pipeline: Path, bases: BaseModels) -> None:
    bases.resolve("org/tiny")
    shutil.rmtree(hub)

    assert bases.is_here("org/tiny")
    assert [bases.look(name) for name in ("org/tiny", str(tiny), str(pipeline))] == ["language", "language", "image"]


def test_a_base_that_was_fetched_once_needs_no_hub(hub: Path, bases: BaseModels) -> None:
    first = bases.resolve("org/tiny")
    shutil.rmtree(hub)

    assert bases.resolve("org/tiny") == first


def test_a_base_is_pinned_by_a_revision(hub: Path, bases: BaseModels) -> None:
    pinned = bases.resolve(f"org/tiny@{commit_of(hub)}")

    assert pinned.digest == bases.resolve("org/tiny").digest
    assert pinned.folder != bases.resolve("org/tiny").folder


@pytest.mark.parametrize("name", ["org/other", "org/tiny@no-such-revision", "org--x/..", "a--b/c"])
def test_what_a_hub_does_not_have_is_the_customers_mistake(name: str, hub: Path, bases: BaseModels) -> None:
    with pytest.raises(ModelUnknown) as caught:
        bases.resolve(name)

    assert caught.value.blame is Blame.CUSTOMER
    assert [path.name for path in bases.cache.glob("*") if not path.name.startswith(".")] == []


def test_a_hub_that_does_not_answer_is_the_outsides_fault(
    bases: BaseModels, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.2:9")  # the port of discard, where nobody listens
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))

    for ask in (bases.look, bases.resolve):
        with pytest.raises(OutsideError, match=r"The source of the base org/tiny@main does not answer") as caught:
            ask("org/tiny")

        assert caught.value.blame is Blame.OUTSIDE


def test_a_base_that_finds_no_room_is_the_operators_to_solve_and_goes_on_where_it_was(
    hub: Path, bases: BaseModels, tiny: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # what the kernel then says is what a quota says
    try:
        with pytest.raises(DiskFull, match="There is no room for the base org/tiny@main"):
            bases.resolve("org/tiny")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert not bases.is_here("org/tiny")
    assert (bases.cache / ".org--tiny@main.part").is_dir()
    assert bases.resolve("org/tiny").digest == bases.resolve(str(tiny)).digest


def test_a_cache_that_cannot_be_made_is_the_operators(hub: Path, bases: BaseModels) -> None:
    bases.cache.parent.mkdir(parents=True, exist_ok=True)
    bases.cache.touch()

    with pytest.raises(OperatorError, match="cannot be written"):
        bases.resolve("org/tiny")


def test_a_base_is_fetched_once_however_many_ask(hub: Path, bases: BaseModels) -> None:
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(bases.resolve, ["org/tiny"] * 3))

    assert len({base.digest for base in found}) == 1
    assert [path.name for path in bases.cache.iterdir() if not path.name.startswith(".")] == ["org--tiny@main"]


@contextlib.contextmanager
def recording_hub(heard: list[str]) -> Iterator[str]:
    """A hub that has nothing, points elsewhere for everything, and writes down all that it is told."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(json.dumps([self.path, *self.headers.items()]))
            self.send_response(404)
            self.send_header("Link", f'<http://{self.headers["Host"]}/xet>; rel="xet-auth"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (as the base class calls it)
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.2", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.2:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_no_token_of_ours_goes_to_another_hub(
    bases: BaseModels, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    heard: list[str] = []
    canary = "canary-7c1f"
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text(canary)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "GRADIENTS_API_KEY", "AWS_SECRET_ACCESS_KEY", "BT_WALLET"):
        monkeypatch.setenv(name, canary)
    with recording_hub(heard) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises((ModelUnknown, OutsideError)):
            bases.resolve("org/tiny")

    assert heard
    assert [request for request in heard if canary in request] == []


@pytest.mark.parametrize("factor", [1 / 4, 1 / 2, 1, 2, 7])
def test_a_base_of_about_the_announced_size_is_downloaded(factor: float, hub: Path, bases: BaseModels) -> None:
    """Its files are float16; other precisions and copies are as honest."""
    base = bases.resolve("org/tiny", announced_parameters=round(TINY_PARAMETERS / factor))
    assert base.parameters == TINY_PARAMETERS


@pytest.mark.parametrize("announced", [0, 1, TINY_PARAMETERS // 10, TINY_PARAMETERS * 10, 10**15])
def test_a_base_that_is_far_from_what_was_announced_is_not_downloaded(
    announced: int, hub: Path, bases: BaseModels
) -> None:
    with pytest.raises(ModelUnknown, match="were announced, and it has"):
        bases.resolve("org/tiny", announced_parameters=announced)
    assert not [file for file in bases.cache.rglob("*") if file.suffix == ".safetensors"]
    assert not bases.is_here("org/tiny")


@pytest.mark.parametrize(
    ("sizes", "announced", "error", "said"),
    [
        ({"config.json": 2, "model.safetensors": 400, "junk.json": 2 << 30}, 100, ModelUnknown, "others"),
        ({"config.json": 2, "model.safetensors": None}, 100, ModelUnknown, "does not say how large"),
        ({"config.json": 2, "model.safetensors": 10**15}, None, DiskFull, "are free"),
        ({"config.json": 2, "model.safetensors": 10**15}, 10**15, DiskFull, "are free"),
        ({"config.json": 2, "a.safetensors": 300, "b.safetensors": 10**12}, 100, ModelUnknown, "were announced"),
    ],
)
def test_sizes_are_asked_for_before_any_file(
    sizes: dict[str, int | None],
    announced: int | None,
    error: type[Exception],
    said: str,
    bases: BaseModels,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    siblings = [{"rfilename": name, "size": size} for name, size in sizes.items()]
    about = json.dumps({"id": "org/big", "sha": "a" * 40, "siblings": siblings}).encode()
    with loopback_site(lambda _: Page([about], headers={"Content-Type": "application/json"})) as site:
        monkeypatch.setenv("HF_ENDPOINT", site.url)
        with pytest.raises(error, match=said):
            bases.resolve("org/big", announced_parameters=announced)
    assert [request.path.partition("?")[0] for request in site.requests] == ["/api/models/org/big/revision/main"]
