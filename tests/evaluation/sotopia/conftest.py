"""The demo engine in this process, where the order of a run's batches depends on the requests alone; and two who meet."""

import os
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest

from tiller.evaluation.sotopia.profiles import AgentProfile, EnvironmentProfile, Scene


@pytest.fixture(scope="session")
def demo_llm() -> Iterator[Any]:
    """One engine for all tests of this folder."""
    from tiller.evaluation.boot import boot

    with patch.dict(os.environ, {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}), boot("demo") as engine:
        yield engine


@pytest.fixture
def scene() -> Scene:
    """Two friends in a situation that the demo model knows, with every kind of markup."""
    mina = AgentProfile(
        pk="mina", first_name="Mina", last_name="Keller", age=31, occupation="Teacher", gender="Woman",
        gender_pronoun="She/her", public_info="Mina collects maps.", personality_and_values="Mina is patient.",
        secret="Mina never learned to swim.",
    )  # fmt: skip
    leo = AgentProfile(
        pk="leo", first_name="Leo", last_name="Brandt", age=44, occupation="Cook", gender="Man", gender_pronoun="He/him",
        public_info="Leo sings in a choir.", personality_and_values="Leo is proud.", secret="Leo is in debt.",
    )  # fmt: skip
    environment = EnvironmentProfile(
        pk="bike", codename="used_bike", relationship=3,
        scenario="Mina offers her bike and Leo looks at it. <p viewer='environment'>It was stolen.</p>",
        agent_goals=(
            "Sell it for 120 euros <extra_info>(you paid 300).</extra_info>",
            "Buy it for 80 euros <strategy_hint>Hint: praise the bell.</strategy_hint>",
        ),
    )  # fmt: skip
    return Scene(environment=environment, agents=(mina, leo))
