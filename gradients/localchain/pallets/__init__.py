"""What the chain declares: storage, calls, events, errors, constants and runtime APIs, pallet by pallet."""
