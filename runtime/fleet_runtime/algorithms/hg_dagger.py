"""HG-DAgger on a flow policy: imitate the demonstrations and whatever the fleet did well.

The human alone decides when to take over (Kelly et al., arXiv 1810.02890); as SOP's plug-in
(arXiv 2601.03044) the loss is the flow-matching loss of the policy on a mix of offline
demonstrations and online data, and the sampler settles the mix:

    L(θ) = E |v_θ(x^w, w | o, task) − (x¹ − x⁰)|²   over actions the validity mask lets through.

Rows are executed actions: the human's frames, and the policy's own where an episode went well.
"""

from __future__ import annotations

from fleet_runtime.algorithms.bc import BC, BCConfig
from fleet_runtime.experience.batch import SUCCESSES, Source, by_name


class HGDaggerConfig(BCConfig):
    """Parameters of a job's `algorithm` field; one that is not listed here is refused."""

    online: tuple[Source, ...] = by_name(SUCCESSES)
    """What it imitates of the online side."""


class HGDagger(BC):
    """Behaviour cloning that also looks at what the fleet did well and where people helped."""

    parameters = HGDaggerConfig
