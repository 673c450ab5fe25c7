"""The rows that `python -m benchmarks.tables` has written, beside what the papers print.

For a lecture's cell after a published table. No number is made here: a row that was not run is a
dash.
"""

import json
import statistics
from pathlib import Path


def read(name: str, folder: Path | str = "results") -> dict[str, list[dict]]:
    """Rows of a table that were run, by name, one for each seed; none if there is no file.

    Args:
        name: of the table.
        folder: that holds `NAME.json`; by default the lectures' own, seen from a lecture.

    """
    path = Path(folder) / f"{name}.json"
    found: dict[str, list[dict]] = {}
    for row in json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []:
        found.setdefault(row["row"], []).append(row)
    return found


def table(
    name: str,
    columns: dict[str, str],
    published: dict[str, dict[str, float]],
    folder: Path | str = "results",
) -> str:
    """A table in markdown: for each column the paper's number and ours, and how ours was trained.

    Args:
        name: of the table.
        columns: heading → name of the number in a row.
        published: name of a row → heading → the paper's number. Rows that no paper has come after,
            and a heading that no paper has gets one column only.
        folder: as in `read`.

    """
    ours = read(name, folder)
    printed = {heading for numbers in published.values() for heading in numbers}
    headings = [
        f"{heading}, {whose}"
        for heading in columns
        for whose in (("paper", "ours") if heading in printed else ("ours",))
    ]
    lines = [
        f"| {' | '.join(['', *headings, 'trained'])} |",
        f"| --- |{' ---: |' * len(headings)} --- |",
    ]
    for row in dict.fromkeys([*published, *ours]):
        cells = []
        for heading, key in columns.items():
            if heading in printed:
                number = published.get(row, {}).get(heading)
                cells.append("–" if number is None else f"{number:g}")
            cells.append(_number([one["numbers"][key] for one in ours.get(row, ())]))
        lines.append(f"| {' | '.join([row, *cells, _training(ours.get(row))])} |")
    return "\n".join(lines)


def beside(name, columns, published, folder="results") -> None:
    """Show `table` in a notebook."""
    from IPython.display import Markdown, display

    display(Markdown(table(name, columns, published, folder)))


def _number(values):
    """One run's number, or the mean of several and their standard deviation."""
    if not values:
        return "–"
    if isinstance(values[0], list):
        return " + ".join(_number(part) for part in zip(*values, strict=True))
    text = f"{statistics.fmean(values):.4g}"
    return f"{text} ± {statistics.stdev(values):.1g}" if len(values) > 1 else text


def _training(rows):
    """How far the first of the runs was trained, how fast, and on what."""
    if not rows:
        return "not run"
    said = []
    for part in rows[0].get("training", {}).values():
        plain = part["examples_per_second_of_a_plain_loop"]
        said += [
            f"{part['epochs']:g} of {part['of_epochs']:g} epochs",
            f"{part['minutes']:.2g} min",
            f"{part['examples_per_second']:,} images/s (plain loop {plain:,})",
        ]
    said.append(rows[0]["device"])
    if len(rows) > 1:
        said.append(f"{len(rows)} seeds")
    return ", ".join(said)
