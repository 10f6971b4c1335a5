"""Our Adam is torch's to the last bit, and brings no compiler with it."""

import subprocess
import sys

import torch

from fleet_runtime.algorithms.adam import Adam

WITHOUT = """
import sys
import torch
from fleet_runtime.algorithms.adam import Adam
weight = torch.nn.Parameter(torch.ones(2))
adam = Adam([weight], lr=0.1, fused=True)
weight.square().sum().backward()
adam.step()
adam.zero_grad()
adam.load_state_dict(adam.state_dict())
assert "torch._dynamo" not in sys.modules
"""


def test_it_steps_and_resumes_as_torchs_does() -> None:
    weights = {kind: torch.nn.Parameter(torch.ones(5)) for kind in (Adam, torch.optim.Adam)}
    for kind, weight in weights.items():
        kept = None
        for _ in range(3):
            adam = kind([weight], lr=0.1, fused=True)
            if kept is not None:
                adam.load_state_dict(kept)
            for _ in range(4):
                adam.zero_grad()
                torch.autograd.backward(weight.cumsum(0).square().sum())
                adam.step()
            kept = adam.state_dict()
    ours, theirs = weights.values()
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, torch.ones(5))


def test_a_learner_starts_without_torchs_compiler() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT], check=True)
