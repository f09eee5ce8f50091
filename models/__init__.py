"""Torch modules that return predictions together with named taps."""
