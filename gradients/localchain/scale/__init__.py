"""SCALE, Substrate's binary encoding: types that encode, decode and describe themselves."""
