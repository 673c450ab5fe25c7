"""The training loop: it minimizes, stops for a reason, and resumes as if never disturbed."""

import os
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dgm_utils.training import Descent, Watch, fit


def problem(num=130):
    """A small regression with noise in the data; 130 rows leave a last batch of 30 of 100."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(num, 3, generator=generator)
    y = x @ torch.tensor([1.0, -2.0, 0.5]) + 0.1 * torch.randn(num, generator=generator)
    return x, y


def network(seed=0):
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
    for parameter in model.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator)
    return model


def noisy_loss(model):
    """Draws from the global generator, as a VAE does."""

    def loss(batch):
        x, y = batch
        return F.mse_loss(model(x + 0.1 * torch.randn_like(x))[:, 0], y)

    return loss


def train(model, num_steps=50, loss=None, **options):
    """A run of which all but the options of `fit` itself go to its `Watch`."""
    names = {"descent", "seed", "device", "progress"} & set(options)
    own = {"batch_size": 40, "progress": False} | {name: options.pop(name) for name in names}
    watch = Watch(**{"every": 10, "held_out": problem(70), **options})
    return fit(model, loss or noisy_loss(model), problem(), num_steps, watch=watch, **own)


def sgd(rate, **options):
    """Plain gradient descent."""
    return Descent(lambda parameters: torch.optim.SGD(parameters, lr=rate), **options)


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


class Interrupted(Exception):
    pass


def interrupt_at(step):
    def before_step(current, optimizer):
        if current == step:
            raise Interrupted

    return Descent(before_step=before_step)


# It minimizes


def test_it_finds_the_least_squares_solution():
    x, y = problem()
    weight = nn.Parameter(torch.zeros(3))
    history = fit(
        [weight],
        lambda batch: F.mse_loss(batch[0] @ weight, batch[1]),
        (x, y),
        num_steps=300,
        batch_size=len(x),
        descent=sgd(0.1),
        progress=False,
    )
    # Gradient descent contracts by 1 − 2·0.1·λ for each step, λ ≥ 0.7 an eigenvalue of xᵀx/N.
    assert torch.linalg.eigvalsh(x.T @ x / len(x)).min() > 0.7
    torch.testing.assert_close(
        weight.detach(), torch.linalg.lstsq(x, y).solution, rtol=0, atol=1e-5
    )
    assert len(history.loss) == 300 and history.loss[-1] < history.loss[0]
    assert history.held_out == [] and history.best_step is None and not history.stopped


def test_an_epoch_shows_each_row_once_in_a_new_order():
    rows, seen = torch.arange(10.0), []
    weight = nn.Parameter(torch.zeros(()))

    def loss(batch):
        seen.append(batch.tolist())
        return weight**2 + batch.mean()

    fit([weight], loss, rows, num_steps=6, batch_size=4, progress=False)
    assert [len(batch) for batch in seen] == [4, 4, 2] * 2
    epochs = [[row for batch in epoch for row in batch] for epoch in (seen[:3], seen[3:])]
    assert sorted(epochs[0]) == sorted(epochs[1]) == rows.tolist()
    assert epochs[0] != epochs[1]


def test_fresh_batches_come_from_a_seeded_generator_apart_from_the_noise():
    weight, seen = nn.Parameter(torch.zeros(())), []

    def loss(batch):
        seen.append((batch, torch.randn(4)))
        return (weight - batch.mean()) ** 2

    for _ in range(2):
        fit([weight], loss, lambda g: torch.randn(4, generator=g), num_steps=3, progress=False)
    assert all(torch.equal(seen[k][i], seen[k + 3][i]) for k in range(3) for i in range(2))
    assert not torch.equal(seen[0][0], seen[1][0])
    assert not torch.equal(seen[0][0], seen[0][1])


def test_before_step_sets_the_schedule():
    weight = nn.Parameter(torch.ones(()))

    def before_step(step, optimizer):
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)

    history = fit(
        [weight],
        lambda batch: (weight * batch).sum(),  # the gradient is 1
        torch.ones(1),
        num_steps=3,
        descent=sgd(7.0, before_step=before_step),
        progress=False,
    )
    assert weight.item() == pytest.approx(1 - 0.1 * (1 + 1 / 2 + 1 / 3))
    assert history.loss[1] == pytest.approx(0.9)


def test_gradients_are_shortened():
    weight = nn.Parameter(torch.zeros(2))
    fit(
        [weight],
        lambda batch: (weight * batch).sum(),
        torch.tensor([[300.0, 400.0]]),
        num_steps=1,
        descent=sgd(1.0, max_norm=5.0),
        progress=False,
    )
    torch.testing.assert_close(weight.detach(), torch.tensor([-3.0, -4.0]))


# Held-out data


def test_it_stops_early_and_ends_with_the_best_weights():
    """The held-out loss falls, then rises: weight walks from 0 past 1 in steps of 0.1."""
    weight = nn.Parameter(torch.zeros(()))
    history = fit(
        [weight],
        lambda batch: -weight * batch.mean(),
        torch.ones(1),
        num_steps=1000,
        watch=Watch(held_out=lambda: (weight - 1) ** 2, every=2, patience=3),
        descent=sgd(0.1),
        progress=False,
    )
    assert history.stopped and history.best_step == 10
    assert len(history.loss) == 16  # three evaluations later
    assert weight.item() == pytest.approx(1)
    assert [step for step, _ in history.held_out] == [2, 4, 6, 8, 10, 12, 14, 16]


def test_held_out_loss_has_the_same_noise_each_time():
    model = network()
    # A step of length zero: nothing changes but the noise of training.
    history = train(
        model,
        num_steps=30,
        held_out=problem(70),
        descent=sgd(0.0),
        loss=lambda batch: model(batch[0])[:, 0].mean() * 0 + batch[1].mean() + torch.randn(()),
    )
    values = [value for _, value in history.held_out]
    assert values == [values[0]] * 3


def test_held_out_loss_is_the_mean_over_rows():
    """Rows 0 … 6 in batches of 4 and 3 have the mean 3, and their batches' means 3.25."""
    weight = nn.Parameter(torch.zeros(()))
    history = fit(
        [weight],
        lambda batch: batch.mean() + weight,
        torch.zeros(1),
        num_steps=1,
        descent=sgd(0.0),
        watch=Watch(held_out=torch.arange(7.0)),
        batch_size=4,
        progress=False,
    )
    assert history.held_out == [[1, 3.0]]


