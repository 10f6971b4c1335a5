"""The three kinds in a real cluster."""

import pytest

from fleet_cli.local.node.api import Api
from helpers import kinds as helper


@pytest.fixture
async def kinds(api: Api) -> None:
    await helper.install(api)
