"""Reference models, exact oracles and autograded exercises for deep generative models."""
