"""The assignment `dequantization`: its exercises in the order they are asked, and `check`."""

from dgm_utils.exercises import EDITION
from nbjudge.asking.exercise import exercises
from nbjudge.check import Checker

EXERCISES = exercises(
    __name__,
    "uniform_dequantize",
    "exact_log_pmf",
    "uniform_bound",
    "sigmoid_noise",
    "variational_bound",
    "importance_weighted_dequantization",
    "logit_preprocess",
    "bits_per_dim",
)

check = Checker(EXERCISES, may_import=("dgm_utils.data",), edition=EDITION)
