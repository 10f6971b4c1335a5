"""``fleet policies``: what a job's ``spec.policy.architecture`` may name."""

from __future__ import annotations

from fleet_cli import algorithms
from fleet_cli.plugins import POLICIES

INTRODUCTION = """\
<!-- Made by `make generate` from runtime/fleet_runtime/policies; edit those. -->
# Policies

`spec.policy.architecture` names one of these, `spec.policy.parameters` sets what its table lists,
in camelCase. A package of your own adds an architecture by an entry point in the group
`fleetloop.policies`; what it must offer is `Trainable` in `fleet_runtime/policies/base.py`, and it
must be installed where the learner runs and on the robots.

What of a policy learns is the algorithm's to say: `trainable`, `loraRank` and `loraAlpha` in
[algorithms.md](algorithms.md).
"""

ROAD = """
## Bringing a LeRobot policy: the road for a π0 or SmolVLA user

1. Images. Learner and robot need the extra: `pip install 'fleetloop[learner,lerobot]'
   'lerobot[smolvla]'` (or `[pi]`, `[diffusion]`) in Python 3.12, which brings torch 2.11. Ours lock
   a newer torch and have no lerobot: build your own and name them in `spec.learner.image` and for
   the robots.
2. Weights. Put what LeRobot saved (`config.json`, `model.safetensors`, `policy_preprocessor*`,
   `policy_postprocessor*`) into a folder of your store. SmolVLA and π0 also read a tokenizer, and
   SmolVLA the configuration of its backbone: lay `vlm_model_name`'s files at the same path in both
   images. Nothing is downloaded on the way.
3. The job. Cameras bear LeRobot's names without `observation.images.`, tasks an instruction:

```yaml
spec:
  tasks:
  - {name: fold, instruction: "fold the shirt"}
  policy:
    architecture: lerobot
    parameters:
      pretrained: s3://lab/smolvla-fold
      config: {vlm_model_name: /opt/smolvlm, train_expert_only: true}
      spaces:
        observationSize: 14
        actionLow: [-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1]
        actionHigh: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
        images: {front: [256, 256, 3]}
  algorithm:
    name: hg-dagger
    parameters: {trainable: lora, loraRank: 16, learningRate: 0.0001, batchSize: 32}
```

4. What learns. `train_expert_only` and `freeze_vision_encoder` are LeRobot's; what they freeze
   stays frozen under `trainable: all` as well, and `lora` adapts only what they leave. A new job
   goes on from an old one by `spec.policy.initial`.

What was run (`make lerobot`, lerobot 0.6.1, torch 2.11, on a CPU): ACT, Diffusion and SmolVLA with
random weights and sizes of a toy; ACT and Diffusion saved by LeRobot itself act here exactly as
there. π0 and π0.5 were not run: their sizes are fixed in LeRobot and their tokenizer is a download.
No published weights were loaded, no GPU and no real robot were used. A policy that wants more than
one observation at a time (Diffusion's default of two) is refused: set `n_obs_steps: 1`.
"""


def render() -> str:
    """The page of all installed architectures, as Markdown."""
    return algorithms.render(POLICIES, INTRODUCTION) + ROAD


def section(name: str) -> str:
    """One architecture. ValueError for an unknown name."""
    return algorithms.section(name, POLICIES)
