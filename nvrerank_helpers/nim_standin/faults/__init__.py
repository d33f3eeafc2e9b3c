"""Faults on demand: how they are written, planned, injected, and what they do to a response."""
