"""The published tables at a small budget: the pattern of each, and what a row says of itself."""

import importlib
import json
import math
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

from dgm_utils.models.hvae import HVAE, JointEncoder
from dgm_utils.models.vae import BernoulliDecoder, GaussianEncoder, mlp

rows = importlib.import_module("benchmarks.tables.rows")
table = {
    name: importlib.import_module(f"benchmarks.tables.{name}")
    for name in ("iwae", "elbo_surgery", "vampprior", "dequantization", "flows", "posteriors")
}
# Each table's rows on the digits, small enough for a test; everything else is as in the table.
SMALL = {"data": "digits", "compile": False}


def run(tmp_path, name, row, seed=0, budget=None, **config):
    """A row with another configuration."""
    work = rows.Work(
        f"{name} {row}", seed, torch.device("cpu"), budget, tmp_path / "runs", progress=False
    )
    return rows.make_row(table[name], row, table[name].ROWS[row] | config, work)


def numbers(*args, **config):
    return run(*args, **config)["numbers"]


# The tables


def test_importance_weighting_improves_the_likelihood(tmp_path):
    small = SMALL | {"latents": 16, "hidden": [64], "epochs": 40, "nll_samples": 500}
    small |= {"batch_size": 50, "learning_rate": 2e-3}
    found = {
        name: numbers(tmp_path, "iwae", name, **small)
        for name in ("VAE, K = 1", "VAE, K = 5", "IWAE, K = 5", "IWAE, K = 50")
    }
    for one in found.values():
        # L_500 is above the ELBO.
        assert one["nll"] < -one["elbo"]
        assert 1 <= one["active_units"] <= 16
    nll = {name: one["nll"] for name, one in found.items()}
    assert nll["IWAE, K = 50"] < nll["IWAE, K = 5"] < nll["VAE, K = 1"]
    assert nll["IWAE, K = 5"] < nll["VAE, K = 5"]


def test_the_parts_of_the_elbo_add_up(tmp_path):
    small = SMALL | {"hidden": [64], "epochs": 30}
    found = {
        latents: numbers(tmp_path, "elbo_surgery", f"{latents} latents", **small)
        for latents in (2, 10, 20)
    }
    for one in found.values():
        both = one["mutual_information"] + one["marginal_kl"]
        assert abs(both - one["average_kl_of_the_codes"]) < 1e-6
        assert abs(one["reconstruction"] - both - one["elbo"]) < 1e-6
        # The closed form is the expectation over the codes.
        assert abs(one["average_kl"] - both) < 0.2
        assert 0 < one["mutual_information"] < math.log(1500)
    # The published pattern: more latents, more KL, and above all more marginal KL.
    assert found[2]["average_kl"] < found[10]["average_kl"]
    assert found[2]["marginal_kl"] < found[10]["marginal_kl"]


def shallow_hvae(num_dims, latents, hidden, prior):
    """The table's model with one hidden layer in each part."""
    lower, upper = latents
    return HVAE(
        encoder2=GaussianEncoder(mlp(num_dims, (hidden,), 2 * upper)),
        encoder1=JointEncoder(
            torch.nn.Linear(num_dims, hidden),
            torch.nn.Linear(upper, hidden),
            torch.nn.Linear(hidden, 2 * lower),
        ),
        prior1=GaussianEncoder(mlp(upper, (hidden,), 2 * lower)),
        decoder=BernoulliDecoder(mlp(lower + upper, (hidden,), num_dims)),
        num_dims=num_dims,
        num_latents=latents,
        prior=prior,
    )


def test_the_vampprior_is_above_the_standard_gaussian(tmp_path, monkeypatch):
    # On 1,500 small images the paper's deeper network leaves its latents unused, whatever the
    # prior; so does a binarization that is new each time.
    grey = rows.Work.grey
    monkeypatch.setattr(rows.Work, "grey", lambda *which: (grey(*which) > 0.5).float())
    monkeypatch.setattr(table["vampprior"], "mlp_hvae", shallow_hvae)
    small = SMALL | {"latents": [8, 8], "hidden": 64, "components": 50, "nll_samples": 100}
    small |= {"batch_size": 100, "learning_rate": 5e-3}
    found = {
        name: numbers(tmp_path, "vampprior", name, **small, epochs=epochs)
        for name, epochs in zip(table["vampprior"].ROWS, (80, 1, 1, 80), strict=True)
    }
    gaussian, vampprior = found["standard Gaussian"], found["VampPrior"]
    for one in (gaussian, vampprior):
        assert one["log_likelihood"] > one["elbo"]
        assert min(one["active_units"]) > 0
    assert vampprior["log_likelihood"] > gaussian["log_likelihood"] + 0.1
    assert all(math.isfinite(one["log_likelihood"]) for one in found.values())


