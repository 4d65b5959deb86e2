"""Manifests, names, configs and floods that a hostile miner may hand in: each is refused, as the miner's fault, with a code, in no time.

What only a worker with the base at hand can see (tensors that are not the base's, NaN, what an adapter does) is in tests/ml.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradients.bases.bases import BaseInfo
from gradients.errors import ModelUnknown, SubmissionRejected
from gradients.files.safetensors_header import MAX_TENSORS
from gradients.repo.manifest import MAX_FILES, Manifest, is_file_name, parse_manifest
from gradients.repo.screening import MAX_JSON_BYTES, screen_folder, screen_manifest
from gradients.testing.rejections import check_rejection, rejection_of

DIGEST = "ab" * 32
TENSOR = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
ODD: list[object] = [
    None,
    True,
    False,
    -1,
    2**53,
    2**64,
    10**400,
    1.0,
    1e308,
    "",
    "4",
    "F32",
    [],
    {},
    [[]],
    {"a": 1},
    "\ud800",
]


def safetensors(header: object, payload: bytes = b"\0" * 16) -> bytes:
    """A file with this header, bytes as they are and anything else as JSON."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + payload


def written(folder: Path, content: bytes, name: str = "model.safetensors") -> Path:
    file = folder / name
    file.write_bytes(content)
    return file


VALID = safetensors({"w": TENSOR})

# ---- manifests


def manifest_value(**changes: object) -> dict[str, object]:
    value = {
        "format": "gradients-repo/1",
        "task_id": "instruct-0123456789ab",
        "hotkey": "5" * 48,
        "base_digest": DIGEST,
        "kind": "adapter",
        "files": files("adapter_config.json", "adapter_model.safetensors"),
        "training": {"recipe": "lora", "steps": 1},
    }
    return value | changes


def files(*names: str, size_bytes: int = 10) -> dict[str, object]:
    return {name: {"sha256": DIGEST, "size_bytes": size_bytes} for name in names}


def manifest_text(**changes: object) -> str:
    return json.dumps(manifest_value(**changes))


def with_file(**changes: object) -> str:
    return manifest_text(files={"model.safetensors": {"sha256": DIGEST, "size_bytes": 1} | changes})


NAMES = [
    "", ".", "..", "../model.safetensors", "a/../b", "a/b", "/etc/passwd", "//host/share", "C:\\x", "..\\x", "a\\b", "~", "~/x", "$HOME",
    ".bashrc", ".git", "a\0b", "a\nb", "a b", " a", "a ", "a\tb", "a:b", "a*", "a?", "a|b", "<a>", '"a"', "`a`", "a;b", "a&b", "%2e%2e%2fa",
    "a" * 97, "é.json", "e\u0301.json", "model\u200b.safetensors", "\u202esrotsnetefas.ledom", "model．safetensors",  # noqa: RUF001
    "\ud800", "CON:", "-\n",
]  # fmt: skip
NEEDED = ("task_id", "hotkey", "base_digest", "kind", "files")
MANIFESTS: dict[str, str] = {
    **{f"a name {name!a:.40}": manifest_text(files={name: {"sha256": DIGEST, "size_bytes": 1}}) for name in NAMES},
    **{f"size {value!r:.20}": with_file(size_bytes=value) for value in [*ODD, 2**50]},
    **{f"digest {value!r:.20}": with_file(sha256=value) for value in [*ODD, "ab" * 31, "ab" * 33, "AB" * 32, "zz" * 32, DIGEST + "\n"]},
    **{f"{key} {value!r:.20}": manifest_text(**{key: value}) for key in NEEDED[2:] for value in ODD},
    **{f"without {key}": json.dumps({k: v for k, v in manifest_value().items() if k != key}) for key in NEEDED},
    "a task id that is too long": manifest_text(task_id="a" * 65),
    "a hotkey that is too long": manifest_text(hotkey="5" * 65),
    "a hotkey that is half a letter": manifest_text(hotkey="\ud800"),
    "another format": manifest_text(format="gradients-repo/2"),
    "another kind": manifest_text(kind="pickle"),
    "an unknown key": manifest_text(auto_map={"AutoModel": "evil.py"}),
    "an unknown key of a file": with_file(url="http://169.254.169.254/"),
    "no file": manifest_text(files={}),
    "a file too many": manifest_text(files=files(*(f"f{n}" for n in range(MAX_FILES + 1)))),
    "a key twice": manifest_text()[:-1] + ',"kind":"full"}',
    "a file twice": manifest_text(files={"a": 0}).replace('"a": 0', '"a": 0, "a": 0'),
    "NaN": manifest_text(training={"train_loss": float("nan")}),
    "infinity": manifest_text(training={"train_loss": float("inf")}),
    "infinity as a number": manifest_text().replace('"steps": 1', '"train_loss": 1e999'),
    "negative steps": manifest_text(training={"steps": -1}),
    "a recipe that is too long": manifest_text(training={"recipe": "a" * 65}),
    "no JSON": "hello",
    "nothing": "",
    "a list": "[]",
    "null": "null",
    "half a letter": '{"\ud800":0}',
    "half a letter, escaped": '{"\\ud800":0}',
    "deep lists": "[" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "a key of 100,000 letters": manifest_text(**{"a" * 100_000: 0}),
}  # fmt: skip


