"""Train, evaluate and write down rows of a published table.

    python -m benchmarks.tables iwae                        # all rows, to the end
    python -m benchmarks.tables iwae --budget 30            # half an hour of training for each row
    python -m benchmarks.tables iwae --row "IWAE, K = 5" --seed 1 --device cuda

Rows go to `lectures/results/NAME.json`, for lectures to read. A run that was cut short goes on
from its checkpoint in `_build/tables/`. `--budget` shortens the training to what fits, `--epochs`
to as much for every row, and the row says how many epochs of how many it had. Data: set `DGM_DATA`,
as docs/benchmarks.md says.
"""

import argparse
import importlib
import os
import pkgutil
import re
import sys

import torch

from benchmarks import tables
from benchmarks.tables.rows import RESULTS, Work, make_row, record

NAMES = sorted(
    module.name
    for module in pkgutil.iter_modules(tables.__path__)
    if module.name not in ("rows", "__main__")
)


def main() -> int:
    """Run the rows that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tables", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("table", choices=NAMES)
    parser.add_argument("--row", action="append", metavar="NAME", help="only this one; repeatable")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, metavar="MINUTES", help="of training, for each row")
    parser.add_argument(
        "--epochs", type=int, metavar="N", help="of training at most, for rows of different cost"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    table = importlib.import_module(f"benchmarks.tables.{options.table}")
    if unknown := sorted(set(options.row or ()) - set(table.ROWS)):
        parser.error(f"no row {unknown[0]!r} in {options.table}; there are {list(table.ROWS)}")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    for name in options.row or table.ROWS:
        file = "-".join(re.findall(r"\w+", f"{options.table} {name} seed {options.seed}"))
        device = torch.device(options.device)
        work = Work(file, options.seed, device, options.budget, epochs=options.epochs)
        row = make_row(table, name, table.ROWS[name], work)
        record(RESULTS / f"{options.table}.json", row)
        print(f"{name}: {row['numbers']}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
