"""Rows of a file behind an http:// or https:// URL that a customer names. The customer chooses where we connect; this module guards it.

Covers: addresses (a name is looked up once, and the connection is made to the address that was checked, so that a name which changes its
mind reaches nothing else), redirects (checked like the first URL), ports, size, time, compression, pages instead of data. Does not cover:
what the bytes mean (formats.py), and proxies, which are not used because they would look names up themselves.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import httpcore
import httpx

from gradients import __version__
from gradients.datasets.downloads import Deadline, check_size, safe_stem, save
from gradients.datasets.formats import ENDINGS
from gradients.domain.addresses import may_be_called
from gradients.errors import DatasetInvalid, OutsideError

SILENCE_SECONDS = 30.0
MOST_REDIRECTS = 5
HIGHEST_PORT = 65_535
LOWEST_OTHER_PORT = 1024  # below are mail, remote shells and the like, which a request must not reach
REDIRECTS = frozenset({301, 302, 303, 307, 308})
PASSING = frozenset({408, 425, 429})  # refusals that say "later"
ENDING_OF_TYPE = {
    "application/json": ".json",
    "application/jsonl": ".jsonl",
    "application/x-jsonlines": ".jsonl",
    "application/x-ndjson": ".jsonl",
    "text/csv": ".csv",
    "application/vnd.apache.parquet": ".parquet",
    "application/zip": ".zip",
    "application/x-zip-compressed": ".zip",
}
PAGES = frozenset({"text/html", "application/xhtml+xml"})


def fetch(url: str, folder: Path, *, max_bytes: int, allow_private: bool, deadline: Deadline) -> Path:
    """The file at `url`, in `folder` under a name with an ending that says its format.

    Raises DatasetInvalid for what will never do, and OutsideError when its server does not answer.
    """
    network = _CheckedNetwork(allow_private=allow_private, deadline=deadline)
    asked = here = _parsed(url)
    try:
        with httpcore.ConnectionPool(network_backend=network, max_connections=1) as pool:
            for _ in range(MOST_REDIRECTS + 1):
                with _answer(pool, here) as answer:
                    headers = {
                        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers
                    }
                    if answer.status in REDIRECTS:
                        here = _redirected(here, headers.get("location", ""))
                        continue
                    file = folder / f"{safe_stem(asked.path)}{_ending(answer.status, headers, asked=asked, final=here)}"
                    announced = headers.get("content-length", "")
                    check_size(int(announced) if announced.isdecimal() else 0, file.name, max_bytes=max_bytes)
                    save(answer.iter_stream(), file, max_bytes=max_bytes)
                    return file
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
        raise OutsideError(
            f"{_shown(asked)} could not be fetched: {str(error) or type(error).__name__}", fix="Does its server answer?"
        ) from error
    raise DatasetInvalid(f"{_shown(asked)} redirects more than {MOST_REDIRECTS} times", fix="Name where it leads to")


@contextmanager
def _answer(pool: httpcore.ConnectionPool, url: httpx.URL) -> Iterator[httpcore.Response]:
    """The answer to a request for uncompressed bytes."""
    target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    timeout = {"connect": SILENCE_SECONDS, "read": SILENCE_SECONDS, "write": SILENCE_SECONDS}
    headers: list[tuple[bytes | str, bytes | str]] = [
        ("Host", url.netloc),
        ("User-Agent", f"gradients/{__version__}"),
        ("Accept-Encoding", "identity"),
    ]
    with pool.stream("GET", target, headers=headers, extensions={"timeout": timeout}) as answer:
        yield answer


# ---- what is asked for


def _parsed(text: str) -> httpx.URL:
    """The URL, if one may be asked for it. Raises DatasetInvalid."""
    try:
        url = httpx.URL(text)
        url.host  # noqa: B018 (a name in punycode is decoded here, and may be none)
    except (httpx.InvalidURL, ValueError) as error:  # ValueError: of names that break IDNA
        raise DatasetInvalid(f"{text[:200]!r} is not a URL: {error}", fix="Check it") from error
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise DatasetInvalid(
            f"{_shown(url)} is not an http:// or https:// URL without a password",
            fix="Name a file that anybody with its URL can have",
        )
    if url.port is not None and url.port > HIGHEST_PORT:
        raise DatasetInvalid(f"{text[:200]!r} is not a URL: there is no port {str(url.port)[:20]}", fix="Check it")
    if url.port not in (None, 80, 443) and url.port < LOWEST_OTHER_PORT:
        raise DatasetInvalid(f"Files are not fetched from port {url.port}", code="address_refused", fix="Use another")
    return url


def _redirected(url: httpx.URL, location: str) -> httpx.URL:
    """Where the answer of `url` leads to. Raises DatasetInvalid."""
    try:
        target = _parsed(str(url.join(location)))
    except (httpx.InvalidURL, ValueError) as error:
        raise DatasetInvalid(
            f"{_shown(url)} redirects to something that is not a URL: {error}", fix="Name the file itself"
        ) from error
    if url.scheme == "https" and target.scheme != "https":
        raise DatasetInvalid(f"{_shown(url)} redirects to an unencrypted {_shown(target)}", fix="Name the file itself")
    return target


def _ending(status: int, headers: Mapping[str, str], *, asked: httpx.URL, final: httpx.URL) -> str:
    """The ending of the file's format: by the URL, or else by what its server says.

    Raises OutsideError for an answer that may be another one later, and DatasetInvalid for one that is not a file that can be read.
    """
    if status >= 500 or status in PASSING:
        raise OutsideError(f"{_shown(asked)} answers {status}", fix="Try again later")
    if status != 200:
        raise DatasetInvalid(f"{_shown(asked)} answers {status}", fix="Name a file that anybody with its URL can have")
    encoding = headers.get("content-encoding", "identity")
    if encoding != "identity":  # a few bytes of it may unpack to any number
        raise DatasetInvalid(f"{_shown(asked)} comes compressed ({encoding[:20]})", fix="Name an unpacked file")
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type in PAGES:
        raise DatasetInvalid(f"{_shown(asked)} is a page, not a file", fix="Name what its download button leads to")
    by_path = [PurePosixPath(unquote(url.path)).suffix.lower() for url in (asked, final)]
    for ending in (*by_path, ENDING_OF_TYPE.get(content_type, "")):
        if ending in ENDINGS:
            return ending
    raise DatasetInvalid(
        f"{_shown(asked)} does not say its format, neither by an ending nor by its content type",
        fix=f"Name a URL that ends in one of {', '.join(ENDINGS)}",
    )


def _shown(url: httpx.URL) -> str:
    """The URL without its query, which may hold a signature."""
    return str(url.copy_with(query=None, fragment=None, userinfo=b""))[:200]


# ---- the network


class _CheckedNetwork(httpcore.NetworkBackend):
    """Connects to public addresses only, and lets nothing go on after its deadline, however slowly bytes drip."""

    def __init__(self, *, allow_private: bool, deadline: Deadline) -> None:
        self._allow_private = allow_private
        self._deadline = deadline
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to the first address of `host` that answers, of those that may be called."""
        problem: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses_of(host, port, allow_private=self._allow_private):
            try:
                stream = self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
            else:
                return _TimedStream(stream, self._deadline)
        raise problem


