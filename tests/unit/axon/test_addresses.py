"""Addresses that peers may have. Those that they may not have are tried on a client, in tests/security."""

from __future__ import annotations

import pytest

from gradients.axon.client import check_address
from gradients.domain.addresses import is_private
from gradients.domain.chain import AxonAddress
from gradients.errors import PeerUnreachable

PUBLIC = ["1.1.1.1", "8.8.8.8", "100.128.0.1", "172.32.0.1", "2606:4700:4700::1111", "2a00:1450::1", "::ffff:1.1.1.1"]
PRIVATE = ["127.0.0.1", "127.0.0.2", "10.0.0.1", "172.16.0.1", "192.168.1.1", "::1", "fd00::1", "::ffff:127.0.0.1"]


@pytest.mark.parametrize("allow_private", [True, False])
@pytest.mark.parametrize("ip", PUBLIC)
def test_a_public_address_is_called_on_any_network(ip: str, allow_private: bool) -> None:
    check_address(AxonAddress(ip, 8091), allow_private=allow_private)


@pytest.mark.parametrize("ip", PRIVATE)
def test_a_private_address_is_called_on_a_local_network(ip: str) -> None:
    check_address(AxonAddress(ip, 8091), allow_private=True)


@pytest.mark.parametrize(
    "ip", ["0.0.0.0", "::", "169.254.169.254", "fe80::1", "224.0.0.1", "255.255.255.255", "localhost"]
)
def test_metadata_services_and_groups_are_called_on_no_network(ip: str) -> None:
    with pytest.raises(PeerUnreachable):
        check_address(AxonAddress(ip, 8091), allow_private=True)


@pytest.mark.parametrize("port", [1024, 65535])
def test_the_ports_of_users_are_called(port: int) -> None:
    check_address(AxonAddress("1.1.1.1", port), allow_private=False)


def test_private_addresses_are_those_of_this_machine_and_its_site() -> None:
    assert [ip for ip in PRIVATE if not is_private(ip)] == []
    assert [ip for ip in (*PUBLIC, "169.254.0.1", "fe80::1", "0.0.0.0", "localhost") if is_private(ip)] == []
