"""Rows of an object in an S3 store that a customer names as s3://bucket/key, through boto3 (extra `s3`).

The operator's keys open only the buckets that the operator lists; every other bucket is read as a stranger would, so that a customer cannot
have our keys read for them. The store's address is the operator's setting, never a customer's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from gradients.datasets.access import S3Access
from gradients.datasets.downloads import Deadline, check_size, safe_stem, save
from gradients.datasets.formats import ENDINGS
from gradients.errors import DatasetInvalid, OutsideError, SetupError
from gradients.extras import how_to_install

SILENCE_SECONDS = 60.0
TRIES = 3
CHUNK_BYTES = 1 << 16
OUR_KEYS_ARE_WRONG = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "RequestTimeTooSkewed"})
PASSING = frozenset({"SlowDown", "RequestTimeout", "429"})


def fetch(bucket: str, key: str, folder: Path, *, max_bytes: int, access: S3Access, deadline: Deadline) -> Path:
    """The object, as a file in `folder` under a name with an ending that says its format.

    Raises DatasetInvalid when it cannot be had, SetupError for our keys, OutsideError when the store is away.
    """
    ending = PurePosixPath(key).suffix.lower()
    if ending not in ENDINGS:
        raise DatasetInvalid(
            f"s3://{bucket}/{key} has no ending that says its format", fix=f"Use one of {', '.join(ENDINGS)}"
        )
    file = folder / f"{safe_stem(key)}{ending}"

    def in_time(chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            deadline.check(file.name)
            yield chunk

    with _blaming(bucket, key):
        found = _client(access, bucket).get_object(Bucket=bucket, Key=key)
        with closing(found["Body"]) as body:
            check_size(found.get("ContentLength", 0), file.name, max_bytes=max_bytes)
            save(in_time(body.iter_chunks(CHUNK_BYTES)), file, max_bytes=max_bytes)
    return file


def _client(access: S3Access, bucket: str) -> Any:  # noqa: ANN401 (boto3 makes its clients' classes at run time)
    """A client that signs for listed buckets only."""
    try:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config
    except ModuleNotFoundError as error:
        raise SetupError("S3 needs boto3", fix=how_to_install("s3")) from error
    known = bucket in access.buckets
    return boto3.client(
        "s3",
        endpoint_url=access.endpoint,
        region_name=access.region,
        aws_access_key_id=access.access_key if known else None,
        aws_secret_access_key=access.secret_key if known else None,
        config=Config(
            signature_version=None if known else UNSIGNED,
            connect_timeout=SILENCE_SECONDS,
            read_timeout=SILENCE_SECONDS,
            retries={"total_max_attempts": TRIES, "mode": "standard"},
        ),
    )


@contextmanager
def _blaming(bucket: str, key: str) -> Iterator[None]:
    """The store's errors as ours, with whose fault they are."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

    name = f"s3://{bucket}/{key}"
    try:
        yield
    except ClientError as error:
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        if code in OUR_KEYS_ARE_WRONG:
            raise SetupError(f"The keys for {name} are refused: {code}", fix="Check [s3] in the settings") from error
        if status >= 500 or code in PASSING:
            raise OutsideError(f"The store of {name} answers {code}", fix="Try again later") from error
        raise DatasetInvalid(
            f"{name} cannot be had: {code}", fix="Check bucket and key, and let this validator read it"
        ) from error
    except NoCredentialsError as error:
        raise SetupError(f"There are no keys for {name}", fix="Set [s3] access_key and secret_key") from error
    except ParamValidationError as error:
        raise DatasetInvalid(f"{name} is not an object: {error}", fix="Check bucket and key") from error
    except BotoCoreError as error:
        raise OutsideError(f"{name} could not be fetched: {error}", fix="Is the store reachable?") from error
