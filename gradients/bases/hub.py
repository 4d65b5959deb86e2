"""Asks a hub about a model, or downloads its data files. Runs as a process of its own:

python -m gradients.bases.hub look ORG/NAME REVISION           prints "language" or "image"
python -m gradients.bases.hub fetch ORG/NAME REVISION FOLDER
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from gradients.files.disk import is_full

PATTERNS = ["*.safetensors", "*.json", "*.jinja", "*tokenizer.model", "*spiece.model", "*merges.txt", "*vocab.txt"]
EXIT_UNREACHABLE, EXIT_REFUSED, EXIT_NO_ROOM = 3, 4, 5
ANSWER_SECONDS = 10.0  # of the hub, when it is only asked


class NoModel(Exception):
    """What the hub has under the name cannot be used as a model."""


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


def fetch(repo: str, revision: str, target: str) -> None:
    """Leave the files in `target`."""
    from huggingface_hub import snapshot_download

    snapshot_download(repo, revision=revision, local_dir=target, allow_patterns=PATTERNS)
    shutil.rmtree(Path(target) / ".cache", ignore_errors=True)


def main(what: str, *arguments: str) -> int:
    """Do it; the exit code says whose fault a failure is."""
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    tasks: dict[str, Callable[..., None]] = {"look": look, "fetch": fetch}
    try:
        tasks[what](*arguments)
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError, NoModel) as error:
        return _failed(EXIT_REFUSED, str(error))
    except Exception as error:  # the process's outermost: the parent raises it again
        return _failed(EXIT_NO_ROOM if is_full(error) else EXIT_UNREACHABLE, f"{type(error).__name__}: {error}")
    return 0


def _failed(code: int, problem: str) -> int:
    print((problem.strip().splitlines() or [""])[0], file=sys.stderr)  # noqa: T201 (the parent reads it)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
