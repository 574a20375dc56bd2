"""What the lab raises."""

from __future__ import annotations


class LabError(Exception):
    """The lab, or something in it, cannot do what was asked. The text says what, where, and what to do next."""
