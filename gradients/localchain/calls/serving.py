"""Publishing where a neuron serves (subtensor: subnets/serving.rs)."""

from __future__ import annotations

from gradients.localchain.dispatch import Dispatch, require
from gradients.localchain.pallets import errors, events
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.pallets.subtensor_types import AxonInfo, NeuronCertificate
from gradients.localchain.scale.hints import U8, U16, U32, U128

ERRORS = errors.SUBTENSOR
LOCALHOST = {4: 0x7F000001, 6: 1}  # the only loopback addresses that the chain refuses; 127.0.0.2 and up pass
LAST_ADDRESS = {4: 2**32 - 1, 6: 2**128 - 1}
CERTIFICATE_BYTES = 65  # an algorithm and up to 64 bytes of public key


def serve_axon(
    call: Dispatch,
    netuid: U16,
    version: U32,
    ip: U128,
    port: U16,
    ip_type: U8,
    protocol: U8,
    placeholder1: U8,
    placeholder2: U8,
) -> None:
    """Publish the signer's address."""
    axon = AxonInfo(call.block, version, ip, port, ip_type, protocol, placeholder1, placeholder2)
    _publish(call, netuid, axon)


def serve_axon_tls(
    call: Dispatch,
    netuid: U16,
    version: U32,
    ip: U128,
    port: U16,
    ip_type: U8,
    protocol: U8,
    placeholder1: U8,
    placeholder2: U8,
    certificate: bytes,
) -> None:
    """Publish the signer's address and public key; a certificate of another shape is passed over, as on the chain."""
    axon = AxonInfo(call.block, version, ip, port, ip_type, protocol, placeholder1, placeholder2)
    _publish(call, netuid, axon)
    if 1 < len(certificate) <= CERTIFICATE_BYTES:
        key = NeuronCertificate(certificate[1:], certificate[0])
        call.state.put(st.NEURON_CERTIFICATES, netuid, call.signer, value=key)


def _publish(call: Dispatch, netuid: int, axon: AxonInfo) -> None:
    state = call.state
    require(state.get(st.NETWORKS_ADDED, netuid), ERRORS["SubnetNotExists"])
    require(state.has(st.UIDS, netuid, call.signer), ERRORS["HotKeyNotRegisteredInNetwork"])
    require(axon.ip_type in LOCALHOST, ERRORS["InvalidIpType"])
    valid = axon.ip != LOCALHOST[axon.ip_type] and axon.ip < LAST_ADDRESS[axon.ip_type]
    require(valid, ERRORS["InvalidIpAddress"])
    known = state.get(st.AXONS, netuid, call.signer)
    limit = state.get(st.SERVING_RATE_LIMIT, netuid)
    require(known is None or call.block - known.block >= limit, ERRORS["ServingRateLimitExceeded"])
    require(axon.port != 0, ERRORS["InvalidPort"])
    state.put(st.AXONS, netuid, call.signer, value=axon)
    call.emit(events.SUBTENSOR["AxonServed"], netuid, call.signer)
