"""Asks a hub about a model, or downloads its data files. Runs as a process of its own:

python -m gradients.bases.hub look ORG/NAME REVISION           prints "language" or "image"
python -m gradients.bases.hub fetch ORG/NAME REVISION FOLDER [PARAMETERS]

Sizes are asked for before anything is downloaded: what this machine has no room for is not begun, nor what is far from the number of
weights that somebody else has announced.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from gradients.files.disk import is_full

# The card is looked at for its licence only.
PATTERNS = [
    *("*.safetensors", "*.json", "*.jinja", "*tokenizer.model", "*spiece.model", "*merges.txt", "*vocab.txt"),
    "README.md",
]
COMMIT_FILE = "hub-commit"  # which commit a folder's files are of
EXIT_UNREACHABLE, EXIT_REFUSED, EXIT_NO_ROOM = 3, 4, 5
ANSWER_SECONDS = 10.0  # of the hub, when it is only asked
# Bytes of *.safetensors for a weight: four bits each at the least; at the most float32 and three copies in other precisions or layouts.
FEWEST_BYTES_PER_PARAMETER, MOST_BYTES_PER_PARAMETER = 0.5, 16
SMALL_FILES_BYTES = 1 << 30  # tokenizers, indices and configs
KEPT_FREE_BYTES = 2 << 30  # of the disk, for ledger, journal and jobs


class NoModel(Exception):
    """What the hub has under the name cannot be used as a model."""


class NoRoom(Exception):
    """The model is larger than what is free on this machine's disk."""


def look(repo: str, revision: str) -> None:
    """Print what kind of model it is. Raises NoModel."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(repo, revision=revision, timeout=ANSWER_SECONDS)
    names = [file.rfilename for file in info.siblings or ()]
    if "model_index.json" not in names and "config.json" not in names:
        raise NoModel("it has neither config.json nor model_index.json")
    if not any(name.endswith(".safetensors") for name in names):
        raise NoModel("it has no *.safetensors")
    print("image" if "model_index.json" in names else "language")  # noqa: T201 (the parent reads it)


def fetch(repo: str, revision: str, target: str, parameters: str = "") -> None:
    """Leave the files in `target`. Raises NoModel and NoRoom before anything is downloaded."""
    from huggingface_hub import HfApi, snapshot_download

    info = HfApi().model_info(repo, revision=revision, timeout=ANSWER_SECONDS, files_metadata=True)
    _check_sizes(info.siblings or (), Path(target), parameters=int(parameters) if parameters else None)
    snapshot_download(repo, revision=info.sha or revision, local_dir=target, allow_patterns=PATTERNS)
    shutil.rmtree(Path(target) / ".cache", ignore_errors=True)
    if info.sha:  # some mirrors know none
        (Path(target) / COMMIT_FILE).write_text(info.sha, encoding="ascii")


def _check_sizes(files: Any, target: Path, *, parameters: int | None) -> None:  # noqa: ANN401 (the hub's client carries no types)
    sizes = {file.rfilename: file.size for file in files if any(fnmatch(file.rfilename, each) for each in PATTERNS)}
    unknown = [name for name, size in sizes.items() if not isinstance(size, int)]
    if unknown and parameters is not None:
        raise NoModel(f"the hub does not say how large {unknown[0][:96]} is")
    sizes = {name: size for name, size in sizes.items() if isinstance(size, int)}  # some mirrors know none
    weights = sum(size for name, size in sizes.items() if name.endswith(".safetensors"))
    small = sum(sizes.values()) - weights
    if parameters is not None:
        fewest, most = FEWEST_BYTES_PER_PARAMETER * parameters, MOST_BYTES_PER_PARAMETER * parameters
        if not fewest <= weights <= most or small > SMALL_FILES_BYTES:
            raise NoModel(
                f"{parameters:,} weights were announced, and it has {weights:,} bytes of them and {small:,} others"
            )
    here = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())  # of a download that goes on
    missing, free = sum(sizes.values()) - here, shutil.disk_usage(target).free - KEPT_FREE_BYTES
    if missing > free:
        raise NoRoom(f"it takes {missing:,} bytes, and {max(free, 0):,} are free")


def main(what: str, *arguments: str) -> int:
    """Do it; the exit code says whose fault a failure is."""
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    tasks: dict[str, Callable[..., None]] = {"look": look, "fetch": fetch}
    try:
        tasks[what](*arguments)
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError, NoModel) as error:
        return _failed(EXIT_REFUSED, str(error))
    except NoRoom as error:
        return _failed(EXIT_NO_ROOM, str(error))
    except Exception as error:  # the process's outermost: the parent raises it again
        return _failed(EXIT_NO_ROOM if is_full(error) else EXIT_UNREACHABLE, f"{type(error).__name__}: {error}")
    return 0


def _failed(code: int, problem: str) -> int:
    print((problem.strip().splitlines() or [""])[0], file=sys.stderr)  # noqa: T201 (the parent reads it)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
