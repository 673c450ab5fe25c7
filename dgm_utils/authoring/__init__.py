"""For maintainers: what `dgm new-exercise` writes."""
