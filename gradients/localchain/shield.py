"""Opening encrypted transactions: ML-KEM-768 for the key, XChaCha20-Poly1305 for the bytes (subtensor: pallets/shield).

The key pair comes from the chain's own seed, so that a transaction encrypted before a restart still opens after it. So it is not a
secret on the machine; a chain of one's own has no strangers to hide it from.
"""

from __future__ import annotations

from hashlib import blake2b

from Crypto.Cipher import ChaCha20_Poly1305
from kyber_py.ml_kem import ML_KEM_768

from gradients.localchain.scale.compact import Reader

KEY_HASH_BYTES = 16
NONCE_BYTES = 24
TAG_BYTES = 16


class Shield:
    """The block author's key pair."""

    def __init__(self, seed: bytes) -> None:
        self.public_key, self._secret_key = ML_KEM_768.key_derive(blake2b(b"shield" + seed, digest_size=64).digest())

    def open(self, ciphertext: bytes) -> bytes | None:
        """The transaction inside; None when it was not made for this key or is damaged."""
        reader = Reader(ciphertext)
        try:
            reader.take(KEY_HASH_BYTES)
            encapsulated = reader.take(int.from_bytes(reader.take(2), "little"))
            nonce = reader.take(NONCE_BYTES)
            sealed = reader.rest()
            key = ML_KEM_768.decaps(self._secret_key, encapsulated)
            cipher = ChaCha20_Poly1305.new(key=key, nonce=nonce)
            return bytes(cipher.decrypt_and_verify(sealed[:-TAG_BYTES], sealed[-TAG_BYTES:]))
        except ValueError:
            return None
