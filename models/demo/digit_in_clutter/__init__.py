"""Which digit stands among the clutter of a picture: the default image model."""
