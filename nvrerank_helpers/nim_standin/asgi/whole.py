"""Whole numbers as JSON Schema has them."""

from pydantic import BeforeValidator


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(_whole)
"""For an integer of a strict model: 7.0 is one, "7" is not."""
