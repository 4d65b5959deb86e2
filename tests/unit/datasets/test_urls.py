"""Rows behind a URL that a customer names: what may be reached, how much may come, and whose fault it is when nothing does."""

from __future__ import annotations

import io
import itertools
import json
import socket
import ssl
import subprocess
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gradients.datasets.access import Access
from gradients.datasets.downloads import Deadline
from gradients.datasets.reading import read_rows
from gradients.datasets.rows import Row
from gradients.datasets.sources import DatasetLimits, UrlSource, parse_source
from gradients.datasets.urls import addresses_of, fetch
from gradients.errors import Blame, DatasetInvalid, GradientsError, OutsideError, TaskInvalid
from gradients.testing.loopback_site import HOST, Page, Request, loopback_site, pages

ROWS: list[Row] = [{"instruction": f"Name number {i}", "output": f"„{i}“"} for i in range(70)]
LINES = "\n".join(map(json.dumps, ROWS)).encode()
LOCAL = Access(private_addresses=True)


def _read(url: str, *, access: Access = LOCAL, **limits: int) -> Sequence[Row]:
    return read_rows(UrlSource(url=url), limits=DatasetLimits(**limits), access=access)


def _refused(url: str, *, access: Access = LOCAL, **limits: int) -> DatasetInvalid:
    """The customer's error, which says what to do."""
    with pytest.raises(DatasetInvalid) as caught:
        _read(url, access=access, **limits)
    assert caught.value.fix
    return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def test_rows_come_from_a_url() -> None:
    with loopback_site(pages({"/rows.jsonl": Page([LINES])})) as site:
        assert _read(f"{site.url}/rows.jsonl?signature=x#part") == ROWS
    [request] = site.requests
    assert request.path == "/rows.jsonl?signature=x"
    assert request.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/download", "application/x-ndjson"),
        ("/download.php", "application/jsonl; charset=utf-8"),
        ("/rows.jsonl", "application/octet-stream"),
        ("/rows.JSONL", "text/plain"),
    ],
)
def test_the_format_is_told_by_the_ending_or_else_by_the_content_type(path: str, content_type: str) -> None:
    with loopback_site(pages({path: Page([LINES], headers={"Content-Type": content_type})})) as site:
        assert _read(f"{site.url}{path}") == ROWS


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (Page([b"x"], headers={"Content-Type": "text/plain"}), "does not say its format"),
        (Page([b"x"], headers={"Content-Type": "text/html; charset=utf-8"}), "is a page"),
        (Page([b"x"], headers={"Content-Encoding": "gzip", "Content-Type": "text/csv"}), "comes compressed"),
        (Page(status=404), "answers 404"),
        (Page(status=403), "answers 403"),
        (Page(status=206), "answers 206"),
        (Page(status=302), "redirects more than"),
        (Page(status=302, headers={"Location": "ftp://example.com/x"}), "not an http:// or https:// URL"),
        (Page(status=302, headers={"Location": "http://a:b@example.com/x"}), "without a password"),
        (Page(status=302, headers={"Location": "http://[::1"}), "not a URL"),
    ],
)
def test_what_is_no_data_is_the_customers_fault(page: Page, said: str) -> None:
    with loopback_site(pages({"/x": page})) as site:
        assert said in _refused(f"{site.url}/x").message


def test_an_archive_of_images_is_known_by_its_content_type() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.png", b"A")
        archive.writestr("a.txt", b"words")
    page = Page([file.getvalue()], headers={"Content-Type": "application/zip"})
    with loopback_site(pages({"/download": page})) as site:
        assert _read(f"{site.url}/download") == [{"image": "QQ==", "caption": "words", "file_name": "a.png"}]


def test_a_page_behind_a_name_of_data_is_still_a_page() -> None:
    """What shows when somebody is not logged in."""
    with loopback_site(pages({"/rows.csv": Page([b"<html>"], headers={"Content-Type": "text/html"})})) as site:
        assert "is a page" in _refused(f"{site.url}/rows.csv").message


@pytest.mark.parametrize("status", [500, 503, 408, 429])
def test_a_server_that_says_later_is_asked_again(status: int) -> None:
    with loopback_site(pages({"/rows.csv": Page(status=status)})) as site, pytest.raises(OutsideError):
        _read(f"{site.url}/rows.csv")


