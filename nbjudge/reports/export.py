"""Grades as a learning platform reads them: Moodle's and Canvas's own tables, or a plain one.

nbgrader's export does not tell a submission that waits for a person, or that could not be graded,
from one with few points or none. Here such a student gets no grade, which is not 0, and is named.
"""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nbgrader.api import Student

from nbjudge.course.declared import command
from nbjudge.course.folder import Course, CourseError
from nbjudge.course.safe_files import write_whole
from nbjudge.reports.late import settle, unclear
from nbjudge.reports.read import read_class
from nbjudge.reports.tables import as_csv

_PLAIN = ["student", "name", "points", "penalty", "grade", "max_grade", "remark"]
# How Canvas names an assignment's column: its title and number.
_CANVAS_COLUMN = re.compile(r"(?P<title>.*) \(\d+\)")
_DECIMAL = re.compile(r"\d+[.,]\d+")
# How Moodle says whether a grade can be changed, in the languages that we know of.
_YES = {"yes", "ja", "oui", "sí", "sì", "sim", "tak", "kyllä", "ano", "igen", "evet", "да"}
_NO = {"no", "nein", "nee", "nej", "nei", "non", "não", "nie", "ei", "ne", "nem", "hayır", "нет"}


@dataclass(frozen=True)
class Grade:
    """A student's grade for an assignment.

    Args:
        student: nbgrader's student id.
        name: of the person, as far as it is known.
        points: for checks and written tasks; None when the grading is not complete.
        penalty: points taken off for being late.
        remark: why there is no grade, and what one should know of it.

    """

    student: str
    name: str
    points: float | None = None
    penalty: float = 0.0
    remark: str = ""

    @property
    def value(self) -> float | None:
        """What the student gets; None, and never 0, when that is not known yet."""
        return None if self.points is None else max(0.0, self.points - self.penalty)


class Filled(NamedTuple):
    """What became of a platform's table.

    Args:
        written: how many grades it got.
        by: the column by which students were found.
        column: the column of the grades.
        notes: student and sentence, where something was not written that one may miss.

    """

    written: int
    by: str
    column: str
    notes: list[tuple[str, str]]


def grades(course: Course, assignment: str) -> tuple[list[Grade], float]:
    """The grade of everyone who submitted, and the most that one can get.

    Raises:
        CourseError: when there is no such assignment, nobody submitted or nothing was graded.

    """
    layout, submissions = read_class(course, assignment)
    penalties = settle(course, assignment)
    untimed = unclear(course, assignment, [s.student for s in submissions if s.graded])
    with course.api.gradebook as gradebook:
        rows = gradebook.db.query(Student.id, Student.first_name, Student.last_name)
        names = {student: " ".join(filter(None, name)) for student, *name in rows}
    parts = {**layout.checks, **layout.written}
    found = []
    for s in submissions:
        points, remark, more = None, s.reason, s.remarks()
        if s.graded and s.waiting:
            remark = f"to be graded by hand: {', '.join(sorted(s.waiting))}"
        elif s.student in untimed:
            remark = untimed[s.student]
        elif s.graded and (points := s.points(parts)) is None:
            again = f"{command()} grade {assignment} --student {s.student}"
            remark = f"not in the gradebook: run `{again}`"
            more = []
        found.append(
            Grade(
                s.student,
                names.get(s.student, ""),
                points,
                0.0 if points is None else penalties.get(s.student, 0.0),
                "; ".join(filter(None, [remark, *more])),
            )
        )
    return found, sum(parts.values())


def write_plain(path: Path, found: list[Grade], most: float) -> None:
    """Write a table of our own: one row for each student, empty where there is no grade."""
    rows = [
        [g.student, g.name, g.points, g.penalty or None, g.value, most, g.remark] for g in found
    ]
    write_whole(path, as_csv(_PLAIN, rows))


def fill(
    path: Path, assignment: str, found: list[Grade], most: float, column: str | None = None
) -> Filled:
    """Write grades into a table that Moodle or Canvas gave, and change nothing else in it.

    It is Moodle's *grading worksheet* of the assignment, or the *gradebook* that Canvas exports. A
    student without a grade, one who is excused, and one whose grade is locked there, keeps what
    stands there. A table whose titles are not English is read when the column is named.

    Args:
        path: the table.
        assignment: its name here.
        found: the grades.
        most: the most that one can get.
        column: title of the column; None finds it.

    Raises:
        CourseError: when it is no such table, its column is not clear, it holds none of the
            students, or the platform's maximum is another; then nothing is written.

    """
    table = _Table(path)
    table.choose_column(assignment, column)
    table.compare_maximum(assignment, most)
    key, rows = table.students({g.student for g in found})
    written, notes = 0, []
    for grade in found:
        row = rows.get(grade.student)
        there = row[table.column].strip() if row else ""
        if grade.value is None:
            # Taking a grade back is the instructor's to decide.
            notes += [(grade.student, f"keeps {there}, which stands in the table")] * bool(there)
        elif not row:
            notes.append((grade.student, "has a grade and is not in the table"))
        elif table.is_locked(row):
            notes.append((grade.student, "has a grade and keeps what is there: it is locked"))
        elif there.upper() in ("EX", "N/A"):
            notes.append((grade.student, f"has a grade and keeps {there}, the platform's own word"))
        else:
            row[table.column] = table.number(grade.value)
            written += 1
    table.write()
    return Filled(written, key, table.header[table.column], notes)


