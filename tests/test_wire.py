"""Between the halves of a check: what goes in holds no answers, what comes out can do nothing."""

import importlib
import io
import json
import pickletools

import cloudpickle
import pytest
import torch
from conftest import EXERCISES_OF, TOPICS

from dgm_utils.grading import wire
from dgm_utils.grading.exercise import Case
from dgm_utils.grading.judge import make_task
from dgm_utils.grading.marking import graded_on
from dgm_utils.grading.observe import Observation, Raised, observe
from dgm_utils.grading.sandbox import visible_modules

VISIBLE = visible_modules(("dgm_utils.data",))


def tasks_of(topic):
    return {(exercise.name, 0): make_task(exercise) for exercise in EXERCISES_OF[topic]}


@pytest.mark.parametrize("topic", TOPICS)
def test_tasks_travel_without_answers(topic):
    dumped = wire.dump_tasks(tasks_of(topic), VISIBLE, "dgm_utils")
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
    arrived = cloudpickle.loads(wire.dump_tasks(tasks, VISIBLE, "dgm_utils"))
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
        seconds=0.5,
        printed="hello",
        counts=((1, 3),),
        largest=7,
    )
    (back,), probe = wire.load_observations(wire.dump_observations([seen], seen))
    assert (back.foreign, back.changed, back.raised) == (seen.foreign, seen.changed, seen.raised)
    assert (back.timed_out, back.seconds, back.printed) == (True, 0.5, "hello")
    assert (back.counts, back.largest) == (seen.counts, seen.largest)
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
        ("[" * 100_000, "not what a check writes"),
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
        (forged(counts=[[0, -1]]), "whole number"),
        (forged(raised=["a", "b"]), "not what a check writes"),
        (forged(printed=5), "text expected"),
    ],
)
def test_what_is_no_observation_is_refused_with_a_reason(text, words):
    with pytest.raises(wire.WireError) as error:
        wire.load_observations(text)
    assert words in str(error.value)


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
    dumped = wire.dump_tasks({("x", 0): type(task)((case,), None, 1.0)}, VISIBLE, "dgm_utils")
    assert b"truth" not in dumped


def test_a_class_is_graded_on_a_card_only_when_asked(monkeypatch):
    monkeypatch.delenv("DGM_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert graded_on() == ["cpu"]
    # A device that is everywhere stands for the card.
    monkeypatch.setenv("DGM_DEVICE", "meta")
    assert graded_on() == ["meta"]
