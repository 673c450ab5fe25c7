"""`TOPIC`: its exercises in the order in which they are asked, and `check`."""

from dgm_utils.exercises import EDITION
from nbjudge.asking.exercise import exercises
from nbjudge.check import Checker

EXERCISES = exercises(
    __name__,
    "NAME",
)

check = Checker(EXERCISES, may_import=("dgm_utils.data",), edition=EDITION)
