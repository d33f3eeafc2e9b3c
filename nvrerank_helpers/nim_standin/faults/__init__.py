"""Faults on demand: their text, the plan that draws them, and what they do to a response."""
