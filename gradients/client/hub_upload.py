"""Uploads a folder to a model hub. Runs as a process of its own: python -m gradients.client.hub_upload FOLDER ORG/NAME private|public

The token is the user's: HF_TOKEN, or what `hf auth login` has kept. The repo's address is printed.
"""

from __future__ import annotations

import sys

from gradients.bases.hub import EXIT_REFUSED, EXIT_UNREACHABLE


def main(folder: str, repo: str, visibility: str) -> int:
    """Do it; the exit code says whose fault a failure is."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    api = HfApi()
    try:
        api.create_repo(repo, private=visibility != "public", exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Add a model made on Gradients")
    except (HFValidationError, LocalTokenNotFoundError) as error:
        return _failed(EXIT_REFUSED, error)
    except HfHubHTTPError as error:
        ours = error.response is not None and error.response.status_code in range(400, 500)
        return _failed(EXIT_REFUSED if ours else EXIT_UNREACHABLE, error)
    except Exception as error:  # the process's outermost: the parent raises it again
        return _failed(EXIT_UNREACHABLE, error)
    print(f"{api.endpoint}/{repo}")  # noqa: T201 (the parent reads it)
    return 0


def _failed(code: int, error: Exception) -> int:
    print(" ".join(str(error).split())[:500], file=sys.stderr)  # noqa: T201 (the parent reads it)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
