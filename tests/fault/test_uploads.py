"""A validator that is killed in the middle of an upload: what it had is there, and the client goes on by itself."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from gradients.axon.ports import free_ports
from gradients.client.api import MarketClient
from gradients.client.uploading import PIECE_BYTES
from gradients.clock import SystemClock
from tests.fault.uploading_api import HOST
from validator.ledger import Ledger


def test_an_upload_outlives_the_validator_and_is_never_in_its_memory(tmp_path: Path) -> None:
    """Seven pieces and a half; the API is killed with SIGKILL while the fourth comes in."""
    line = b'{"instruction": "number", "output": "%08d"}\n'
    file, folder, [port] = tmp_path / "rows.jsonl", tmp_path / "validator", free_ports(HOST, 1)
    with file.open("wb") as stream:
        for number in range(PIECE_BYTES * 15 // 2 // len(line % 0)):
            stream.write(line % number)
    folder.mkdir()
    key = Ledger.open(f"sqlite:///{folder}/ledger.db", SystemClock()).customers.issue("acme")
    told, grown = list[int](), list[int]()

    with contextlib.ExitStack() as stack:
        first = stack.enter_context(_api(folder, port))
        begun = _resident(first.pid)

        def kill() -> None:
            [part] = (each for each in (folder / "uploads" / "unfinished").iterdir() if not each.suffix)
            while part.exists() and part.stat().st_size <= 3 * PIECE_BYTES:
                time.sleep(0.001)
            first.kill()
            first.wait()
            stack.enter_context(_api(folder, port))

        killing = threading.Thread(target=kill)

        def hear(_: str, sent: int, __: int) -> None:
            told.append(sent)
            if len(told) == 3:
                grown.append(_resident(first.pid) - begun)
                killing.start()

        with MarketClient(f"http://{HOST}:{port}", key, on_upload=hear) as client:
            dataset = client.upload(file)
        killing.join()
    assert dataset == f"upload:{hashlib.sha256(file.read_bytes()).hexdigest()}.jsonl"
    assert told[:3] == [PIECE_BYTES, 2 * PIECE_BYTES, 3 * PIECE_BYTES]
    assert told == sorted(set(told))  # what was there was not sent again
    assert told[-1] == file.stat().st_size == (folder / "uploads" / dataset.removeprefix("upload:")).stat().st_size
    assert grown[0] < 2 * PIECE_BYTES  # of three that had come


@contextlib.contextmanager
def _api(folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.fault.uploading_api", str(folder), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        while "listening" not in (line := process.stdout.readline()):
            assert line, "the API did not start"
        threading.Thread(target=process.stdout.read, daemon=True).start()  # so that it never waits for a reader
        try:
            yield process
        finally:
            process.kill()


def _resident(pid: int) -> int:
    """Bytes of memory."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024
