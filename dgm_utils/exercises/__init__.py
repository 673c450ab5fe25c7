"""What is asked, a module a topic."""

from dgm_utils import OLDEST, __version__
from nbjudge.course.declared import Declared
from nbjudge.judging.stamp import Edition

DECLARED = Declared(
    command="dgm",
    device="DGM_DEVICE",
    cluster="pip install dgm_utils[cluster]",
    manual="docs/instructors.md",
)

EDITION = Edition(
    "dgm_utils",
    __version__,
    OLDEST,
    update="in the course folder, stop JupyterLab, then: git pull && make lab",
)
