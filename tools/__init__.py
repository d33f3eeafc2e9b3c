"""Tools for those who change the course; each runs as `python -m tools.NAME` in the root of the repository."""
