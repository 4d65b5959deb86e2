"""What a doctor says of ports and public addresses, on real sockets."""

from __future__ import annotations

import socket
import threading

import pytest

from gradients.axon.ports import free_ports
from gradients.config import AxonSettings
from gradients.doctor import axon as module
from gradients.doctor.axon import address_of, port, reached
from gradients.doctor.findings import Finding
from gradients.domain.chain import AxonAddress

HOST = "127.0.0.2"


def test_an_address_that_leads_here_is_told_from_another_machines() -> None:
    axon = AxonSettings(host=HOST, port=free_ports(HOST, 1)[0])
    assert reached(axon, AxonAddress(HOST, axon.port), at_work=False).level == "ok"
    with socket.socket() as other:
        other.bind(("127.0.0.3", 0))
        other.listen()
        elsewhere = reached(axon, AxonAddress(*other.getsockname()), at_work=False)
    assert (elsewhere.level, "another machine than this one answers" in elsewhere.found) == ("missing", True)


def test_an_address_that_nothing_answers_at_names_the_port_to_open() -> None:
    axon = AxonSettings(host=HOST, port=free_ports(HOST, 1)[0])
    nobody = AxonAddress("127.0.0.3", free_ports("127.0.0.3", 1)[0])
    found = reached(axon, nobody, at_work=False)
    assert (found.level, f"let {nobody.port}/tcp in" in found.advice) == ("missing", True)


def test_an_address_of_ipv6_is_not_published_for_a_listener_on_ipv4() -> None:
    found = reached(AxonSettings(port=0), AxonAddress("2001:db8::1", 8091), at_work=False)
    assert (found.level, "--axon-host ::" in found.advice) == ("missing", True)


@pytest.mark.parametrize(
    ("external", "says", "mend"),
    [
        (None, "0.0.0.0 is not an address that others can call", "--external-ip"),
        ("localhost", "localhost is a name, and the chain takes addresses", "--external-ip (127.0.0.1)"),
        ("no.such.host.invalid", "is a name", "the name is not known here"),
        ("127.0.0.1", "the chain takes no axon at 127.0.0.1", "--external-ip"),
    ],
)
def test_what_cannot_be_published_is_told_before_anything_is_tried(external: str | None, says: str, mend: str) -> None:
    found = address_of(AxonSettings(external_ip=external))
    assert isinstance(found, Finding)
    assert (found.level, says in found.found, mend in found.advice) == ("missing", True, True)


def test_a_taken_port_is_a_strangers_unless_our_daemon_answers_there() -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        number = other.getsockname()[1]
        for at_work in (False, True):  # a daemon in the folder, and something else on the port
            found = port("axon", HOST, number, flag="--axon-port", at_work=at_work)
            assert (found.level, "--axon-port" in found.advice) == ("missing", True)
    assert port("axon", HOST, number, flag="--axon-port", at_work=False).level == "ok"


def test_a_port_that_is_given_up_a_moment_later_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TAKEN_SECONDS", 60.0)
    other = socket.create_server((HOST, 0))
    number = other.getsockname()[1]
    giving_up = threading.Timer(0.1, other.close)
    giving_up.start()
    assert port("axon", HOST, number, flag="--axon-port", at_work=False).level == "ok"
    giving_up.join()