@pytest.mark.parametrize("what", MANIFESTS)
def test_a_manifest_that_is_none_is_refused(what: str) -> None:
    assert rejection_of(lambda: parse_manifest(MANIFESTS[what])).code == "manifest_invalid"


def test_a_manifest_in_order_is_read_and_has_one_text() -> None:
    manifest = parse_manifest(manifest_text())

    assert parse_manifest(manifest.text()) == manifest


# ---- what screening lets through


@pytest.fixture
def base(tmp_path: Path) -> BaseInfo:
    """A base of a million weights."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return BaseInfo("base", folder, DIGEST, 1_000_000)


CONFIG = {"model_type": "llama", "hidden_size": 64, "rope_theta": 1e4, "vocab_size": 100, "dtype": "float32"}
FULL = ("config.json", "model.safetensors")
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def manifest_of(kind: str, *names: str, size_bytes: int = 10) -> Manifest:
    return parse_manifest(manifest_text(kind=kind, files=files(*names, size_bytes=size_bytes)))


CODE = [
    "pytorch_model.bin", "model.pt", "model.pth", "model.ckpt", "model.pkl", "data.pickle", "modeling_evil.py", "setup.py", "run.sh",
    "notebook.ipynb", "model.npy", "model.npz", "model.h5", "model.gguf", "model.onnx", "model.zip", "model.tar.gz", "lib.so",
    "x.pth.safetensors",
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json",
    "special_tokens_map.json", "adapter_model.bin",
    "Model.safetensors", "MODEL.SAFETENSORS", "model.safetensors.py", "config.JSON", "Config.json",
    "readme.md", "manifest.json", "model-1-of-2.safetensors",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["adapter", "full"])
@pytest.mark.parametrize("name", CODE)
def test_a_file_that_is_on_no_list_is_refused_before_it_is_fetched(name: str, kind: str, base: BaseInfo) -> None:
    own = ADAPTER if kind == "adapter" else FULL

    assert rejection_of(lambda: screen_manifest(manifest_of(kind, *own, name), base)).code == "file_not_allowed"


@pytest.mark.parametrize(("kind", "names"), [("adapter", FULL), ("full", ADAPTER)])
def test_a_repo_of_one_kind_holds_no_files_of_the_other(kind: str, names: tuple[str, ...], base: BaseInfo) -> None:
    assert rejection_of(lambda: screen_manifest(manifest_of(kind, *names), base)).code == "file_not_allowed"


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("adapter", ADAPTER[:1]),
        ("adapter", ADAPTER[1:]),
        ("adapter", ("README.md",)),
        ("full", FULL[:1]),
        ("full", FULL[1:]),
        ("full", ("config.json", "model.safetensors.index.json")),
    ],
)
def test_half_a_model_is_not_fetched(kind: str, names: tuple[str, ...], base: BaseInfo) -> None:
    assert rejection_of(lambda: screen_manifest(manifest_of(kind, *names), base)).code == "file_missing"


def test_a_repo_in_order_is_fetched(base: BaseInfo) -> None:
    screen_manifest(manifest_of("adapter", *ADAPTER, "README.md", "training.json"), base)
    screen_manifest(manifest_of("full", *FULL, "README.md"), base)
    screen_manifest(manifest_of("full", "config.json", "model-00001-of-00002.safetensors"), base)


IMAGE_ADAPTER = ("pytorch_lora_weights.safetensors",)


@pytest.mark.parametrize(
    ("kind", "names", "code"),
    [
        ("adapter", ADAPTER, "file_not_allowed"),
        ("adapter", (*IMAGE_ADAPTER, "adapter_config.json"), "file_not_allowed"),
        ("adapter", (*IMAGE_ADAPTER, "pytorch_lora_weights.bin"), "file_not_allowed"),
        ("adapter", (*IMAGE_ADAPTER, "model_index.json"), "file_not_allowed"),
        ("adapter", ("README.md",), "file_missing"),
        ("full", FULL, "repo_kind"),
    ],
)
def test_of_an_image_model_only_the_one_file_of_a_lora_is_fetched(
    kind: str, names: tuple[str, ...], code: str, base: BaseInfo
) -> None:
    pipeline = dataclasses.replace(base, family="image")
    screen_manifest(manifest_of("adapter", *IMAGE_ADAPTER, "README.md"), pipeline)

    assert rejection_of(lambda: screen_manifest(manifest_of(kind, *names), pipeline)).code == code


def test_a_language_model_takes_no_lora_of_an_image_model(base: BaseInfo) -> None:
    assert (
        rejection_of(lambda: screen_manifest(manifest_of("adapter", *IMAGE_ADAPTER), base)).code == "file_not_allowed"
    )


@pytest.mark.parametrize("name", ["adapter_config.json", "README.md", "training.json"])
def test_a_text_is_no_larger_than_texts_are(name: str, base: BaseInfo) -> None:
    large = files(*ADAPTER) | files(name, size_bytes=MAX_JSON_BYTES + 1)
    manifest = parse_manifest(manifest_text(files=large))

    assert rejection_of(lambda: screen_manifest(manifest, base)).code == "file_too_large"


@pytest.mark.parametrize("kind", ["adapter", "full"])
def test_a_repo_is_no_larger_than_its_kind_can_be(kind: str, tmp_path: Path) -> None:
    own = ADAPTER if kind == "adapter" else FULL
    base = BaseInfo("base", tmp_path, DIGEST, 100_000_000)
    share = 0.5 if kind == "adapter" else 1.05
    most = round(4 * 100_000_000 * share) + 2 * MAX_JSON_BYTES

    screen_manifest(
        parse_manifest(manifest_text(kind=kind, files=files(own[0], size_bytes=0) | files(own[1], size_bytes=most))),
        base,
    )
    larger = parse_manifest(
        manifest_text(kind=kind, files=files(own[0], size_bytes=0) | files(own[1], size_bytes=most + 1))
    )
    assert rejection_of(lambda: screen_manifest(larger, base)).code == "repo_too_large"


def full_repo(folder: Path, config: bytes, weights: bytes = VALID) -> Manifest:
    """A folder with a full model in it, and its manifest."""
    folder.mkdir(exist_ok=True)
    written(folder, config, "config.json")
    written(folder, weights)
    return manifest_of("full", *FULL)


CONFIGS: dict[str, object] = {"another type": CONFIG | {"model_type": "evil"}, "nothing in it": {}}


@pytest.mark.parametrize("what", CONFIGS)
def test_a_model_of_another_architecture_is_refused(what: str, base: BaseInfo, tmp_path: Path) -> None:
    manifest = full_repo(tmp_path / "repo", json.dumps(CONFIGS[what]).encode())

    assert rejection_of(lambda: screen_folder(tmp_path / "repo", manifest, base)).code == "config_mismatch"


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"null", b"\xff\xfe", b"{", b'{"a":NaN}', b'{"a":1,"a":2}', b"[" * 100_000, b'{"a":' * 100_000],
    ids=lambda raw: repr(raw[:20]),
)  # fmt: skip
def test_a_config_that_is_no_json_object_is_refused(raw: bytes, base: BaseInfo, tmp_path: Path) -> None:
    manifest = full_repo(tmp_path / "repo", raw)

    assert rejection_of(lambda: screen_folder(tmp_path / "repo", manifest, base)).code == "json_invalid"


@pytest.mark.parametrize("raw", [b"[]", b"{", b'{"rope_theta":Infinity}'])
def test_a_bases_config_that_cannot_be_read_costs_no_miner_anything(raw: bytes, base: BaseInfo, tmp_path: Path) -> None:
    manifest = full_repo(tmp_path / "repo", json.dumps(CONFIG).encode())
    written(base.folder, raw, "config.json")

    with pytest.raises(ModelUnknown, match="The base base cannot be used"):
        screen_folder(tmp_path / "repo", manifest, base)


def test_weights_are_screened_by_their_header(base: BaseInfo, tmp_path: Path) -> None:
    manifest = full_repo(tmp_path / "repo", json.dumps(CONFIG).encode(), VALID + b"\0")

    assert rejection_of(lambda: screen_folder(tmp_path / "repo", manifest, base)).code == "header_invalid"


def test_the_bases_own_config_passes_with_cosmetic_changes(base: BaseInfo, tmp_path: Path) -> None:
    changed = CONFIG | {"dtype": "bfloat16", "_name_or_path": "/home/me/model", "transformers_version": "9"}
    manifest = full_repo(tmp_path / "repo", json.dumps(changed).encode())

    screen_folder(tmp_path / "repo", manifest, base)


# ---- what would take memory or time

WATCHED = r"""
import json, re, sys, time
from pathlib import Path
from gradients.errors import GradientsError
from gradients.repo.manifest import parse_manifest
from gradients.files.safetensors_header import read_header

