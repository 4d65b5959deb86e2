"""The node's face: JSON-RPC over a websocket, as a Substrate node speaks it."""
