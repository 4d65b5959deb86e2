"""The runtime's description of itself (metadata V15), built from the pallets' declarations."""
