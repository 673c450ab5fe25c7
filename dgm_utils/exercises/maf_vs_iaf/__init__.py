"""The assignment `maf_vs_iaf`: its exercises in the order in which they are asked, and `check`."""

from dgm_utils.exercises import EDITION
from nbjudge.asking.exercise import exercises
from nbjudge.check import Checker

EXERCISES = exercises(
    __name__,
    "made_masks",
    "maf_forward",
    "maf_inverse",
    "iaf_inverse",
    "iaf_forward",
    "coupling_forward",
    "coupling_as_maf",
    "reverse_kl",
    "distillation_loss",
)

check = Checker(EXERCISES, may_import=("dgm_utils.data",), edition=EDITION)
