"""The assignment `elbo_surgery`: its exercises in the order they are asked, and `check`."""

from dgm_utils.exercises import EDITION
from nbjudge.asking.exercise import exercises
from nbjudge.check import Checker

EXERCISES = exercises(
    __name__,
    "pairwise_log_prob",
    "log_aggregated_posterior",
    "average_kl",
    "mutual_information",
    "mutual_information_from_index",
    "marginal_kl",
    "elbo_surgery",
)

check = Checker(EXERCISES, may_import=("dgm_utils.data",), edition=EDITION)