def test_a_server_that_is_away_is_nobodys_fault() -> None:
    with loopback_site(pages({})) as site:
        pass  # the port was free a moment ago, and nobody listens there now
    with pytest.raises(OutsideError, match="Does its server answer"):
        _read(f"{site.url}/rows.csv")


def test_an_answer_that_is_cut_off_is_no_answer() -> None:
    page = Page([LINES[:-10]], headers={"Content-Length": str(len(LINES))})
    with loopback_site(pages({"/rows.jsonl": page})) as site, pytest.raises(OutsideError):
        _read(f"{site.url}/rows.jsonl")


# ---- limits


def test_what_is_announced_too_large_is_not_begun(folder: Path) -> None:
    page = Page(itertools.repeat(b"x"), headers={"Content-Length": "1001"})
    with loopback_site(pages({"/rows.csv": page})) as site:
        assert "1,000 bytes" in _refused(f"{site.url}/rows.csv", bytes=1000).message


def test_what_never_ends_is_cut_at_the_limit() -> None:
    page = Page(itertools.repeat(b"x" * 1000), headers={"Content-Type": "text/csv"})
    with loopback_site(pages({"/rows.csv": page})) as site:
        assert "50,000 bytes" in _refused(f"{site.url}/rows.csv", bytes=50_000).message


def test_exactly_the_limit_is_taken() -> None:
    with loopback_site(pages({"/rows.jsonl": Page([LINES])})) as site:
        assert _read(f"{site.url}/rows.jsonl", bytes=len(LINES)) == ROWS
        _refused(f"{site.url}/rows.jsonl", bytes=len(LINES) - 1)


def _dripping() -> Iterator[bytes]:
    while True:
        time.sleep(0.05)
        yield b"x"


def test_what_drips_ends_at_the_deadline(folder: Path) -> None:
    """Each byte comes well before anybody would call the server silent."""
    with loopback_site(pages({"/rows.csv": Page(_dripping())})) as site:
        started = time.monotonic()
        with pytest.raises(OutsideError, match="could not be fetched"):
            fetch(f"{site.url}/rows.csv", folder, max_bytes=10**9, allow_private=True, deadline=Deadline(0.5))
    assert time.monotonic() - started < 120


# ---- where it leads


def test_a_redirect_is_followed() -> None:
    here = {"/old": Page(status=301, headers={"Location": "/new/rows.jsonl"}), "/new/rows.jsonl": Page([LINES])}
    with loopback_site(pages(here)) as site:
        assert _read(f"{site.url}/old") == ROWS


def test_redirects_in_a_circle_end() -> None:
    with loopback_site(pages({"/a": Page(status=307, headers={"Location": "/a"})})) as site:
        assert "redirects more than 5 times" in _refused(f"{site.url}/a").message
    assert len(site.requests) == 6


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "http://0.0.0.0/", "http://224.0.0.1/"]
)
def test_a_redirect_is_checked_like_the_first_url(target: str) -> None:
    with loopback_site(pages({"/rows.csv": Page(status=302, headers={"Location": target})})) as site:
        assert _refused(f"{site.url}/rows.csv").code == "address_refused"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "10.0.0.1", "192.168.0.1", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"]
)
def test_only_public_addresses_are_reached(host: str) -> None:
    """In whatever clothes: names, numbers, hexadecimal, IPv6."""
    assert _refused(f"http://{host}:8000/rows.csv", access=Access()).code == "address_refused"


@pytest.mark.parametrize("port", [22, 25, 1023])
def test_ports_that_files_do_not_come_from_are_not_reached(port: int) -> None:
    assert _refused(f"http://{HOST}:{port}/rows.csv").code == "address_refused"