def test_the_model_is_evaluated_in_eval_mode():
    model = network()
    modes = []

    def loss(batch):
        modes.append((model.training, torch.is_grad_enabled()))
        return noisy_loss(model)(batch)

    train(model, num_steps=2, every=2, loss=loss)
    assert modes == [(True, True)] * 2 + [(False, False)] * 2
    assert model.training


# The same run again


def test_a_seed_fixes_the_run_and_leaves_the_callers_generator_alone():
    models = [network() for _ in range(3)]
    before = torch.random.get_rng_state()
    runs = [
        (train(model, seed=seed), model.state_dict())
        for model, seed in zip(models, (0, 0, 1), strict=True)
    ]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert runs[0][0] == runs[1][0] and same(runs[0][1], runs[1][1])
    assert runs[0][0].loss != runs[2][0].loss


@pytest.mark.parametrize("step", [0, 9, 10, 27, 49])
def test_a_resumed_run_equals_an_undisturbed_one(tmp_path, step):
    """Bit for bit: weights, running averages, losses; Adam's moments by what they lead to."""
    undisturbed = network()
    expected = train(undisturbed)
    path, model = tmp_path / "run.pt", network()
    with pytest.raises(Interrupted):
        train(model, checkpoint=path, descent=interrupt_at(step))
    resumed = network(seed=1)  # what it starts from does not matter
    if not path.exists():
        assert step < 10
        resumed = network()
    history = train(resumed, checkpoint=path)
    assert history == expected
    assert same(resumed.state_dict(), undisturbed.state_dict())


def test_a_finished_run_is_only_read_and_can_be_extended(tmp_path):
    path, model, longer = tmp_path / "run.pt", network(), network()
    first = train(model, num_steps=30, checkpoint=path)
    again = network(seed=1)
    assert train(again, num_steps=30, checkpoint=path, descent=interrupt_at(30)) == first
    assert same(again.state_dict(), model.state_dict())
    expected = train(longer, num_steps=60)
    assert train(again, num_steps=60, checkpoint=path) == expected
    assert same(again.state_dict(), longer.state_dict())


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    train(network(), num_steps=10, checkpoint=path)
    whole = path.read_bytes()

    def fail(content, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        train(network(), num_steps=20, checkpoint=path)
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    train(network(), num_steps=10, checkpoint=path)
    with pytest.raises(ValueError, match="is of a run with seed 0, not 3"):
        train(network(), num_steps=20, checkpoint=path, seed=3)
    weight = nn.Parameter(torch.zeros(()))
    with pytest.raises(ValueError, match=r"run\.pt is damaged, or of another model; delete it"):
        train([weight], checkpoint=path, loss=lambda batch: weight**2)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"run\.pt is damaged"):
        train(network(), checkpoint=path)