def code(file):
    try:
        read_header(file) if file.suffix == ".safetensors" else parse_manifest(file.read_text())
    except GradientsError as error:
        return error.code
    return "accepted"

def judged(file):
    started = time.process_time()
    return code(file), time.process_time() - started

results = {file.name: judged(file) for file in sorted(Path(sys.argv[1]).iterdir())}
peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]  # ru_maxrss would count our parent's
print(json.dumps([results, int(peak) * 1024]))
"""


def heavy_files(folder: Path) -> None:
    """Files that made libraries work hard; the largest are sparse."""
    empty = b'{"dtype":"I8","shape":[0],"data_offsets":[0,0]}'
    many = b"{" + (b'"w":' + empty + b",") * 1_200_000 + b"}"
    entries = b"{" + b",".join(b'"%d":0' % n for n in range(MAX_TENSORS * 4)) + b"}"
    for name, content in {
        "1.2 million tensors": safetensors(many),
        "more entries than tensors may be": safetensors(entries),
        "300,000 dimensions": safetensors({"w": TENSOR | {"shape": [1] * 300_000}}),
        "a million brackets": safetensors(b"[" * 990_000),
        "a million digits": safetensors(b'{"w":' + b"9" * 990_000 + b"}"),
        "a million escapes": safetensors(b'{"' + b"\\u0041" * 160_000 + b'":0}'),
    }.items():
        written(folder, content, f"{name}.safetensors")
    with (folder / "100 GB of nothing.safetensors").open("wb") as file:
        file.write(VALID)
        file.truncate(100 * 10**9)
    for name, text in {
        "a million files": '{"files":{' + '"f":{},' * 1_000_000 + "}}",
        "as many files as fit": manifest_text(files={f"f{n}": 0 for n in range(50_000)}),
        "a megabyte of brackets": "[" * 999_000,
        "a megabyte of digits": "9" * 999_000,
        "a name of a megabyte": manifest_text(files={"a" * 900_000: {}}),
        "a megabyte of keys": json.dumps({f"k{n}": 0 for n in range(60_000)}),
    }.items():
        written(folder, text.encode(), f"{name}.json")


def test_nothing_of_a_miner_takes_memory_or_time(tmp_path: Path) -> None:
    heavy_files(tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", WATCHED, str(tmp_path)], capture_output=True, text=True, timeout=600, check=True
    )
    results, peak_bytes = json.loads(run.stdout)

    assert len(results) == 13
    assert {code for code, _ in results.values()} == {"header_invalid", "manifest_invalid"}
    assert {name: seconds for name, (_, seconds) in results.items() if seconds > 2.0} == {}
    assert peak_bytes < 300e6


# ---- any text


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_mutation_of_a_manifest_does_more_than_be_refused(data: st.DataObject) -> None:
    text = manifest_text()
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, min(begin + 8, len(text))))
    mutated = text[:begin] + data.draw(st.text(max_size=8)) + text[end:]

    try:
        manifest = parse_manifest(mutated)
    except SubmissionRejected as error:
        check_rejection(error)
    else:
        assert parse_manifest(manifest.text()) == manifest


@given(name=st.text(max_size=100) | st.from_regex(r"[A-Za-z0-9._/\\-]{1,40}"))
def test_a_name_that_is_taken_stays_in_its_folder(name: str) -> None:
    try:
        parse_manifest(manifest_text(files={name: {"sha256": DIGEST, "size_bytes": 1}}))
    except SubmissionRejected:
        assert not is_file_name(name)
    else:
        assert is_file_name(name)
        assert (Path("/repo") / name).resolve().parent == Path("/repo")
