"""Downloads a model's data files from a hub. Runs as a process of its own: python -m gradients.repo.hub ORG/NAME REVISION FOLDER."""

from __future__ import annotations

import errno
import shutil
import sys
from pathlib import Path

PATTERNS = ["*.safetensors", "*.json", "*.jinja", "*tokenizer.model", "*spiece.model", "*merges.txt", "*vocab.txt"]
EXIT_UNREACHABLE, EXIT_REFUSED, EXIT_NO_ROOM = 3, 4, 5


def main(repo: str, revision: str, target: Path) -> int:
    """Leave the files in `target`; the exit code says whose fault a failure is."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        snapshot_download(repo, revision=revision, local_dir=target, allow_patterns=PATTERNS)
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        print(str(error).strip().splitlines()[0], file=sys.stderr)  # noqa: T201 (the parent reads it)
        return EXIT_REFUSED
    except (OSError, RuntimeError) as error:
        print(f"{type(error).__name__}: {error}".strip().splitlines()[0], file=sys.stderr)  # noqa: T201 (as above)
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        return EXIT_NO_ROOM if full else EXIT_UNREACHABLE
    shutil.rmtree(target / ".cache", ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
