"""The loopback subtensor: a chain on one machine that the unmodified Bittensor SDK and btcli connect to."""
