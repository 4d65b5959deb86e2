"""Data that would fill the memory of whoever reads them are refused without entering the daemon."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

MOST_GROWTH_BYTES = 150 * 1024**2


@dataclass
class Daemon:
    """An API in a process of its own."""

    pid: int
    http: httpx.Client

    def peak_bytes(self) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    command = [sys.executable, "-m", "tests.security.bombed_api", str(tmp_path_factory.mktemp("daemon"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        with httpx.Client(
            base_url=said["url"], headers={"Authorization": f"Bearer {said['key']}"}, timeout=300
        ) as http:
            yield Daemon(process.pid, http)
        process.kill()


def one_long_row() -> bytes:
    """A few hundred bytes of Parquet: one row, a list of 60 million zeros."""
    values = pa.array(np.zeros(60_000_000, dtype=np.int8))
    column = pa.ListArray.from_arrays(pa.array([0, 60_000_000], pa.int32()), values)
    return _parquet(pa.table({"instruction": column, "output": ["x"]}))


def one_long_text_many_times() -> bytes:
    """A dictionary of one megabyte of text, a thousand rows."""
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(3000, dtype=np.int32)), pa.array(["a" * 900_000]))
    return _parquet(pa.table({"instruction": texts, "output": texts}))


def empty_lists() -> bytes:
    return b"[" + b"[]," * 33_000_000 + b"[]]"


def one_long_line() -> bytes:
    return b'{"instruction":"' + b"a" * 99_000_000 + b'","output":"b"}'


def deep() -> bytes:
    return b'{"instruction":' + b"[" * 5_000_000


def image_listed_without_end() -> bytes:
    picture, archive = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (64, 64)).save(picture, "PNG")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("a.png", picture.getvalue())
        zipped.writestr("metadata.jsonl", '{"file_name":"a.png","text":"a"}\n' * 700_000)
    return archive.getvalue()


BOMBS: dict[str, Callable[[], bytes]] = {
    "one-row.parquet": one_long_row,
    "dictionary.parquet": one_long_text_many_times,
    "lists.json": empty_lists,
    "line.jsonl": one_long_line,
    "deep.jsonl": deep,
    "listed.zip": image_listed_without_end,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_and_never_enters_the_daemon(daemon: Daemon, name: str) -> None:
    found = estimate(daemon, name)
    assert found.status == 422, found
    assert found.growth_bytes < MOST_GROWTH_BYTES, found


class Estimated(NamedTuple):
    """What came of asking about a bomb."""

    status: int
    said: str
    growth_bytes: int  # of the daemon's peak
    seconds: float
    slowest_livez_seconds: float  # for people: pytest -s


def estimate(daemon: Daemon, name: str) -> Estimated:
    """Upload a bomb and ask what it would take; what the daemon said, how it grew, and its slowest word that it lives."""
    uploaded = daemon.http.post(f"/v1/datasets?name={name}", content=BOMBS[name]())
    assert uploaded.status_code == 201, uploaded.text
    before, answers, stop = daemon.peak_bytes(), [0.0], threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=daemon.http.base_url, timeout=300) as http:
            while not stop.wait(0.02):
                started = time.monotonic()
                http.get("/livez").raise_for_status()
                answers.append(time.monotonic() - started)

    asking = threading.Thread(target=ask)
    asking.start()
    started = time.monotonic()
    kind = "diffusion" if name.endswith(".zip") else "instruct"
    spec = {
        "type": kind,
        "base": "nano-image" if kind == "diffusion" else "nano-lm",
        "dataset": uploaded.json()["dataset"],
    }
    answer = daemon.http.post("/v1/estimates", json=spec)
    stop.set()
    asking.join()
    return Estimated(
        status=answer.status_code,
        said=answer.text[:200],
        growth_bytes=daemon.peak_bytes() - before,
        seconds=time.monotonic() - started,
        slowest_livez_seconds=max(answers),
    )


def _parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()
