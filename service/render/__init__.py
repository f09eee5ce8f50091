"""Attention maps as pictures and pages; pure functions of numpy."""
