"""The page about a graded class: what stands on it, and its template."""

import datetime
import math
import statistics
from collections import Counter, defaultdict

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from nbjudge.course.declared import command
from nbjudge.course.results import MANUAL
from nbjudge.errors import readable
from nbjudge.reports.alike import alike_pairs
from nbjudge.reports.figures import bars, histogram
from nbjudge.reports.unknown import unknown_mistakes

# More pairs than this are not shown: who handed in the same notebook as ten others stands there.
MOST_PAIRS = 40
MOST_CODE = 4000
# The rarer ones are folded away.
FIRST_MISCONCEPTIONS = 12


def render(assignment, layout, submissions) -> str:
    """The page, as text."""
    graded = [s for s in submissions if s.graded]
    top = math.fsum(layout.checks.values())
    points = [p for s in graded if (p := check_points(s, layout)) is not None]
    pairs = alike_pairs({s.student: s.answers for s in graded}, layout.released, layout.solutions)
    answers = {s.student: s.answers for s in graded}
    exercises = [_exercise(name, worth, graded) for name, worth in layout.checks.items()]
    waiting = sum(s.result.state == MANUAL if s.waiting is None else len(s.waiting) for s in graded)
    return _TEMPLATE.render(
        assignment=assignment,
        command=command(),
        written_at=datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        headline=[
            (len(submissions), "submissions"),
            (len(graded), "graded"),
            (len(submissions) - len(graded), "not graded"),
            (f"{statistics.median(points):g} of {top:g}" if points else "–", "median points"),
            (waiting, "answers to grade by hand"),
        ],
        top=f"{top:g}",
        histogram=histogram(points, top) if points else "",
        bars=bars(exercises) if any(e["seen"] for e in exercises) else "",
        exercises=exercises,
        own_tests=[e["name"] for e in exercises if e["own"]],
        without_notebook=[s.student for s in graded if not s.has_notebook],
        misconceptions=_misconceptions(graded, layout),
        first_rows=FIRST_MISCONCEPTIONS,
        unknown=unknown_mistakes(graded, layout.checks),
        most_code=MOST_CODE,
        ungraded=[s for s in submissions if not s.graded],
        untouched=_untouched(graded),
        mended=[s for s in graded if s.result.mended],
        copies=_copies(graded, layout),
        pairs=[_shown(pair, answers) for pair in pairs[:MOST_PAIRS]],
        more_pairs=len(pairs[MOST_PAIRS:]),
        compared=sum(bool(s.answers) for s in graded),
    )


def check_points(submission, layout):
    """Points for the checks: the gradebook's, where a person may have corrected one."""
    points = submission.points(layout.checks)
    return submission.result.points if points is None else points


def _exercise(name, worth, graded):
    """One row of the table of exercises; tests of the instructor's own leave no verdicts."""
    verdicts = [s.verdicts[name] for s in graded if name in s.verdicts]
    scores = [s.scores[name] for s in graded if name in s.scores]
    own = not verdicts and any(s.has_notebook for s in graded)
    passed = [s >= worth for s in scores] if own else [bool(v["passed"]) for v in verdicts]
    kinds = Counter(v["kind"] for v in verdicts if not v["passed"])
    not_met = Counter(duty for s in graded for duty in s.not_met(name))
    if own:
        kinds["with some of the points"] = sum(0 < score < worth for score in scores)
        kinds = +kinds
    return {
        "name": name,
        "own": own,
        "worth": f"{worth:g}",
        "seen": len(passed),
        "passed": sum(passed),
        "failed": ", ".join(f"{kind} {count}" for kind, count in kinds.most_common()),
        "not_met": ", ".join(f"{duty} {count}" for duty, count in not_met.most_common()),
        "mean": f"{statistics.fmean(scores):.2f}" if scores else "",
    }


def _misconceptions(graded, layout):
    """Rows of (exercise, name, sentence, whether others were told other numbers, students)."""
    found = defaultdict(list)
    for submission in graded:
        for exercise, name, sentence in submission.misconceptions():
            found[exercise, name].append((submission.student, sentence))
    order = list(layout.checks)
    rows = [
        {
            "exercise": exercise,
            "name": name,
            "sentence": next((sentence for _, sentence in held if sentence), ""),
            "varies": len({sentence for _, sentence in held}) > 1,
            "students": [student for student, _ in held],
        }
        for (exercise, name), held in found.items()
    ]
    return sorted(rows, key=lambda r: (-len(r["students"]), order.index(r["exercise"]), r["name"]))


def _untouched(graded):
    """Written task → students who left it as it was released."""
    found = defaultdict(list)
    for submission in graded:
        for task in submission.result.untouched:
            found[task].append(submission.student)
    return dict(sorted(found.items()))


def _copies(graded, layout):
    found = {name: [s.student for s in graded if name in s.copies()] for name in layout.checks}
    return {name: students for name, students in found.items() if students}