def test_fixed_pseudo_inputs_stay_images_of_the_data():
    config = table["vampprior"].ROWS["VampPrior data"] | {"components": 3, "latents": [2, 2]}
    images = torch.rand(10, 6)
    prior = table["vampprior"].make_prior(config, images)
    assert not prior.raw.requires_grad
    nearest = torch.cdist(prior.pseudo_inputs(), images).amin(1)
    # The ends of the grey scale are taken in by a hundredth.
    assert nearest.max() < 0.01 * 6**0.5
    assert table["vampprior"].make_prior(config | {"prior": "VampPrior"}, images).raw.requires_grad


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_variational_noise_costs_fewer_bits(tmp_path, seed):
    small = {"epochs": 40, "hidden": 64, "noise_hidden": 64, "layers": 4}
    uniform, variational = (
        numbers(tmp_path, "dequantization", f"digits, {noise} noise", seed=seed, **small)
        for noise in ("uniform", "variational")
    )
    assert variational["bits_per_dim"] < uniform["bits_per_dim"]
    # No model of 17 levels needs more than the uniform one.
    assert 0 < variational["bits_per_dim"] < math.log2(17)


def test_a_flow_in_latent_space_does_not_lower_the_elbo(tmp_path):
    small = SMALL | {"latents": 8, "hidden": [64], "epochs": 30, "nll_samples": 200}
    more = {"planar": {}, "Sylvester": {"units": 4}, "IAF": {"made_hidden": [32]}}
    plain = numbers(tmp_path, "posteriors", "diagonal Gaussian", **small)
    for family, options in more.items():
        found = numbers(tmp_path, "posteriors", family, **small, **options)
        assert found["nll"] < -found["elbo"]
        assert found["elbo"] > plain["elbo"] - 1


def test_passes_are_one_or_the_number_of_dimensions(tmp_path):
    found = numbers(tmp_path, "flows", "D = 32", hidden=[16, 16], points=4)
    passes = {name: one["passes"] for name, one in found.items() if "passes" in one}
    assert passes == {
        "MAF density": 1,
        "MAF sample": 32,
        "IAF density": 32,
        "IAF sample": 1,
        "RealNVP density": 1,
        "RealNVP sample": 1,
    }
    assert all(one["milliseconds"] > 0 for one in found.values())


def test_a_row_of_speeds_holds_the_times_and_their_ratios(tmp_path):
    found = numbers(tmp_path, "flows", "T = 32", length=16)
    for teacher in ("queues", "whole passes"):
        ratio = found[f"teacher by {teacher}"] / found["student"]
        assert found[f"speed-up over {teacher}"] == pytest.approx(ratio)
    assert found["student"] > 0


def test_the_student_comes_close_to_its_teacher(tmp_path):
    row = run(tmp_path, "flows", "distillation", sequences=2000, epochs=20)
    found = row["numbers"]
    assert 0 < found["KL(student ‖ teacher)"] < 0.1 * found["KL(student ‖ teacher) before"]
    assert row["training"].keys() == {"teacher", "student"}


# What a row says, and when it is written

TINY = SMALL | {"latents": 2, "hidden": [8], "nll_samples": 10}


def test_a_row_says_how_it_was_run(tmp_path):
    row = run(tmp_path, "iwae", "VAE, K = 1", seed=3, epochs=2, **TINY)
    assert row["row"] == "VAE, K = 1" and row["seed"] == 3
    assert row["config"]["epochs"] == 2 and row["config"]["objective"] == "VAE"
    assert row["data"] == {"digits": "with scikit-learn"}
    assert row["training"]["model"]["epochs"] == row["training"]["model"]["of_epochs"] == 2
    assert row["training"]["model"]["examples_per_second"] > 0
    assert row["training"]["model"]["loss"] == "plain"
    assert row["versions"]["torch"] == torch.__version__
    assert "CPU" in row["device"]
    # All of it can be read back.
    assert json.loads(json.dumps(row)) == row


