"""Pages of a PDF as passages: read by their text layer, seen as images, or both; and a handbook to try it on."""