def _shown(pair, answers):
    chance = math.exp(pair.evidence)
    return {
        "students": pair.students,
        "chance": f"{chance:,.0f}" if chance < 1e6 else f"10^{math.log10(chance):.0f}",
        "exercises": [
            {
                "name": exercise,
                "alike": "equal" if share == 1 else f"{share:.0%} alike",
                "sources": [answers[student][exercise][:MOST_CODE] for student in pair.students],
            }
            for exercise, share in pair.exercises.items()
        ],
    }


# ── The template ─────────────────────────────────────────────────────────────────────────────────


def _sentence(text):
    """Escaped text with `backticks` turned into code, as the student saw it."""
    parts = str(escape(readable(text))).split("`")
    return Markup("".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts)))


_ENVIRONMENT = Environment(
    autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_ENVIRONMENT.filters |= {"readable": readable, "sentence": _sentence}
_TEMPLATE = _ENVIRONMENT.from_string(
    """\
{% macro who(student) %}<bdi>{{ student|readable }}</bdi>{% endmacro %}
{% macro list(students) %}
{% for student in students %}{{ who(student) }}{{ ", " if not loop.last }}{% endfor %}
{% endmacro %}
{% macro folded(all, table) %}
{{ table(all[:first_rows]) }}
{% if all[first_rows:] %}
<details><summary>{{ all[first_rows:]|length }} more</summary>
{{ table(all[first_rows:]) }}
</details>
{% endif %}
{% endmacro %}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{{ assignment }}: report on a class</title>
<style>
:root { --ground: #fff; --ink: #1c1c1c; --soft: #5c5c5c; --line: #d5d5d5; --panel: #f4f4f4; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #17191c; --ink: #e6e6e6; --soft: #a8a8a8; --line: #43474d; --panel: #23262b; }
}
@media print {
  :root { --ground: #fff; --ink: #000; --soft: #444; --line: #bbb; --panel: #fff; }
  tr, figure { break-inside: avoid; }
  details::details-content { content-visibility: visible; }
}
body { background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; }
h2 { margin: 2.5rem 0 .5rem; border-bottom: 1px solid var(--line); }
p { max-width: 46rem; }
.soft { color: var(--soft); }
.headline { display: flex; flex-wrap: wrap; gap: .75rem; padding: 0; list-style: none; }
.headline li { background: var(--panel); border: 1px solid var(--line); border-radius: .4rem;
  padding: .5rem 1rem; flex: 1 0 auto; }
.headline b { display: block; font-size: 1.5rem; line-height: 1.2; }
figure { margin: 1rem 0; }
figure svg { width: 100%; max-width: 46rem; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 600; color: var(--soft); overflow-wrap: normal; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code, pre { font: .875em/1.45 ui-monospace, monospace; }
td:last-child { min-width: 12rem; }
td > code:only-child { white-space: nowrap; }
summary { cursor: pointer; color: var(--soft); }
.two { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .75rem; }
pre { background: var(--panel); border: 1px solid var(--line); padding: .5rem; margin: .3rem 0 1rem;
  overflow-x: auto; }
</style>
</head>
<body>
<h1>{{ assignment }}</h1>
<p class="soft">Report on a class, written {{ written_at }}</p>
<ul class="headline">
{% for number, meaning in headline %}<li><b>{{ number }}</b> {{ meaning }}</li>
{% endfor %}
</ul>

<section>
<h2>Distribution of points</h2>
{% if histogram %}
<p>Points for the checks, of {{ top }}. Written answers and submissions without a grade do not \
count here.</p>
<figure>{{ histogram }}</figure>
{% else %}
<p>No submission was graded.</p>
{% endif %}
</section>

<section>
<h2>Points for each exercise</h2>
{% if bars %}<figure>{{ bars }}</figure>{% endif %}
<div class="wide"><table>
<tr><th>exercise</th><th class="n">worth</th><th class="n">mean</th><th class="n">passed</th>\
<th>not passed, by kind</th><th>duties not met</th></tr>
{% for e in exercises %}
<tr><td><code>{{ e.name }}</code></td><td class="n">{{ e.worth }}</td><td class="n">{{ e.mean }}\
</td><td class="n">{{ e.passed }} of {{ e.seen }}</td><td>{{ e.failed|readable }}</td>\
<td>{{ e.not_met|readable }}</td></tr>
{% endfor %}
</table></div>
{% if own_tests %}
<p>Tests of the instructor's own run in one process with student code, which could deceive them; \
the others are judged where no student code runs. These are the instructor's own: \
{% for name in own_tests %}<code>{{ name }}</code>{{ ", " if not loop.last }}{% endfor %}.</p>
{% endif %}
{% if without_notebook %}
<p>Graded, but the autograded notebook is gone or broken, so that its verdicts do not count here: \
{{ list(without_notebook) }}. Run <code>{{ command }} grade {{ assignment }} --regrade</code>.</p>
{% endif %}
</section>

<section>
<h2>Misconceptions most met</h2>
{% macro rows(misconceptions) %}
<div class="wide"><table>
<tr><th class="n">students</th><th>exercise</th><th>misconception, and what the student read</th>\
</tr>
{% for m in misconceptions %}
<tr><td class="n">{{ m.students|length }}</td><td><code>{{ m.exercise }}</code></td>
<td><b>{{ m.name|readable }}</b>{% if m.sentence %}<br>
{{ "For example: " if m.varies }}{{ m.sentence|sentence }}{% endif %}
<details><summary>who</summary>{{ list(m.students) }}</details></td></tr>
{% endfor %}
</table></div>
{% endmacro %}
{% if misconceptions %}
{{ folded(misconceptions, rows) }}
{% else %}
<p>No known misconception was met.</p>
{% endif %}
</section>

<section>
<h2>Unknown mistakes</h2>
{% macro groups(unknown) %}
<div class="wide"><table>
<tr><th class="n">students</th><th>exercise</th><th class="n">group</th>\
<th>what the first read, with a number</th></tr>
{% for g in unknown %}
<tr><td class="n">{{ g.students|length }}</td><td><code>{{ g.exercise }}</code></td>
<td class="n">{{ g.number }}</td><td>{{ g.verdict.sentence|sentence }}{% if g.verdict.got %} \
{{ g.verdict.got|readable }} where {{ g.verdict.expected|readable }} is right, on the case \
{{ g.verdict.case|readable }}.{% endif %}
<details><summary>who, and the code of {{ who(g.students[0]) }}</summary>{{ list(g.students) }}
<pre>{{ g.source[:most_code]|readable }}</pre></details></td></tr>
{% endfor %}
</table></div>
{% endmacro %}
{% if unknown %}
<p>Nothing explains these answers. Those of one group give the same numbers on all cases: they \
made one mistake, however it is written. Give it a name and a sentence, and it is explained from \
then on to whoever makes it: <code>{{ command }} name {{ assignment }} EXERCISE GROUP "name" \
"sentence"</code>.</p>
{{ folded(unknown, groups) }}
{% else %}
<p>None: every wrong answer was explained, or says itself what is wrong.</p>
{% endif %}
</section>

<section>
<h2>Not graded, and why</h2>
{% if ungraded %}
<p>These have no points, which is not 0 points.</p>
<div class="wide"><table>
<tr><th>student</th><th>reason</th></tr>
{% for s in ungraded %}
<tr><td>{{ who(s.student) }}</td><td>{{ s.reason|sentence }}</td></tr>
{% endfor %}
</table></div>
{% else %}
<p>Every submission was graded.</p>
{% endif %}
</section>

<section>
<h2>Written tasks left as released</h2>
{% if untouched %}
<p>These got 0 points without a person looking, because nothing was written.</p>
<div class="wide"><table>
<tr><th>task</th><th>students</th></tr>
{% for task, students in untouched.items() %}
<tr><td><code>{{ task|readable }}</code></td><td>{{ list(students) }}</td></tr>
{% endfor %}
</table></div>
{% else %}
<p>None.</p>
{% endif %}
</section>

<section>
<h2>Mended before grading</h2>
{% if mended %}
<div class="wide"><table>
<tr><th>student</th><th>what was mended</th></tr>
{% for s in mended %}
<tr><td>{{ who(s.student) }}</td><td>{% for said in s.result.mended %}{{ said|sentence }}\
{{ " " if not loop.last }}{% endfor %}</td></tr>
{% endfor %}
</table></div>
{% else %}
<p>None.</p>
{% endif %}
</section>

<section>
<h2>Verbatim copies of a reference</h2>
{% if copies %}
<p>These functions are the course's own reference word for word, names of variables included. They \
passed; whether they should is yours to decide.</p>
<div class="wide"><table>
<tr><th>exercise</th><th>students</th></tr>
{% for exercise, students in copies.items() %}
<tr><td><code>{{ exercise }}</code></td><td>{{ list(students) }}</td></tr>
{% endfor %}
</table></div>
{% else %}
<p>None.</p>
{% endif %}
</section>

<section>
<h2>Near-identical pairs of submissions</h2>
<p>A hint to look, not a verdict. Answers were compared without comments, layout and names of \
variables. One-liners, answers that equal the instructor's and those that much of the class has do \
not count; the longer and the rarer an answer, the more it counts. <em>By chance</em> says how \
rare such a pair would be if students answered independently of each other and each exercise \
independently of the others, which is not quite so. Submissions without a grade were not \
compared.</p>
{% if pairs %}
{% for p in pairs %}
<details><summary>{{ who(p.students[0]) }} and {{ who(p.students[1]) }}: \
{% for e in p.exercises %}<code>{{ e.name }}</code> {{ e.alike }}{{ ", " if not loop.last }}\
{% endfor %}; by chance one pair in {{ p.chance }}</summary>
{% for e in p.exercises %}
<div class="two">
{% for source in e.sources %}<div><code>{{ e.name }}</code> of {{ who(p.students[loop.index0]) }}\
<pre>{{ source|readable }}</pre></div>
{% endfor %}
</div>
{% endfor %}
</details>
{% endfor %}
{% if more_pairs %}<p>{{ more_pairs }} more pairs are not shown.</p>{% endif %}
{% else %}
<p>None among {{ compared }} submissions.</p>
{% endif %}
</section>
</body>
</html>
"""
)
