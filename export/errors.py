"""What an export can refuse."""

from __future__ import annotations


class ExportError(Exception):
    """The export is not sound, so nothing was written; says what failed and by how much."""
