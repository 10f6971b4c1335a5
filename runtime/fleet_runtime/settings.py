"""Where and who a program is, from the environment: the names of `fleet_contract.names.Env`.

Inside the cluster the operator sets them in the pod; an owner of a robot outside sets the same
ones. `FLEET_SPEC` is one JSON document, everything else a plain value.
"""

from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from fleet_contract.agents import GateConfig, LearnerConfig, RobotConfig
from fleet_contract.identity import token_of
from fleet_contract.names import NAME_MAX, NAME_PATTERN, Env
from fleet_runtime import trust

Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=NAME_MAX)]
# A job's UID stands in stream names and object keys: nothing that NATS or a store would read.
UID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}$"
Uid = Annotated[str, Field(pattern=UID_PATTERN)]


class Settings(BaseSettings):
    """What learner, robot and gate share."""

    model_config = SettingsConfigDict(env_prefix="FLEET_", frozen=True, extra="ignore")

    namespace: Name = "default"
    job: Name
    job_uid: Uid
    nats_url: Annotated[str, Field(min_length=1)]
    storage_url: Annotated[str, Field(min_length=1)]
    nats_credentials: Path | None = None
    """Who we are to NATS, where it asks: a credentials file, read at each connect."""
    nats_ca: Path | None = None
    """Who may sign its certificate: PEM, read at each connect; without it the machine's own."""
    resync_seconds: Annotated[float, Field(gt=0)] = 15.0
    """Seconds between two looks at what a message might have told already; jittered by half."""

    def demand_credentials(self) -> None:
        """Raises ``ValueError`` where the file is not one; what is in it is not repeated."""
        if (file := self.nats_credentials) is not None:
            try:
                token_of(file.read_text())
            except (OSError, ValueError) as fault:
                raise ValueError(f"{Env.NATS_CREDENTIALS}: {file}: {fault}") from None


class FollowerSettings(Settings):
    """Of a program that does as documents say."""

    trust_dir: Path | None = None
    """The public keys whose word is taken: a file ``learner`` and a file ``operator``."""
    unsigned: bool = False
    """Without keys: believe everything. Whoever reaches the broker then steers the robot."""

    @model_validator(mode="after")
    def _demand_keys(self) -> Self:
        if self.trust_dir is None and not self.unsigned:
            raise ValueError(
                f"{Env.TRUST_DIR} is not set: name the folder of the fleet's public keys, which "
                f"`fleet robots enroll` shows, or set {Env.UNSIGNED}=true to believe everything"
            )
        return self

    def demand_keys(self) -> None:
        """Raises ``ValueError`` where they are not there to be read."""
        if self.trust_dir is not None:
            trust.read(self.trust_dir)


class RobotSettings(FollowerSettings):
    """A robot agent's."""

    robot: Name
    robot_uid: Uid
    spool_dir: Path
    """On a disk that outlives the program: what is spooled here is nowhere else yet."""
    spec: RobotConfig
    storage_grants: bool = False
    """Come to the store by what the clerk lets us do, one request at a time, and with no key."""


class ServerSettings(Settings):
    """Of a program that is scraped."""

    bind_address: str = "127.0.0.1"
    """Where metrics are served."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """0: serve none."""


class LearnerSettings(ServerSettings):
    """A learner's."""

    rank: Annotated[int, Field(ge=0, validation_alias=Env.COMPLETION_INDEX.value)] = 0
    """Which of the learner's processes this is; an Indexed Job numbers its pods."""
    key_file: Path | None = None
    """The learner's private key; without one its versions go out unsigned."""
    trust_dir: Path | None = None
    """As a robot's: an older version that nobody signed is none to go on from."""
    spec: LearnerConfig


class GateSettings(FollowerSettings):
    """A run of the simulation gate's."""

    spec: GateConfig


class ClerkSettings(ServerSettings):
    """Of who lets a job's robots into the store."""


_Kind = TypeVar("_Kind", bound=Settings)


def robot_settings() -> RobotSettings:
    """From the environment; exits with the name of the variable that is missing or wrong."""
    return _from_environment(RobotSettings)


def learner_settings() -> LearnerSettings:
    """From the environment; exits with the name of the variable that is missing or wrong."""
    return _from_environment(LearnerSettings)


def gate_settings() -> GateSettings:
    """From the environment; exits with the name of the variable that is missing or wrong."""
    return _from_environment(GateSettings)


def clerk_settings() -> ClerkSettings:
    """From the environment; exits with the name of the variable that is missing or wrong."""
    return _from_environment(ClerkSettings)


def _from_environment(kind: type[_Kind]) -> _Kind:
    try:
        return kind()
    except SettingsError as fault:  # no JSON; what it is may say more than is for a log
        raise SystemExit(f"the environment is wrong:\n  {Env.SPEC}: {fault.__cause__}") from None
    except ValidationError as fault:
        wrong = [
            f"  {_variable(str(error['loc'][0]))}"
            f"{''.join(f'.{part}' for part in error['loc'][1:])}: {error['msg']}"
            if error["loc"]
            else f"  {error['ctx']['error']}"
            for error in fault.errors(include_url=False)
        ]
        raise SystemExit("the environment is incomplete or wrong:\n" + "\n".join(wrong)) from None


def _variable(field: str) -> str:
    """Where a field comes from; one with an alias is told by that."""
    return field if field in set(Env) else f"FLEET_{field.upper()}"
