"""`distillation_loss`: the KL divergence of a student from its teacher, at the student's draws."""

from dgm_utils import maf_vs_iaf
from dgm_utils.exercises.maf_vs_iaf import _networks
from dgm_utils.exercises.maf_vs_iaf._shared import kl_cases
from nbjudge.asking.page import Page

page = Page(
    maf_vs_iaf.distillation_loss,
    "the average of log p_s(x) − log p_t(x) over the student's own draws, one number",
    points=1,
    minutes=5,
    difficulty=1,
    axes="B D, _, _, _ -> ()",
    wrt="z base_log_prob student_generate teacher_log_prob",
    may_use=(_networks,),
    hints=(
        "The student draws x = g(z) and knows its own density there; the teacher scores the same "
        "x. KL(p_s‖p_t) is the average of the difference of the logs.",
        "log p_s(x) = log p(z) − log|det ∂x/∂z|: its average is −H(p_s). The average of "
        "−log p_t(x) is the cross-entropy H(p_s, p_t).",
        "`x, log_det = student_generate(z)`, then the mean over the batch of "
        "`base_log_prob(z) - log_det - teacher_log_prob(x)`.",
    ),
)

page.terms(
    {
        "the mean of log p(z)": lambda z, base_log_prob: base_log_prob(z).mean(),
        "the mean of log |det|": lambda z, student_generate: student_generate(z)[1].mean(),
        "the mean of the teacher's log p(x)": lambda z, student_generate, teacher_log_prob: (
            teacher_log_prob(student_generate(z)[0]).mean()
        ),
    }
)


@page.cases
def _(draw):
    for case in kl_cases(page, draw):
        # A teacher is a density, normalized.
        if case.facts.get("log_ratio", 0.0) == 0.0:
            yield case


page.must_equal(
    "log_ratio",
    "Where the student's density is the teacher's, the loss is 0 whatever was drawn. Yours is not.",
)
page.must_equal(
    "kl", "For these z the loss is the KL divergence of two Gaussians, exactly. Yours is not."
)


@page.wrong("sum over the draws")
def _(z, base_log_prob, student_generate, teacher_log_prob):
    """You sum over the draws: {got}; an expectation is estimated by their average, {expected}."""
    x, log_det = student_generate(z)
    return (base_log_prob(z) - log_det - teacher_log_prob(x)).sum()


@page.wrong("one value for each draw")
def _(z, base_log_prob, student_generate, teacher_log_prob):
    """You return one value for each draw, shape (B,); a loss is one number, their average."""
    x, log_det = student_generate(z)
    return base_log_prob(z) - log_det - teacher_log_prob(x)


@page.wrong("cross-entropy only")
def _(z, base_log_prob, student_generate, teacher_log_prob):
    """You return the cross-entropy H(p_s, p_t) alone: {got}. Its minimum is a student that draws
    the teacher's most likely point only; less the student's entropy it is {expected}.
    """
    x, _ = student_generate(z)
    return -teacher_log_prob(x).mean()


@page.wrong("entropy added")
def _(z, base_log_prob, student_generate, teacher_log_prob):
    """You add the student's entropy to the cross-entropy: {got}; KL(p_s‖p_t) = H(p_s, p_t) −
    H(p_s), {expected}.
    """
    x, log_det = student_generate(z)
    return (log_det - base_log_prob(z) - teacher_log_prob(x)).mean()


@page.wrong("log-det with the wrong sign")
def _(z, base_log_prob, student_generate, teacher_log_prob):
    """You add the log-determinant: {got}; the student's density is log p(z) − log_det,
    {expected}.
    """
    x, log_det = student_generate(z)
    return (base_log_prob(z) + log_det - teacher_log_prob(x)).mean()


@page.wrong("the base left out")
def _(z, base_log_prob, student_generate, teacher_log_prob):
    """You take −log_det for the student's log-density: {got}. The base's density belongs to it,
    log p(z) − log_det, and then it is {expected}.
    """
    x, log_det = student_generate(z)
    return (-log_det - teacher_log_prob(x)).mean()


@page.wrong("log-det left out")
def _(z, base_log_prob, student_generate, teacher_log_prob):
    """You take the density of z for the density of x: {got}; the student's log-density is
    log p(z) − log_det, {expected}.
    """
    x, _ = student_generate(z)
    return (base_log_prob(z) - teacher_log_prob(x)).mean()


@page.wrong("x detached")
def _(z, base_log_prob, student_generate, teacher_log_prob):
    """Your numbers are right, but you detach the student's draws before the teacher scores them,
    so that the student does not learn what the teacher likes; only the teacher's parameters
    stay fixed in training, and the optimizer sees to that.
    """
    x, log_det = student_generate(z)
    return (base_log_prob(z) - log_det - teacher_log_prob(x.detach())).mean()
