"""The units of a run: every scene under every arm, for each steered seat and seed."""

from collections.abc import Sequence
from itertools import product
from typing import Literal, TypeVar

from tiller.engine.config import Config
from tiller.evaluation.inputs import InputError

from .profiles import Scene
from .protocol import Protocol
from .unit import UNSTEERED, Arm, Seat, Unit

T = TypeVar("T")
SeatChoice = Literal["first", "second", "both", "each"]
SEATS: dict[SeatChoice, tuple[Seat, ...]] = {
    "first": ("first",),
    "second": ("second",),
    "both": ("both",),
    "each": ("first", "second"),
}


def arms_of(config: Config, names: Sequence[str] = ()) -> list[Arm]:
    """The unsteered arm and one for each profile; of these those in `names`, where some are given.

    Raises InputError where there is no such arm, or where a profile has the name of the unsteered arm.
    """
    if UNSTEERED.name in config.profiles:
        raise InputError(
            "this name means the arm that nothing steers; rename the profile", f"profiles.{UNSTEERED.name}"
        )
    profiles = [Arm(name=name, steering=config.profile_body(name), target=name) for name in config.profiles]
    arms = {arm.name: arm for arm in [UNSTEERED, *profiles]}
    for name in names:
        if name not in arms:
            raise InputError(f"no arm {name!r}; this config has: {', '.join(arms)}", "--arm")
    return [arm for name, arm in arms.items() if name in names or not names]


def make_units(
    scenes: Sequence[Scene],
    arms: Sequence[Arm],
    protocol: Protocol,
    seats: Sequence[Seat] = ("first",),
    seeds: Sequence[int] = (0,),
    models: tuple[str, str] = ("", ""),
) -> list[Unit]:
    """Arms of one scene, seat and seed stand together: they share a prefix, and what is compared ends together.

    models: of the agent that the arms steer, and of its partner.
    """
    return [
        Unit(scene=scene, protocol=protocol, arm=arm, seat=seat, seed=seed, models=by_seat(models, seat))
        for scene, seed, seat, arm in product(scenes, seeds, seats, arms)
    ]


def by_seat(agent_and_partner: tuple[T, T], seat: Seat) -> tuple[T, T]:
    """The same in seat order; where both seats are steered, the agent has the first."""
    agent, partner = agent_and_partner
    return (partner, agent) if seat == "second" else (agent, partner)
