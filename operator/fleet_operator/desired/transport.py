"""Where a job's data travel and which images run it, after the operator's defaults. Pure."""

from typing import NamedTuple

from fleet_contract import names
from fleet_contract.resources import FleetTrainingJob
from fleet_contract.resources.fleet import Simulated
from fleet_contract.resources.learning import Learner
from fleet_operator.settings import Settings


class Transport(NamedTuple):
    """Resolved addresses and default images."""

    nats_url: str
    storage_url: str
    learner_image: str
    robot_image: str
    storage_secret: str = ""  # empty: none
    log_format: str = ""  # empty: the programs' own
    traces: str = ""  # empty: none are wanted
    accounts: bool = False  # whether that NATS takes nobody but whom the operator minted

    @property
    def grants(self) -> bool:
        """Whether robots come to the store by the clerk's leave, without a key of it."""
        return names.granted(self.storage_url)


def resolve(job: FleetTrainingJob, settings: Settings) -> Transport:
    """The job's own words first, then the operator's."""
    nats_url = job.spec.transport.nats.url or settings.nats_url
    return Transport(
        nats_url,
        job.spec.transport.storage.url or settings.storage_url,
        settings.learner_image or Learner.model_fields["image"].default,
        settings.robot_image or Simulated.model_fields["image"].default,
        job.spec.transport.storage.secret_ref.name or settings.storage_secret,
        log_format=settings.log_format,
        traces=settings.traces,
        accounts=settings.nats_accounts and nats_url == settings.nats_url,
    )