class _Table:
    """A platform's CSV file; what is not changed is written as it was read."""

    def __init__(self, path):
        self.path = path
        try:
            text = path.read_bytes().decode()
        except OSError as error:
            raise CourseError(f"{path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise CourseError(
                f"{path} is not UTF-8 text: take the CSV file as the platform gave it, "
                "not one that a spreadsheet saved"
            ) from None
        self._mark = "\ufeff" * text.startswith("\ufeff")
        text = text.removeprefix("\ufeff")
        first = text.partition("\n")[0]
        self._end = "\r\n" if first.endswith("\r") else "\n"
        self._delimiter = max(",;\t", key=first.count)
        try:
            rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter))
        except csv.Error as error:
            raise CourseError(f"{path} is not a table: {error}") from None
        self.header, self._rows = (rows[0] if rows else []), rows[1:]
        self._moodle = {"Identifier", "Grade"} <= set(self.header)
        # Known by its columns' titles; of another language we know what the user names.
        self._foreign = not self._moodle and not {"Student", "ID"} <= set(self.header)
        for row in self._rows:
            row += [""] * (len(self.header) - len(row))

    def choose_column(self, assignment, title):
        """Where the grades go."""
        matches = [_CANVAS_COLUMN.fullmatch(name) for name in self.header]
        titles = {number: m["title"] for number, m in enumerate(matches) if m}
        if self._foreign:
            self._choose_foreign_column(title)
            return
        if self._moodle:
            wanted = [self.header.index("Grade")]
        elif title:
            wanted = [n for n, name in titles.items() if title in (name, self.header[n])]
        else:
            wanted = [n for n, name in titles.items() if _plain(assignment) in _plain(name)]
        if len(wanted) != 1:
            there = ", ".join(repr(self.header[n]) for n in titles) or "no assignment"
            raise CourseError(
                f"{self.path}: {'no' if not wanted else 'more than one'} column for "
                f"{title or assignment!r}; there is {there}: name one with --column"
            )
        (self.column,) = wanted

    def _choose_foreign_column(self, title):
        """In a table of another language, the one that is named; nothing else tells it."""
        wanted = [number for number, name in enumerate(self.header) if title == name.strip()]
        if len(wanted) != 1:
            there = ", ".join(map(repr, self.header)) or "nothing"
            raise CourseError(
                f"{self.path} is neither Moodle's grading worksheet in English (with the columns "
                "Identifier and Grade) nor Canvas's gradebook (with the columns Student and ID): "
                "if its columns are in another language, name that of the grades with --column "
                f"(in German --column Bewertung); there is {there}"
            )
        (self.column,) = wanted

    def is_locked(self, row):
        """Whether the platform takes no other grade for this student."""
        if self._moodle and "Grade can be changed" in self.header:
            return row[self.header.index("Grade can be changed")].strip().lower() == "no"
        if not self._foreign:
            return False
        columns = range(len(self.header))
        return any(row[n].strip().lower() in _NO for n in columns if self._says_yes_or_no(n))

    def _says_yes_or_no(self, number):
        said = {row[number].strip().lower() for row in self._rows} - {""}
        return bool(said) and said <= _YES | _NO

    def _maximum_beside_column(self):
        """In Moodle's worksheet the maximum stands beside the grade, the same for everybody."""
        there = {row[self.column + 1].strip() for row in self._rows if len(row) > self.column + 1}
        return there if len(there) == 1 else set()

    def number(self, value):
        """A grade, with the table's own sign for decimals."""
        text = f"{round(value, 2):g}"
        if "." not in text:
            return text
        numbers = [cell for row in self._rows for cell in row if _DECIMAL.fullmatch(cell.strip())]
        commas = sum("," in cell for cell in numbers)
        return text.replace(".", ",") if commas > len(numbers) / 2 else text

    def compare_maximum(self, assignment, most):
        """Refuse points that would mean something else there."""
        there = set()
        titles = [title.strip().lower() for title in self.header]
        if self._moodle and "maximum grade" in titles:
            there = {row[titles.index("maximum grade")] for row in self._rows}
        elif self._foreign:
            there = self._maximum_beside_column()
        elif not self._moodle:
            there = {r[self.column] for r in self._rows if "Points Possible" in r[0]}
        for text in there:
            # Platforms write numbers as their user's language does.
            if re.fullmatch(r"\d+([.,]\d+)?", text) and float(text.replace(",", ".")) != most:
                raise CourseError(
                    f"{assignment} has {most:g} points and the platform's maximum is {text}: set "
                    f"it to {most:g} in the assignment's settings there and export the table again"
                )

    def students(self, known):
        """The column whose entries are most of our ids, and student → row."""
        if self._foreign:
            columns = [name for n, name in enumerate(self.header) if n != self.column]
        elif self._moodle:
            columns = ["Identifier", "Username", "ID number", "Email address"]
        else:
            columns = ["ID", "SIS User ID", "SIS Login ID"]
        found = {}
        for name in filter(self.header.__contains__, columns):
            number = self.header.index(name)
            found[name] = {
                student: row
                for row in self._rows
                for student in self._ids(row[number].strip()) & known
            }
        name = max(found, key=lambda column: len(found[column]))
        if not found[name]:
            raise CourseError(
                f"{self.path} holds none of our students, such as {min(known)}: their ids stand in "
                f"none of its columns {', '.join(found)}; is it the table of another course?"
            )
        return name, found[name]

    def _ids(self, cell):
        """What may be a student's id in a cell; Moodle writes a word before the number."""
        numbered = re.fullmatch(r"\D*(\d+)" if self._foreign else r"Participant (\d+)", cell)
        return {cell, numbered[1]} if numbered else {cell}

    def write(self):
        text = io.StringIO()
        rows = csv.writer(text, delimiter=self._delimiter, lineterminator=self._end)
        rows.writerows([self.header, *self._rows])
        write_whole(self.path, self._mark + text.getvalue())


def _plain(title):
    return re.sub(r"[\W_]+", " ", title).strip().lower()