def test_the_folder_of_a_checkpoint_is_made(tmp_path):
    path = tmp_path / "runs" / "first" / "run.pt"
    train(network(), num_steps=10, checkpoint=path)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (".", "checkpoint must be the path of a file, but .* is a folder"),
        ("pipe", "checkpoint must be the path of a file, but .* is a folder or device"),
        ("file/run.pt", r"run\.pt cannot be written \(.*\); give the path of a file in a folder"),
        ("a" * 250, r"cannot be written \(File name too long\)"),
    ],
)
def test_a_checkpoint_that_cannot_be_written_is_refused_before_the_first_step(tmp_path, name, said):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=said):
        train(network(), checkpoint=tmp_path / name, descent=interrupt_at(0))


def test_a_finished_run_is_read_where_nothing_can_be_written(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    train(network(), num_steps=10, checkpoint=path)

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "touch", refuse)
    assert len(train(network(), num_steps=10, checkpoint=path).loss) == 10
    with pytest.raises(ValueError, match=r"run\.pt cannot be written \(Permission denied\)"):
        train(network(), num_steps=20, checkpoint=path)


# Not a number


def test_a_loss_that_is_no_number_stops_the_run_with_a_reason():
    weight = nn.Parameter(torch.ones(()))

    def loss(batch):
        return torch.log(weight - 0.35) * batch.mean()

    with pytest.raises(FloatingPointError) as caught:
        fit(
            [weight],
            loss,
            torch.ones(1),
            num_steps=100,
            descent=sgd(0.1),
            progress=False,
        )
    message = str(caught.value)
    assert re.search(r"the loss is nan at step \d+ \(losses before: -0\.\d+, ", message)
    assert "smaller learning rate" in message and "max_norm=1" in message
    assert weight.isfinite()


def test_a_gradient_that_is_no_number_leaves_the_weights_as_they_were():
    weight = nn.Parameter(torch.zeros(()))
    with pytest.raises(FloatingPointError, match=r"gradient's length is (nan|inf) at step 0"):
        fit([weight], lambda x: weight.sqrt() * x.sum(), torch.ones(1), 5, progress=False)
    assert weight.item() == 0


def test_a_held_out_loss_that_is_no_number_stops_the_run():
    weight = nn.Parameter(torch.zeros(()))
    with pytest.raises(FloatingPointError, match="the held-out loss is nan at step 1"):
        fit([weight], lambda x: weight**2, torch.ones(1), 1, watch=Watch(lambda: float("nan")))


# The bar, the device, bad input


def test_the_bar_goes_to_stdout_and_away(capsys):
    train(network(), progress=True)
    out, err = capsys.readouterr()
    assert err == ""
    assert "/50" in out and "held_out=" in out
    train(network(), progress=False)
    assert capsys.readouterr() == ("", "")


def test_it_runs_on_the_device_asked_for():
    model = network()
    train(model, device="cpu")
    assert next(model.parameters()).device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda(tmp_path):
    model, path = network(), tmp_path / "run.pt"
    train(model, num_steps=20, device="cuda", checkpoint=path)
    assert next(model.parameters()).is_cuda
    resumed = network(seed=1)
    assert len(train(resumed, num_steps=40, device="cuda", checkpoint=path).loss) == 40


def test_bad_input_is_named():
    weight = nn.Parameter(torch.zeros(()))

    def loss(batch):
        return weight**2

    for error, message, arguments, options in [
        (ValueError, "num_steps must be at least 1, not 0", (torch.ones(3), 0), {}),
        (ValueError, "batch_size must be at least 1", (torch.ones(3), 1), {"batch_size": 0}),
        (
            TypeError,
            "every must be a whole number",
            (torch.ones(3), 1),
            {"watch": Watch(every=1.5)},
        ),
        (ValueError, "data must have rows", (torch.ones(0, 2), 1), {}),
        (ValueError, r"data must .* not \[2, 3\]", ((torch.ones(2), torch.ones(3)), 1), {}),
        (TypeError, "data must be a tensor, .* not list", ([1, 2], 1), {}),
        (TypeError, "held_out must be a tensor", (torch.ones(3), 1), {"watch": Watch(3)}),
        (ValueError, "patience needs held_out", (torch.ones(3), 1), {"watch": Watch(patience=2)}),
    ]:
        with pytest.raises(error, match=message):
            fit([weight], loss, *arguments, **options)
    with pytest.raises(TypeError, match=r"a list of nn\.Parameter; entry 0 is a Tensor"):
        fit([torch.zeros(1, requires_grad=True)], loss, torch.ones(3), 1)
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        fit(nn.Linear(1, 1).requires_grad_(False), loss, torch.ones(3), 1)
