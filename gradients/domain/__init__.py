"""The market's values: frozen, standard library only, free of any framework."""
