"""A web server on loopback that answers as it is told: pages by path, redirects, bytes that drip or never end, with or without TLS."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "127.0.0.2"


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came."""

    path: str  # with its query
    headers: Mapping[str, str]  # by lower-case name
    body: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """One answer. Without a Content-Length among the headers, the end of the connection ends the body."""

    body: Iterable[bytes] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Callable[[Request], Page]


@dataclass(frozen=True, slots=True)
class Site:
    """A running server and what it was asked."""

    url: str
    port: int
    requests: list[Request]


@contextlib.contextmanager
def loopback_site(
    answer: Answer, *, host: str = HOST, port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Site]:
    """Serve what `answer` says for the body."""
    requests: list[Request] = []
    server = _Server((host, port), _handler(answer, requests))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    taken = int(server.server_address[1])
    try:
        yield Site(f"{'https' if tls else 'http'}://{host}:{taken}", taken, requests)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def pages(by_path: Mapping[str, Page]) -> Answer:
    """The page of each path, whatever its query; 404 for every other path."""
    return lambda request: by_path.get(request.path.partition("?")[0], Page(status=404))


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is nothing to speak of."""


def _handler(answer: Answer, requests: list[Request]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._respond()

        def do_POST(self) -> None:
            self._respond()

        def do_PATCH(self) -> None:
            self._respond()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (as the base class calls it)
            """Say nothing."""

        def _respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            requests.append(Request(self.path, headers, body))
            page = answer(requests[-1])
            self.send_response(page.status)
            for name, value in page.headers.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # whoever asked has heard enough
                for chunk in page.body:
                    self.wfile.write(chunk)
                    self.wfile.flush()

    return Handler
