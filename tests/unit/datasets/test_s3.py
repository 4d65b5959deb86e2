"""Rows of an object of an S3 store, through boto3 and a store on loopback: whose keys are used for what, and whose fault a refusal is."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gradients.datasets.access import Access, S3Access
from gradients.datasets.downloads import Deadline
from gradients.datasets.reading import read_rows
from gradients.datasets.rows import Row
from gradients.datasets.s3 import CHUNK_BYTES, fetch
from gradients.datasets.sources import DatasetLimits, S3Source, parse_source
from gradients.errors import DatasetInvalid, OutsideError, SetupError, TaskInvalid
from gradients.testing.loopback_site import Page, Site, loopback_site

ROWS: list[Row] = [{"instruction": f"Name number {i}", "output": f"„{i}“"} for i in range(70)]
LINES = "\n".join(map(json.dumps, ROWS)).encode()


@dataclass(frozen=True, slots=True)
class Store:
    """A running store and the keys to it."""

    access: Access

    def reads(self, bucket: str, key: str, **limits: int) -> Sequence[Row]:
        return read_rows(S3Source(bucket=bucket, key=key), limits=DatasetLimits(**limits), access=self.access)

    def refused(self, bucket: str, key: str, **limits: int) -> DatasetInvalid:
        with pytest.raises(DatasetInvalid) as caught:
            self.reads(bucket, key, **limits)
        assert caught.value.fix
        return caught.value


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """The bucket acme with rows and with text; ours to read."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    access = S3Access(f"http://{host}:{port}", "us-east-1", "ours", "secret", frozenset({"acme", "nobodys"}))
    client: Any = boto3.client(  # Any: boto3 makes its clients' classes at run time
        "s3",
        endpoint_url=access.endpoint,
        region_name="us-east-1",
        aws_access_key_id="ours",
        aws_secret_access_key="secret",
    )
    client.create_bucket(Bucket="acme")
    client.put_object(Bucket="acme", Key="some folder/rows ü.jsonl", Body=LINES)
    client.put_object(Bucket="acme", Key="notes.txt", Body=b"x")
    yield Store(Access(s3=access))
    server.stop()


def test_rows_come_from_an_object(store: Store) -> None:
    assert store.reads("acme", "some folder/rows ü.jsonl") == ROWS


def test_an_object_over_the_limit_is_refused(store: Store) -> None:
    assert store.reads("acme", "some folder/rows ü.jsonl", bytes=len(LINES)) == ROWS
    assert "bytes that are read" in store.refused("acme", "some folder/rows ü.jsonl", bytes=len(LINES) - 1).message


@pytest.mark.parametrize(
    ("bucket", "key", "said"),
    [
        ("acme", "other.jsonl", "NoSuchKey"),
        ("nobodys", "rows.jsonl", "NoSuchBucket"),
        ("acme", "notes.txt", "no ending that says its format"),
    ],
)
def test_what_is_not_there_is_the_customers_fault(store: Store, bucket: str, key: str, said: str) -> None:
    assert said in store.refused(bucket, key).message


def _answering(status: int, code: str) -> Any:  # noqa: ANN401 (a context manager of the test's own server)
    error = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return loopback_site(lambda _: Page([error], status, {"Content-Length": str(len(error))}))


def _at(site: Site) -> Store:
    return Store(Access(s3=S3Access(site.url, "us-east-1", "ours", "secret", frozenset({"listed"}))))


def test_our_keys_are_used_for_listed_buckets_only() -> None:
    """Else a customer could have whatever the keys open."""
    with _answering(403, "AccessDenied") as site:
        for bucket in ("listed", "other"):
            assert "AccessDenied" in _at(site).refused(bucket, "rows.jsonl").message
        signed = {request.path.split("/")[1]: "authorization" in request.headers for request in site.requests}
    assert signed == {"listed": True, "other": False}


def test_the_machines_own_keys_are_not_lent_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "machine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    with _answering(403, "AccessDenied") as site:
        without_keys = replace(_at(site).access.s3, access_key=None, secret_key=None)
        for bucket in ("listed", "other"):
            Store(Access(s3=without_keys)).refused(bucket, "rows.jsonl")
        keys = [request.headers.get("authorization", "") for request in site.requests]
    assert ["Credential=machine/" in key for key in keys] == [True, False]


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "SignatureDoesNotMatch", SetupError),
        (403, "InvalidAccessKeyId", SetupError),
        (400, "RequestTimeout", OutsideError),
        (501, "NotImplemented", OutsideError),
    ],
)
def test_wrong_keys_are_the_operators_and_a_store_that_cannot_is_nobodys(
    status: int, code: str, error: type[Exception]
) -> None:
    with _answering(status, code) as site, pytest.raises(error):
        _at(site).reads("listed", "rows.jsonl")


def test_an_object_that_is_cut_off_is_no_object() -> None:
    page = Page([LINES[:-10]], headers={"Content-Length": str(len(LINES)), "Content-Type": "binary/octet-stream"})
    with loopback_site(lambda _: page) as site, pytest.raises(OutsideError):
        _at(site).reads("listed", "rows.jsonl")


def test_an_object_that_takes_too_long_as_a_whole_is_given_up(tmp_path: Path) -> None:
    """Each chunk comes long before the 60 s of silence that end a connection."""

    def dripping() -> Iterator[bytes]:
        for _ in range(100):
            time.sleep(0.05)
            yield b"x" * CHUNK_BYTES

    page = Page(dripping(), headers={"Content-Length": str(100 * CHUNK_BYTES)})
    with loopback_site(lambda _: page) as site, pytest.raises(OutsideError, match="took too long"):
        fetch("listed", "rows.jsonl", tmp_path, max_bytes=2**31, access=_at(site).access.s3, deadline=Deadline(0.3))


def test_keys_are_shown_to_nobody() -> None:
    assert "secret" not in repr(S3Access("http://store", None, "ours", "secret"))


def test_an_object_is_a_source_by_itself() -> None:
    assert parse_source("s3://acme/a/b c.csv") == S3Source(bucket="acme", key="a/b c.csv")


@pytest.mark.parametrize("given", ["s3://", "s3://acme", "s3://acme/", "s3:acme/x", "s3://../x", "s3://UPPER/x.csv"])
def test_an_object_without_a_bucket_or_a_key_is_refused(given: str) -> None:
    with pytest.raises(TaskInvalid, match="s3://bucket/key"):
        parse_source(given)
