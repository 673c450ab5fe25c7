"""The assignment `nf_as_vae`: its exercises in the order in which they are asked, and `check`."""

from dgm_utils.exercises import EDITION
from nbjudge.asking.exercise import exercises
from nbjudge.check import Checker

EXERCISES = exercises(
    __name__,
    "flow_log_likelihood",
    "planar_transform",
    "flow_posterior_log_prob",
    "flow_elbo",
    "noisy_decoder_log_prob",
    "noisy_encoder",
    "relaxed_elbo",
)

check = Checker(EXERCISES, may_import=("dgm_utils.data",), edition=EDITION)
