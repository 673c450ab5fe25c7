"""FILL: what the topic is, and the formula it is about.

Everything is in nats.

Sources: FILL.
"""


def NAME(ARGUMENTS):
    """FILL: what is computed, shapes as in `(B, D) → (B,)`, units, what raises what."""
    raise NotImplementedError("FILL: the reference NAME")
