"""The assignment `latent_variable_models`: its exercises in the order asked, and `check`."""

from dgm_utils.exercises import EDITION
from nbjudge.asking.exercise import exercises
from nbjudge.check import Checker

EXERCISES = exercises(
    __name__,
    "naive_log_likelihood",
    "e_step",
    "m_step",
    "reparameterize",
    "gaussian_kl",
    "bernoulli_log_likelihood",
    "gaussian_elbo",
    "score_function_gradient",
    "pathwise_gradient",
)

check = Checker(EXERCISES, may_import=("dgm_utils.data",), edition=EDITION)
