"""What each call does: the chain's checks in the chain's order, then the writes."""
