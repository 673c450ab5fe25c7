"""Right answers for `NAME`, each in another style."""


def in_a_loop(ARGUMENTS):
    raise NotImplementedError("FILL: NAME in a loop")


def from_torch(ARGUMENTS):
    raise NotImplementedError("FILL: NAME from what torch has")


def rearranged(ARGUMENTS):
    raise NotImplementedError("FILL: NAME by another formula")


RIGHT = (
    in_a_loop,
    from_torch,
    rearranged,
)
