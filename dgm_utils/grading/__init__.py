"""How exercises are checked and classes are graded; knows nothing about generative models."""
