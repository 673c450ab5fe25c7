"""How the warm process begins, inside the sandbox: it looks around while it imports.

Run as `python -m ….warm SOCKET TASKS jailed|free UNSEEN [MODULE …]`. UNSEEN says in JSON which
places and which packages nothing inside may see (see `probe`); the modules are imported once, for
all kernels.
"""

import importlib
import json
import sys

from nbjudge.inside import probe

if __name__ == "__main__":
    socket, tasks, option, unseen, *preloaded = sys.argv[1:]
    jailed = option == "jailed"
    search = probe.begin(**json.loads(unseen)) if jailed else None
    zygote = importlib.import_module(f"{__package__}.zygote")
    for module in preloaded:
        importlib.import_module(module)
    if search and (seen := probe.end(search)):
        print(seen)
        sys.exit(probe.SEEN)
    zygote.serve(socket, tasks, jailed)
