"""FILL: the claims of lecture NN, held against exact answers."""


def test_NAME():
    """FILL: the claim that NAME answers, as a sentence."""
    raise NotImplementedError("FILL: hold NAME against an exact answer")
