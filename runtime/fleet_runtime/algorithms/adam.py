"""Adam (arXiv 1412.6980): torch's own, without torch's compiler."""

from __future__ import annotations

from inspect import unwrap

import torch
from torch.optim import Adam as Compilable


class Adam(Compilable):
    """As torch's, for loops that never compile it.

    Torch's decorators import `torch._dynamo` only to hear that nobody compiles: on a start that is
    a second of processor time and 150 MB for as long as a learner lives.
    """

    add_param_group = unwrap(Compilable.add_param_group)
    zero_grad = unwrap(Compilable.zero_grad)
    state_dict = unwrap(Compilable.state_dict)
    load_state_dict = unwrap(Compilable.load_state_dict)
    step = torch.no_grad()(unwrap(Compilable.step))
