"""Where student code runs, and how notebooks are executed there."""