def test_a_name_that_changes_its_mind_reaches_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer is allowed, any later one is where nobody may go: with one lookup it is never used."""
    asked: list[str] = []
    look_up = socket.getaddrinfo

    def rebinding(host: str, port: int, *rest: Any, **more: Any) -> object:  # noqa: ANN401 (passed on as they came)
        if host != "rebinding.example":
            return look_up(host, port, *rest, **more)
        asked.append(host)
        return look_up(HOST if len(asked) == 1 else "127.0.0.3", port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with (
        loopback_site(pages({"/rows.jsonl": Page([LINES])})) as site,
        loopback_site(pages({"/rows.jsonl": Page([b'{"secret": 1}'])}), host="127.0.0.3", port=site.port) as inner,
    ):
        assert _read(f"http://rebinding.example:{site.port}/rows.jsonl") == ROWS
    assert (len(asked), len(site.requests), len(inner.requests)) == (1, 1, 0)
    assert site.requests[0].headers["host"] == f"rebinding.example:{site.port}"


def test_of_several_addresses_only_those_are_kept_that_may_be_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(*_: object, **__: object) -> object:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("10.0.0.1", "1.1.1.1", "1.1.1.1")]

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    assert addresses_of("mixed.example", 80, allow_private=False) == ["1.1.1.1"]
    assert addresses_of("mixed.example", 80, allow_private=True) == ["10.0.0.1", "1.1.1.1"]


@pytest.mark.parametrize(
    ("problem", "blame"),
    [(socket.EAI_NONAME, Blame.CUSTOMER), (socket.EAI_AGAIN, Blame.OUTSIDE)],
)
def test_a_name_that_nobody_has_is_the_customers_and_a_deaf_resolver_nobodys(
    problem: int, blame: Blame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> object:
        raise socket.gaierror(problem, "said the resolver")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    with pytest.raises(GradientsError) as caught:
        _read("https://nowhere.example/rows.csv")
    assert caught.value.blame is blame


# ---- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of our own for 127.0.0.2, in one file."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    about = ["-subj", "/CN=loopback", "-addext", f"subjectAltName=IP:{HOST}", "-days", "2"]
    keys = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made = subprocess.run(
        ["openssl", "req", "-x509", *keys, *about, "-keyout", str(file), "-out", "-"], capture_output=True, check=True
    )
    file.write_bytes(file.read_bytes() + made.stdout)
    return file


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_server_is_known_by_a_certificate_that_this_machine_trusts(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loopback_site(pages({"/rows.jsonl": Page([LINES])}), tls=tls) as site:
        assert "certificate" in _refused(f"{site.url}/rows.jsonl").message
        assert site.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert _read(f"{site.url}/rows.jsonl") == ROWS


def test_a_redirect_never_leaves_tls(tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    def elsewhere(_: Request) -> Page:
        return Page(status=302, headers={"Location": f"http://{HOST}:8000/rows.csv"})

    with loopback_site(elsewhere, tls=tls) as site:
        assert "unencrypted" in _refused(f"{site.url}/rows.csv").message


# ---- how it is written


def test_a_url_is_a_source_by_itself() -> None:
    assert parse_source("https://example.com/a%20b.csv?x=1") == UrlSource(url="https://example.com/a%20b.csv?x=1")


@pytest.mark.parametrize(
    "url", ["https://", "http://user:pass@host/rows.csv", "https://host /x", "https://h/" + "x" * 5000]
)
def test_a_url_that_nobody_should_write_is_refused(url: str) -> None:
    with pytest.raises(TaskInvalid, match="an https:// URL"):
        parse_source(url)


def test_a_signature_in_a_url_is_not_repeated_in_messages() -> None:
    with loopback_site(pages({})) as site:
        assert "secret" not in str(_refused(f"{site.url}/rows.csv?signature=secret"))


@pytest.mark.parametrize(
    "url",
    [
        "http://xn--/x.csv",
        "http://xn--a.example/x.csv",
        "http://xn--zzzzzz\u0301.example/x.csv",
        "http://8.8.8.8:99999999999999999999/x.csv",
        "http://8.8.8.8:65536/x.csv",
        "http://\ud800.example/x.csv",
    ],
)
def test_what_only_looks_like_a_url_is_the_customers_mistake(url: str, folder: Path) -> None:
    with pytest.raises(DatasetInvalid, match="is not a URL"):
        fetch(url, folder, max_bytes=10, allow_private=False, deadline=Deadline())


@pytest.mark.parametrize("location", ["http://xn--/x.csv", "http://8.8.8.8:99999999999999999999/x.csv"])
def test_a_redirect_to_what_only_looks_like_a_url_is_refused(location: str) -> None:
    with loopback_site(pages({"/rows.jsonl": Page(status=302, headers={"Location": location})})) as site:
        assert "URL" in _refused(f"{site.url}/rows.jsonl").message
