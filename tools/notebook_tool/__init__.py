"""Make the notebooks of the course from their text sources, and check that they agree."""
