"""Ports, and the public address: whether the one can be listened on and whether the other leads back here.

Covers: a trial from this machine, with a word that only this process knows. Does not cover: routers that don't let machines behind them
call their public address, and firewalls that ask where a caller comes from.
"""

from __future__ import annotations

import errno
import secrets
import socket
import time

import httpx

from gradients.config import AxonSettings
from gradients.doctor.findings import Finding
from gradients.domain.chain import AxonAddress
from gradients.errors import GradientsError

NEVER_TAKEN = ("127.0.0.1", "::1", "255.255.255.255")  # subtensor: serving.rs, is_valid_ip_address
_CONNECT_SECONDS = 1.5
_TAKEN_SECONDS = 0.5


def port(name: str, host: str, number: int, *, flag: str, at_work: bool) -> Finding:
    """Whether a port can be listened on, or is our daemon's already.

    Args:
        flag: what names another one, for advice.
        at_work: whether a daemon runs in the folder that is looked at.
    """
    try:
        with listener(host, number):
            return Finding(name, "ok", f"{host}:{number} is free")
    except OSError as error:
        if at_work and livez(from_here(host, number)) is not None:
            return Finding(name, "ok", f"{host}:{number}, where the running daemon answers")
        found = f"{host}:{number} cannot be listened on: {error.strerror}"
        advice = f"stop what uses it (`ss -ltnp 'sport = :{number}'` names it), or choose another: {flag}"
        return Finding(name, "missing", found, advice)


def address_of(axon: AxonSettings) -> AxonAddress | Finding:
    """What would be published, or why nothing can be."""
    try:
        address = axon.published(AxonAddress(axon.host, axon.port))
        socket.inet_pton(socket.AF_INET6 if ":" in address.ip else socket.AF_INET, address.ip)
        if address.ip in NEVER_TAKEN:
            found = f"the chain takes no axon at {address.ip}"
            return Finding(
                "address",
                "missing",
                found,
                "give this machine's public one (127.0.0.2 on a local network): --external-ip",
            )
    except GradientsError as error:
        return Finding("address", "missing", error.message, error.fix or "")
    except OSError:
        found = f"{axon.external_ip or axon.host} is a name, and the chain takes addresses"
        return Finding("address", "missing", found, f"give its address: --external-ip ({_resolved(axon)})")
    return address


def reached(axon: AxonSettings, address: AxonAddress, *, at_work: bool) -> Finding:
    """Whether the address that is published leads to this machine, tried from here."""
    if (":" in address.ip) is not (":" in axon.host):
        found = f"{address.ip} is published, and nobody listens there: the interface is {axon.host}"
        return Finding("address", "missing", found, "--axon-host :: listens on IPv6 too; or publish an address of IPv4")
    advice = (
        f"let {address.port}/tcp in (firewall, cloud's security group, router's forwarding to port {axon.port}), or correct "
        "--external-ip and --external-port; a router that does not let its own machines call it needs no change: no peer could be asked"
    )
    if at_work:
        if livez(address) is not None:
            return Finding("address", "ok", f"{address.url()} answers from here")
        return Finding("address", "missing", f"{address.url()} does not answer", advice)
    word = secrets.token_bytes(16)
    try:
        with listener(axon.host, axon.port) as ours:
            ours.settimeout(_CONNECT_SECONDS)
            with socket.create_connection((address.ip, address.port), timeout=_CONNECT_SECONDS) as call:
                call.sendall(word)
                if _hears(ours, word):
                    return Finding("address", "ok", f"{address.url()} leads here, tried from here")
            return Finding("address", "missing", f"another machine than this one answers at {address.url()}", advice)
    except OSError as error:
        return Finding("address", "missing", f"{address.url()} cannot be reached: {error.strerror or error}", advice)


def listener(host: str, number: int) -> socket.socket:
    """A socket that listens as a daemon's would.

    Raises OSError, where a port is taken after a moment: a program that another look is just starting holds copies of our sockets.
    """
    give_up_at = time.monotonic() + _TAKEN_SECONDS
    while True:
        made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((host, number))
            made.listen(8)
        except OSError as error:
            made.close()
            if error.errno != errno.EADDRINUSE or time.monotonic() > give_up_at:
                raise
            time.sleep(0.02)
        else:
            return made


def _hears(ours: socket.socket, word: bytes) -> bool:
    """Whether the next caller says the word."""
    try:
        connection, _ = ours.accept()
        with connection:
            connection.settimeout(_CONNECT_SECONDS)
            return connection.recv(len(word), socket.MSG_WAITALL) == word
    except TimeoutError:
        return False


def livez(address: AxonAddress) -> bytes | None:
    """What a daemon answers there to whoever asks whether it lives; None where none answers."""
    try:
        answer = httpx.get(address.url("/livez"), timeout=_CONNECT_SECONDS, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
    return answer.content if answer.status_code == httpx.codes.OK else None


def from_here(host: str, number: int) -> AxonAddress:
    """An address by which this machine reaches what listens on an interface."""
    return AxonAddress({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), number)  # noqa: S104 (compared, not bound)


def _resolved(axon: AxonSettings) -> str:
    """What a name stands for now, for advice."""
    try:
        return socket.gethostbyname(axon.external_ip or axon.host)
    except OSError:
        return "the name is not known here"
