"""Set-up: `.venv`, the environments beside it, and their locks."""
