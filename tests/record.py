"""What the checks say of every wrong answer on record, frozen in `tests/data/record/`.

    python tests/record.py            compares and prints what differs; exit code 1 if anything does
    python tests/record.py --write    stores what the checks say now

A change to the cases, the judge or an exercise shows here in the words that students read, wrong
answer by wrong answer. `--topic` and `--exercise` restrict both commands. Only a change that is
meant to alter the words writes the record anew, and its diff is then read like any other.

Numbers are kept to three digits, and 1 % is let pass between two of them. Another processor adds in
another order, which changes the last digits: after a difference of large numbers the fifth of
float32, and then the third, if it was about to be rounded the other way. What is meant to be zero
comes out as any number near it, so that all below 1e-6 count as zero.
"""

import argparse
import dataclasses
import functools
import json
import re
import sys

import torch
from conftest import EXERCISES, EXERCISES_OF, ROOT, TOPICS

from nbjudge.asking.task import device_probe, make_task
from nbjudge.check import devices
from nbjudge.judging.judge import judge
from nbjudge.judging.sheet import Sheet
from nbjudge.judging.verdict import Verdict

FOLDER = ROOT / "tests" / "data" / "record"
# The students' seed, and one as a course's secret makes them.
SEEDS = (0, 3_872_982_626_502_034_966)
DTYPES = (torch.float64, torch.float32)
FIELDS = ("kind", "misconception", "sentence", "case", "got", "expected")

# A number that is no part of a name: neither that of `float64` nor that of `w_1`.
NUMBER = re.compile(r"(?<![\w.])(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?!\w)")
NEAR, ZERO = 0.01, 1e-6

_BY_NAME = {exercise.name: exercise for exercise in EXERCISES}


@functools.cache
def in_both_dtypes(name, seed):
    """The task of an exercise and its `Sheet`, which belong together, once for the process."""
    exercise = _BY_NAME[name]
    return make_task(exercise, seed, devices()), Sheet(exercise)


@functools.cache
def in_one_dtype(name, dtype, seed):
    """The part of the task in one dtype, with the same sheet."""
    task, sheet = in_both_dtypes(name, seed)
    cases = tuple(case for case in task.cases if case.facts["dtype"] == dtype)
    return dataclasses.replace(task, cases=cases, probe=device_probe(cases)), sheet


def key(dtype, seed):
    """The name of a verdict among the four of a wrong answer: dtype and number of the seed."""
    return f"{str(dtype).removeprefix('torch.')}-{SEEDS.index(seed)}"


def entry(verdict: Verdict) -> dict[str, str]:
    """What is kept of a verdict: its words, with numbers to three digits."""
    words = {field: getattr(verdict, field) or "" for field in FIELDS}
    # The case ends with the dtype, which the entry's name has already.
    words["case"] = words["case"].rpartition(", ")[0]
    return {field: NUMBER.sub(_in_short, text) for field, text in words.items()}


def differences(kept: dict[str, str], now: dict[str, str]) -> list[str]:
    """In words, where two entries differ by more than another processor would make them."""
    return [
        f"{field}: {kept.get(field)!r} on record, {now[field]!r} now"
        for field in FIELDS
        if not _same(kept.get(field, ""), now[field])
    ]


@functools.cache
def kept(topic):
    """The record of a topic: exercise → wrong answer → name of the verdict → entry."""
    path = FOLDER / f"{topic}.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {
        exercise: {name: _spread(entries) for name, entries in of_exercise.items()}
        for exercise, of_exercise in record.items()
    }


def kept_of(exercise):
    """The record of one exercise: wrong answer → name of the verdict → entry."""
    topic = next(topic for topic in TOPICS if exercise in EXERCISES_OF[topic])
    return kept(topic).get(exercise.name, {})


def seen_of(exercise):
    """What the checks say now, in the form of `kept_of`.

    Each wrong answer is observed once a case: for what it gives, and for what it would be named by.
    """
    return {
        wrong.name: {
            key(dtype, seed): entry(_verdict(exercise, wrong, dtype, seed))
            for dtype in DTYPES
            for seed in SEEDS
        }
        for wrong in exercise.misconceptions
    }


def _verdict(exercise, wrong, dtype, seed):
    task, sheet = in_one_dtype(exercise.name, dtype, seed)
    observed = [(case, sheet.wrong(wrong, case)) for case in task.cases]
    # As if it stood in a notebook: what comes from the package would be refused.
    own = {"code": frozenset(), "files": frozenset()}
    observed = [(case, dataclasses.replace(seen, **own)) for case, seen in observed]
    return judge(sheet, observed)


def _in_short(match):
    return f"{float(match[0]):.3g}"


def _same(kept, now):
    """Whether two texts have the same words, and numbers that may be the same."""
    kept, now = NUMBER.split(kept), NUMBER.split(now)
    return kept[::2] == now[::2] and all(map(_near, kept[1::2], now[1::2]))


def _near(kept, now):
    kept, now = float(kept), float(now)
    return abs(kept - now) <= max(ZERO, NEAR * abs(kept))


def _gathered(entries):
    """Equal entries once, under the names of all of them."""
    names = {}
    for name, words in entries.items():
        names.setdefault(json.dumps(words), []).append(name)
    return {" ".join(equal): entries[equal[0]] for equal in names.values()}


def _spread(entries):
    return {name: words for names, words in entries.items() for name in names.split()}


def _text(value, depth=0):
    """As JSON, with one line an entry."""
    if depth == 3:
        return json.dumps(value, ensure_ascii=False)
    inner, outer = " " * (depth + 1), " " * depth
    items = [
        f"{inner}{json.dumps(name, ensure_ascii=False)}: {_text(item, depth + 1)}"
        for name, item in value.items()
    ]
    return "{\n" + ",\n".join(items) + f"\n{outer}}}"


def _compare(topic, chosen):
    """Prints what differs; returns how much does."""
    lines = []
    for exercise in chosen:
        before, now = kept_of(exercise), seen_of(exercise)
        for name in [*now, *(name for name in before if name not in now)]:
            for which in now.get(name, before.get(name)):
                where = f"{topic}, {exercise.name}, {name}, {which}"
                if name not in now:
                    lines.append(f"{where}: on record only")
                elif which not in before.get(name, {}):
                    lines.append(f"{where}: not on record")
                else:
                    found = differences(before[name][which], now[name][which])
                    lines += [f"{where}, {difference}" for difference in found]
    names = {exercise.name for exercise in EXERCISES_OF[topic]}
    lines += [f"{topic}, {name}: on record only" for name in kept(topic) if name not in names]
    print("\n".join(lines), end="\n" if lines else "")
    return len(lines)


def _write(topic, chosen):
    record = {
        exercise.name: seen_of(exercise) if exercise in chosen else kept_of(exercise)
        for exercise in EXERCISES_OF[topic]
    }
    gathered = {
        name: {wrong: _gathered(entries) for wrong, entries in of_exercise.items()}
        for name, of_exercise in record.items()
        if of_exercise
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{topic}.json").write_text(_text(gathered) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="store what the checks say now")
    parser.add_argument("--topic", choices=TOPICS, help="of this topic only")
    parser.add_argument("--exercise", choices=_BY_NAME, metavar="NAME", help="of this one only")
    chosen = parser.parse_args()
    found = 0
    for topic in [chosen.topic] if chosen.topic else TOPICS:
        exercises = [e for e in EXERCISES_OF[topic] if chosen.exercise in (None, e.name)]
        if exercises and chosen.write:
            _write(topic, exercises)
        elif exercises:
            found += _compare(topic, exercises)
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
