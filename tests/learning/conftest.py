"""The learning tests share two cores with everybody else."""

import torch

torch.set_num_threads(1)