def test_a_budget_shortens_the_training_and_the_row_says_so(tmp_path):
    row = run(tmp_path, "iwae", "VAE, K = 1", budget=1 / 60, epochs=10**6, **TINY)
    training = row["training"]["model"]
    assert training["epochs"] < training["of_epochs"] == 10**6


def test_rows_of_different_cost_can_be_trained_alike(tmp_path):
    work = rows.Work("one", 0, torch.device("cpu"), None, tmp_path, epochs=3, progress=False)
    config = table["iwae"].ROWS["VAE, K = 1"] | TINY
    training = rows.make_row(table["iwae"], "VAE, K = 1", config, work)["training"]["model"]
    assert training["epochs"] == 3 and training["of_epochs"] == 3280


@pytest.mark.parametrize("optimizer", ["Adam", "Muon"])
def test_a_run_that_was_killed_goes_on_as_if_nothing_had_happened(tmp_path, monkeypatch, optimizer):
    config = TINY | {"epochs": 4, "optimizer": optimizer}
    whole = run(tmp_path / "whole", "iwae", "VAE, K = 1", **config)
    fit, calls = rows.fit, []

    def killed(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fit(*args, **options)

    monkeypatch.setattr(rows, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "halves", "iwae", "VAE, K = 1", **config)
    monkeypatch.setattr(rows, "fit", fit)
    again = run(tmp_path / "halves", "iwae", "VAE, K = 1", **config)
    assert again["numbers"] == whole["numbers"]


def test_a_run_whose_time_is_up_is_measured_as_it_stands(tmp_path):
    config = TINY | {"epochs": 4}
    whole = run(tmp_path, "iwae", "VAE, K = 1", **config)
    (plan,) = (tmp_path / "runs").glob("*.json")
    found = json.loads(plan.read_text())
    plan.write_text(json.dumps(found | {"steps": 10**6, "seconds": 1e6}))
    again = run(tmp_path, "iwae", "VAE, K = 1", budget=1, **config)
    assert again["numbers"] == whole["numbers"]
    assert again["training"]["model"]["epochs"] == 4


def test_muon_takes_the_weights_of_linear_layers_and_adam_the_rest():
    config = table["vampprior"].ROWS["VampPrior"] | {"components": 3, "latents": [2, 2]}
    model = torch.nn.ModuleDict(
        {
            "net": torch.nn.Linear(4, 3),
            "prior": table["vampprior"].make_prior(config, torch.rand(5, 6)),
        }
    )
    both = rows.optimizer_of(model, list(model.parameters()), 1e-3, {"optimizer": "Muon"})
    muon, adam = (
        [p for group in one.param_groups for p in group["params"]] for one in both.optimizers
    )
    assert [p is model["net"].weight for p in muon] == [True]
    assert {id(p) for p in adam} == {id(model["net"].bias), id(model["prior"].raw)}


def test_timing_the_steps_leaves_the_model_as_it_was():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batch = torch.randn(5, 3)
    state = torch.get_rng_state()
    speed = rows.steps_per_second(
        model, lambda x: model(x + torch.randn_like(x)).square().mean(), batch, torch.optim.Adam
    )
    assert speed > 0
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert torch.equal(torch.get_rng_state(), state)


def test_a_row_takes_the_place_of_its_earlier_self(tmp_path):
    path = tmp_path / "results" / "one.json"
    for row, seed, value in (("b", 0, 1), ("a", 1, 2), ("a", 0, 3), ("b", 0, 4)):
        rows.record(path, {"row": row, "seed": seed, "numbers": value})
    found = [(one["row"], one["seed"], one["numbers"]) for one in json.loads(path.read_text())]
    assert found == [("a", 0, 3), ("a", 1, 2), ("b", 0, 4)]
    assert [p.name for p in path.parent.iterdir()] == ["one.json"]


def test_the_command_names_its_tables_and_rows():
    def said(*arguments):
        command = [sys.executable, "-m", "benchmarks.tables", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    help_text = said("--help").stdout
    assert all(name in help_text for name in table)
    wrong = said("iwae", "--row", "K = 7")
    assert wrong.returncode == 2 and "no row 'K = 7' in iwae; there are" in wrong.stderr
