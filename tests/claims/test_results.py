"""What stands beside the papers' numbers is what was run, and a dash where nothing was."""

import json

from dgm_utils import results

TRAINING = {
    "model": {
        "epochs": 3,
        "of_epochs": 40,
        "minutes": 2.4,
        "examples_per_second": 7501,
        "examples_per_second_of_a_plain_loop": 6000,
    }
}
TRAINED = "3 of 40 epochs, 2.4 min, 7,501 images/s (plain loop 6,000), a card"


def write(folder, *rows):
    (folder / "one.json").write_text(json.dumps(list(rows)))


def row(name, value, seed=0):
    numbers = {"nll": value, "units": [3, 4]}
    return {
        "row": name,
        "seed": seed,
        "numbers": numbers,
        "training": TRAINING,
        "device": "a card",
    }


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_each_column_has_the_papers_number_and_ours(tmp_path):
    write(tmp_path, row("A", 86.123), row("C", 5.0))
    columns = {"NLL": "nll", "active": "units"}
    published = {"A": {"NLL": 85.5, "active": 19}, "B": {"NLL": 84.78}}
    heading, _, *body = cells(results.table("one", columns, published, tmp_path))
    assert heading == ["", "NLL, paper", "NLL, ours", "active, paper", "active, ours", "trained"]
    assert body == [
        ["A", "85.5", "86.12", "19", "3 + 4", TRAINED],
        ["B", "84.78", "–", "–", "–", "not run"],
        ["C", "–", "5", "–", "3 + 4", TRAINED],
    ]


def test_several_seeds_are_averaged(tmp_path):
    write(tmp_path, row("A", 1.0), row("A", 3.0, seed=1))
    heading, _, body = cells(results.table("one", {"NLL": "nll"}, {}, tmp_path))
    # No paper has this number.
    assert heading == ["", "NLL, ours", "trained"]
    assert body[1:] == ["2 ± 1", f"{TRAINED}, 2 seeds"]


def test_without_a_file_nothing_was_run(tmp_path):
    assert results.read("one", tmp_path) == {}
    *_, body = cells(results.table("one", {"NLL": "nll"}, {"A": {"NLL": 1.0}}, tmp_path))
    assert body == ["A", "1", "–", "not run"]
