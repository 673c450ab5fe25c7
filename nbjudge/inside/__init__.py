"""What runs beside student code: this folder, and nothing else, is copied into a sandbox."""
