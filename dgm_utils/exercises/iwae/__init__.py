"""The assignment `iwae`: its exercises in the order in which they are asked, and `check`."""

from dgm_utils.exercises import EDITION
from nbjudge.asking.exercise import exercises
from nbjudge.check import Checker

EXERCISES = exercises(
    __name__,
    "log_importance_weights",
    "multi_sample_elbo",
    "iwae_bound",
    "subset_bound",
    "iwae_gradient_weights",
    "q_iw_log_prob",
    "gradient_snr",
    "active_units",
)

check = Checker(EXERCISES, may_import=("dgm_utils.data",), edition=EDITION)
