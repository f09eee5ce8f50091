"""Which programming language a snippet is in: the default text model."""
