"""Between the halves of a check: what goes in holds no answers, what comes out can do nothing."""

import importlib
import io
import json
import pickletools

import cloudpickle
import pytest
import torch
from conftest import EXERCISES_OF, TOPICS

from nbjudge.asking.task import make_task
from nbjudge.checks import graded_on
from nbjudge.inside import wire
from nbjudge.inside.case import Case
from nbjudge.inside.observe import Observation, Raised, observe
from nbjudge.inside.tensors import tensors
from nbjudge.running.sandbox import visible_modules

PACKAGES = ("dgm_utils", "nbjudge")
VISIBLE = visible_modules(("dgm_utils.data",))


def tasks_of(topic):
    return {(exercise.name, 0): make_task(exercise) for exercise in EXERCISES_OF[topic]}


@pytest.mark.parametrize("topic", TOPICS)
def test_tasks_travel_without_answers(topic):
    dumped = wire.dump_tasks(tasks_of(topic), VISIBLE, PACKAGES)
    words = {arg for _, arg, _ in pickletools.genops(dumped) if isinstance(arg, str)}
    secret = {m.sentence for exercise in EXERCISES_OF[topic] for m in exercise.misconceptions}
    secret |= {hint for exercise in EXERCISES_OF[topic] for hint in exercise.hints}
    assert not words & secret
    # Code travels with the names of its file and function; none may be that of a reference.
    references = {e.reference.__name__ for e in EXERCISES_OF[topic]}
    qualified = {word for word in words if word in references}
    keys = {name for name, _ in tasks_of(topic)}
    assert qualified <= keys
    module = importlib.import_module(f"dgm_utils.{topic}")
    assert module.__file__ not in words


@pytest.mark.parametrize("topic", TOPICS)
def test_tasks_arrive_as_they_were(topic):
    tasks = tasks_of(topic)
    arrived = cloudpickle.loads(wire.dump_tasks(tasks, VISIBLE, PACKAGES))
    for exercise in EXERCISES_OF[topic]:
        before, after = tasks[exercise.name, 0], arrived[exercise.name, 0]
        assert len(before.cases) == len(after.cases)
        assert all(case.facts == {} and case.project == {} for case in after.cases)
        first = observe(exercise.reference, before.cases[0])
        same = observe(exercise.reference, after.cases[0])
        assert (
            wire.dump_observations([first], None).split('"seconds"')[0]
            == (wire.dump_observations([same], None).split('"seconds"')[0])
        )


def there_and_back(value):
    (seen,), _ = wire.load_observations(wire.dump_observations([Observation(value=value)], None))
    return seen.value


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(2, 3, dtype=torch.float64),
        torch.randn(3, 2).T,
        torch.tensor(2.0).expand(1),
        torch.ones(3, 1).expand(3, 4),
        torch.tensor(float("nan")),
        torch.tensor([float("inf"), -0.0]),
        torch.empty(0, 4),
        torch.arange(5),
        torch.tensor([True, False]),
        torch.randn(2, dtype=torch.complex64),
        torch.randn(3).to(torch.bfloat16),
    ],
    ids=lambda t: f"{t.dtype}{tuple(t.shape)}{t.stride()}",
)
def test_tensors_come_back_bit_by_bit(tensor):
    back = there_and_back(tensor)
    assert back.dtype == tensor.dtype and back.shape == tensor.shape
    assert torch.equal(back.nan_to_num(), tensor.nan_to_num())
    assert torch.equal(back.isnan(), tensor.isnan())


def test_containers_and_plain_values_come_back():
    value = {"a": [1, (2.5, None)], "b": (float("inf"), True, "text")}
    assert there_and_back(value) == value


def test_an_observation_comes_back_whole():
    seen = Observation(
        foreign="numpy.ndarray",
        gradients=(None, torch.ones(2)),
        changed=(0,),
        raised=Raised("ValueError", "no", "x = 1"),
        timed_out=True,
        hung=True,
        seconds=0.5,
        printed="hello",
        passes=((1, 3),),
        largest=7,
    )
    (back,), probe = wire.load_observations(wire.dump_observations([seen], seen))
    assert (back.foreign, back.changed, back.raised) == (seen.foreign, seen.changed, seen.raised)
    assert (back.timed_out, back.hung) == (True, True)
    assert (back.seconds, back.printed) == (0.5, "hello")
    assert (back.passes, back.largest) == (seen.passes, seen.largest)
    assert back.gradients[0] is None and torch.equal(back.gradients[1], torch.ones(2))
    assert probe.printed == "hello"


def test_text_that_no_file_can_hold_is_replaced():
    seen = Observation(raised=Raised("ValueError", "\ud800", ""), printed="\udcff")
    (back,), _ = wire.load_observations(wire.dump_observations([seen], None))
    assert (back.raised.message, back.printed) == ("?", "?")


def forged(**changes):
    found = json.loads(wire.dump_observations([Observation(value=torch.ones(2))], None))
    found["observed"][0].update(changes)
    return json.dumps(found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not what a check writes"),
        ("[]", "not what a check writes"),
        (b"bytes", "not as bytes"),
        ("[" * 40_000, "not what a check writes"),
        (
            forged(value={"tensor": "float64", "shape": [2**40], "device": "cpu", "data": ""}),
            "0 bytes",
        ),
        (forged(value={"tensor": "float64", "shape": [1], "device": "cpu", "data": "!"}), "base64"),
        (forged(value={"tensor": "float64", "shape": [-1], "device": "cpu", "data": ""}), "whole"),
        (forged(value={"tensor": "object", "shape": [], "device": "cpu", "data": ""}), "object"),
        (forged(value={"tensor": "int8", "shape": [1], "device": "tpu", "data": "AA=="}), "tpu"),
        (forged(value={"set": [1]}), "set"),
        (forged(value={"list": [{"list": [{"list": []}] * 2}], "tuple": []}), "not what"),
        (forged(gradients=["text"]), "gradient"),
        (forged(passes=[[0, -1]]), "whole number"),
        (forged(raised=["a", "b"]), "not what a check writes"),
        (forged(printed=5), "text of at most"),
    ],
)
def test_what_is_no_observation_is_refused_with_a_reason(text, words):
    with pytest.raises(wire.WireError) as error:
        wire.load_observations(text)
    assert words in str(error.value)


