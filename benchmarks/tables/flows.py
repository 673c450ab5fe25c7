"""Claims 3.3 and 3.9: passes and times of MAF, IAF and RealNVP; Parallel WaveNet's speed-up.

Three kinds of rows:

- `D = …`: calls of the network, and milliseconds, that density and sampling of one layer take;
- `T = …`: milliseconds of sampling one sequence from a WaveNet, by whole passes and by queues, and
  from its parallel student, which has the same network;
- `distillation`: a teacher fitted to sequences, a student distilled from it, and how far it is.

Sources: lecture L6-2021; van den Oord et al., "Parallel WaveNet" (2018).
"""

import time

import torch
import torch.nn.functional as F

from dgm_utils.maf_vs_iaf import (
    coupling_forward,
    iaf_forward,
    iaf_inverse,
    maf_forward,
    maf_inverse,
)
from dgm_utils.models.autoregressive import IAFLayer, MAFLayer
from dgm_utils.models.coupling import CouplingLayer, coupling_inverse
from dgm_utils.models.wavenet import WaveNet, WaveNetStudent, WaveNetTeacher, distillation_terms

ROWS = {
    **{
        f"D = {d}": {"kind": "layers", "num_dims": d, "hidden": [256, 256], "points": 64}
        for d in (2, 8, 32, 128, 512)
    },
    **{
        f"T = {t}": {"kind": "speed", "length": t, "channels": 16, "dilations": [1, 2, 4, 8]}
        for t in (32, 128, 512, 2048, 4096)
    },
    "distillation": {
        "kind": "distillation",
        "length": 24,
        "channels": 16,
        "dilations": [1, 2, 4],
        "sequences": 20_000,
        "epochs": 40,
        "batch_size": 100,
        "learning_rate": 1e-2,
    },
}


def run(config, work):
    """Measure one row."""
    return {"layers": layers, "speed": speed, "distillation": distillation}[config["kind"]](
        config, work
    )


class Counted:
    """A network that counts how often it is called."""

    def __init__(self, net):
        self.net, self.calls = net, 0

    def __call__(self, v):
        """Call it."""
        self.calls += 1
        return self.net(v)


@torch.no_grad()
def layers(config, work):
    """Calls of the network, and milliseconds, of each direction of three layers."""
    dims, hidden = config["num_dims"], tuple(config["hidden"])
    maf, iaf = MAFLayer(dims, hidden).to(work.device), IAFLayer(dims, hidden).to(work.device)
    coupling = CouplingLayer(dims, hidden).to(work.device)
    v = torch.randn(config["points"], dims, device=work.device)
    split = coupling.split
    directions = {
        "MAF density": (maf_forward, maf.conditioner),
        "MAF sample": (maf_inverse, maf.conditioner),
        "IAF density": (iaf_forward, iaf.conditioner),
        "IAF sample": (iaf_inverse, iaf.conditioner),
        "RealNVP density": (lambda x, net: coupling_forward(x, net, split), coupling.net),
        "RealNVP sample": (lambda z, net: coupling_inverse(z, net, split), coupling.net),
    }
    numbers = {}
    for name, (apply, net) in directions.items():
        counted = Counted(net)
        apply(v, counted)
        took = milliseconds(lambda apply=apply, net=net: apply(v, net), work.device)
        numbers[name] = {"passes": counted.calls, "milliseconds": took}
    # The library's own way, which computes each hidden unit once.
    took = milliseconds(lambda: maf.inverse(v), work.device)
    numbers["MAF sample, each unit once"] = {"milliseconds": took}
    return numbers


@torch.no_grad()
def speed(config, work):
    """Milliseconds of one sequence, and the student's speed-up."""
    net = WaveNet(config["channels"], config["dilations"]).to(work.device)
    teacher, student = WaveNetTeacher(net), WaveNetStudent(net)
    z = torch.randn(1, config["length"], device=work.device)
    fast = milliseconds(lambda: student.inverse(z), work.device)
    queues = milliseconds(lambda: teacher.inverse(z), work.device)
    passes = milliseconds(lambda: teacher.inverse(z, cached=False), work.device)
    return {
        "student": fast,
        "teacher by queues": queues,
        "teacher by whole passes": passes,
        "speed-up over queues": queues / fast,
        "speed-up over whole passes": passes / fast,
    }


def distillation(config, work):
    """KL(truth ‖ teacher), and KL(student ‖ teacher) before and after distillation, in nats."""
    length, dilations = config["length"], config["dilations"]
    truth = WaveNetTeacher(_truth)
    teacher = WaveNetTeacher(WaveNet(config["channels"], dilations)).to(work.device)
    student = WaveNetStudent(WaveNet(config["channels"], dilations)).to(work.device)

    def draw(num, purpose):
        generator = work.generator(purpose)
        return torch.randn(num, length, generator=generator, device=work.device)

    with torch.no_grad():
        sequences, _ = truth.inverse(draw(config["sequences"], 1))
        real, _ = truth.inverse(draw(2000, 2))
    work.fit(teacher, lambda x: -teacher.log_prob(x).mean(), sequences, config, "teacher")
    teacher.requires_grad_(False)

    def kl(z):
        cross_entropy, entropy = distillation_terms(student, teacher, z)
        return cross_entropy - entropy

    with torch.no_grad():
        before = kl(draw(2000, 3)).mean()
    noise = draw(config["sequences"], 4)
    work.fit(student, lambda z: kl(z).mean(), noise, config, "student")
    with torch.no_grad():
        return {
            "KL(truth ‖ teacher)": (truth.log_prob(real) - teacher.log_prob(real)).mean().item(),
            "KL(student ‖ teacher) before": before.item(),
            "KL(student ‖ teacher)": kl(draw(2000, 3)).mean().item(),
            "teacher's loss": -teacher.log_prob(real).mean().item(),
        }


def _truth(v):
    past = F.pad(v, (1, -1))
    return 0.8 * past, torch.log(0.2 + 0.4 * torch.sigmoid(2 * past))


def milliseconds(run, device, least=0.2):
    """Of one call, the fastest of some; CPU time, or wall time where a card does the work."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    run()
    times = []
    while len(times) < 2 or (sum(times) < least and len(times) < 50):
        start = clock()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(clock() - start)
    return 1000 * min(times)
