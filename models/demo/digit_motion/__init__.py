"""How a digit moves over a clip of eight frames: the default video model."""