class _TimedStream(httpcore.NetworkStream):
    """A connection that ends with a deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._within(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._within(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            secured = self._stream.start_tls(ssl_context, server_hostname, self._within(timeout))
        except httpcore.ConnectError as error:
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):  # it will be the same the next time
                raise DatasetInvalid(
                    f"The certificate of {server_hostname} is not good: {error.__cause__.verify_message}",
                    fix="Check the URL",
                ) from error
            raise
        return _TimedStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)

    def _within(self, timeout: float | None) -> float:
        left = self._deadline.left()
        if left <= 0:
            raise httpcore.ReadTimeout("it took too long as a whole")
        return min(left, timeout if timeout is not None else left)


def addresses_of(host: str, port: int, *, allow_private: bool) -> list[str]:
    """The addresses of `host` that may be called, in the resolver's order. Raises DatasetInvalid when there is none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_NONAME:
            raise DatasetInvalid(f"There is no host {host[:200]}", fix="Check the URL") from error
        raise httpcore.ConnectError(f"{host} could not be looked up: {error.strerror}") from error
    except UnicodeError as error:  # a label that is too long
        raise DatasetInvalid(f"{host[:200]} is not the name of a host", fix="Check the URL") from error
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    allowed = [address for address in addresses if may_be_called(address, allow_private=allow_private)]
    if not allowed:
        raise DatasetInvalid(
            f"{host[:200]} does not lie in the public internet", code="address_refused", fix="Name a public server"
        )
    return allowed
