"""What the operator is told by its environment."""

from functools import lru_cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleet_contract.names import Env
from fleet_operator.decide.conditions import PATIENCE


class Settings(BaseSettings):
    """Each field is the environment variable ``FLEET_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="FLEET_", frozen=True)

    namespace: str = "default"
    """The one namespace this operator works in."""
    nats_url: str = "nats://127.0.0.1:4222"
    """For jobs that name no NATS server."""
    nats_accounts: bool = False
    """Whether that server takes nobody but whom we mint (docs/identity.md)."""
    nats_credentials: Path | None = None
    """A credentials file for our own connection to it, where it is a site's and wants one."""
    nats_tls: bool = False
    """Whether we see to that server's certificate (docs/identity.md)."""
    nats_names: str = ""
    """What it is called by beside its address, separated by commas; its certificate is for all."""
    storage_url: str = "file:///var/lib/fleetloop/objects"
    """For jobs that name no object store."""
    storage_secret: str = ""
    """For jobs that name no Secret of the store; empty: none. The operator never reads it."""
    log_format: str = ""
    """That of the pods we start, and our own: ``text`` (also where empty) or ``json``."""
    traces: str = Field(default="", validation_alias=Env.OTLP_ENDPOINT.value)
    """Where the pods we start send traces; empty: nowhere. We ourselves send none."""
    learner_image: str = ""
    """In place of the learner's default image; empty: what the spec says."""
    robot_image: str = ""
    """In place of a simulated robot's default image; empty: what the spec says."""
    bind_address: str = "127.0.0.1"
    """Where probe and metrics listen."""
    probe_port: int = Field(default=8080, ge=0, le=65535)
    """Port of the liveness probe; 0: none."""
    metrics_port: int = Field(default=9090, ge=0, le=65535)
    """Port of the metrics; 0: none."""
    resync_seconds: float = Field(default=60.0, gt=0)
    """Every object is looked at again after this long without an event."""
    lost_after: float = Field(default=20.0, gt=0)
    """Seconds without a heartbeat after which a robot or learner counts as not connected."""
    patience_seconds: float = Field(default=PATIENCE, ge=0)
    """Seconds that a broker or a store may be away before its jobs are Stalled."""
    workers: int = Field(default=4, ge=1)
    """Reconciles that run at the same time."""


@lru_cache
def settings() -> Settings:
    """Read once."""
    return Settings()