BIG = "9" * 4_000
LONG = "x" * 10_000_000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"value": {"list": list(range(10**6))}}, "more parts"),
        ({"value": {"list": list(range(1_000))}}, "more parts"),
        ({"value": {"dict": [[str(i), i] for i in range(300_000)]}}, "more parts"),
        ({"value": LONG}, "at most"),
        ({"value": {"float": LONG}}, "at most"),
        ({"value": {"dict": [[LONG, 1]]}}, "at most"),
        ({"value": int(BIG)}, "digits"),
        ({"value": {"tensor": "int8", "shape": [0, int(BIG)], "device": "cpu", "data": ""}}, "who"),
        ({"value": {"tensor": "int8", "shape": [2**40] * 9, "device": "meta", "data": ""}}, "not"),
        ({"value": {"tensor": "int8", "shape": [1] * 99, "device": "cpu", "data": "AA=="}}, "axes"),
        ({"value": {"tensor": "int8", "shape": [1], "device": LONG, "data": "AA=="}}, "at most"),
        ({"printed": LONG}, "at most"),
        ({"foreign": LONG}, "at most"),
        ({"raised": ["ValueError", LONG, ""]}, "at most"),
        ({"raised": ["ValueError", "", ""] * 10_000}, "not what"),
        ({"seconds": float("nan")}, "seconds"),
        ({"seconds": LONG}, "seconds"),
        ({"largest": int(BIG)}, "whole number"),
        ({"changed": list(range(100_000))}, "more parts"),
    ],
)
def test_what_is_larger_than_any_record_is_refused_before_it_is_read(changes, words, monkeypatch):
    """By its length and by what separates its parts, which are counted and not yet made."""
    text = forged(**changes)
    if words == "more parts" and text.count(",") > wire.SEPARATORS_LIMIT:
        monkeypatch.setattr(wire.json, "loads", None)
    with pytest.raises(wire.WireError) as error:
        wire.load_observations(text)
    assert words in str(error.value) and len(str(error.value)) <= 250


def test_a_key_that_stands_twice_counts_once_and_the_last():
    text = forged(printed="first").replace('"printed"', '"printed": "zeroth", "printed"')
    assert wire.load_observations(text)[0][0].printed == "first"


def test_a_result_that_is_too_large_travels_as_its_shape():
    large = torch.zeros(wire.RESULTS_LIMIT // 8 + 1, dtype=torch.float64)
    first, second = Observation(value=(torch.ones(2), [large])), Observation(value=torch.ones(2))
    text = wire.dump_observations([second, first, second], second)
    assert len(text) < 10_000
    (before, back, after), probe = wire.load_observations(text)
    assert torch.equal(before.value, torch.ones(2))
    assert back.value[1][0].is_meta and back.value[1][0].shape == large.shape
    # No right one is as large, so what comes after it need not be judged.
    assert after.value.is_meta and probe.value.is_meta


@pytest.mark.parametrize("topic", TOPICS)
def test_right_records_are_far_from_every_limit(topic):
    for exercise in EXERCISES_OF[topic]:
        task = make_task(exercise)
        seen = [observe(exercise.reference, case) for case in task.cases]
        text = wire.dump_observations(seen, None)
        assert not any(observation.foreign for observation in seen)
        assert len(text) < wire.SIZE_LIMIT / 5
        assert sum(map(text.count, ",[{")) < wire.SEPARATORS_LIMIT / 20
        assert sum(t.nbytes for o in seen for t in tensors(o.value)) < wire.RESULTS_LIMIT / 5


def test_the_loader_runs_no_code(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    buffer = io.BytesIO()
    torch.save(Bomb(), buffer)
    for text in (buffer.getvalue().decode("latin-1"), cloudpickle.dumps(Bomb()).decode("latin-1")):
        with pytest.raises(wire.WireError):
            wire.load_observations(text)
    assert not list(tmp_path.iterdir())


def test_a_record_that_is_too_long_is_not_even_read(monkeypatch):
    monkeypatch.setattr(wire, "SIZE_LIMIT", 100)
    with pytest.raises(wire.WireError, match="100 are allowed"):
        wire.load_observations(forged())


def test_a_case_keeps_its_facts_at_home():
    case = Case("c", (torch.ones(1),), facts={"truth": 3.0})
    task = make_task(EXERCISES_OF["iwae"][0])
    dumped = wire.dump_tasks(
        {("x", 0): type(task)((case,), None, 1.0)}, VISIBLE, ("dgm_utils", "nbjudge")
    )
    assert b"truth" not in dumped


def test_a_class_is_graded_on_a_card_only_when_asked(monkeypatch):
    monkeypatch.delenv("DGM_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert graded_on() == ["cpu"]
    # A device that is everywhere stands for the card.
    monkeypatch.setenv("DGM_DEVICE", "meta")
    assert graded_on() == ["meta"]
