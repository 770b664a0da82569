"""One way to steer a turn."""

from typing import NamedTuple

from tiller.engine.spec import SteeringSpec


class Way(NamedTuple):
    """What is edited, and what that is called where ways are compared."""

    name: str
    spec: SteeringSpec
