"""Every figure, in one style (``canvas``): SVG text and PNG bytes, the same bytes for the same input."""
