"""The assignment `vampprior`: its exercises in the order in which they are asked, and `check`."""

from dgm_utils.exercises import EDITION
from nbjudge.asking.exercise import exercises
from nbjudge.check import Checker

EXERCISES = exercises(
    __name__,
    "mixture_log_prob",
    "monte_carlo_kl",
    "pseudo_inputs",
    "vampprior_log_prob",
    "sample_vampprior",
    "hierarchical_elbo",
    "train_vampprior",
)

check = Checker(EXERCISES, may_import=("dgm_utils.data",), edition=EDITION)
