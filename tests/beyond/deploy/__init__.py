"""The files under `deploy/`: valid, consistent, and run by nginx under load."""
