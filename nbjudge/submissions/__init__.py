"""What students hand in, taken in and mended."""
