"""Addresses that peers may have. Those that they may not have are tried on a client, in tests/security."""

from __future__ import annotations

import ipaddress

import pytest

from gradients.axon.client import check_address
from gradients.domain.addresses import OF_A_SITE, SPECIAL, is_private, may_be_called
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


@pytest.mark.parametrize("network", SPECIAL)
def test_no_special_network_is_public_from_its_first_address_to_its_last(network: str) -> None:
    net = ipaddress.ip_network(network)
    for address in (net[0], net[net.num_addresses // 2], net[-1]):
        assert not may_be_called(str(address), allow_private=False), address


@pytest.mark.parametrize("network", [each for each in SPECIAL if each not in OF_A_SITE])
def test_a_special_network_that_is_not_a_sites_is_called_on_no_network(network: str) -> None:
    net = ipaddress.ip_network(network)
    held = [address for address in (net[0], net[-1]) if not is_private(str(address))]
    assert held  # ::/128 and the like have one address
    assert not any(may_be_called(str(address), allow_private=True) for address in held)


# What was public to one interpreter's tables or another's, and how addresses of IPv4 dress up as IPv6.
@pytest.mark.parametrize(
    "ip",
    [
        "192.0.0.192",
        "192.0.0.8",
        "192.0.0.9",
        "::ffff:192.0.0.192",
        "::ffff:10.0.0.1",
        "::ffff:a9fe:a9fe",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "2002:a9fe:a9fe::1",
        "2002:808:808::1",
        "2001:0:808:808::1",
        "2001:1::1",
        "2001:20::1",
        "2001:1ff:ffff::1",
        "100::1",
        "100:0:0:1::1",
        "::8.8.8.8",
        "::127.0.0.1",
        "fec0::1",
        "4000::1",
        "5f00::1",
        "fe80::1%eth0",
        "2606:4700:4700::1111%eth0",
    ],
)
def test_an_address_that_leads_elsewhere_is_not_public(ip: str) -> None:
    assert not may_be_called(ip, allow_private=False)


@pytest.mark.parametrize(
    "ip",
    ["192.0.1.1", "191.255.255.255", "223.255.255.255", "2001:200::1", "2001:4860:4860::8888", "2003::1", "3ffe::1"],
)
def test_the_neighbours_of_special_networks_are_public(ip: str) -> None:
    assert may_be_called(ip, allow_private=False)
