"""What an agent is told, and what it must not be told."""

import pytest

from tiller.evaluation.sotopia.episode_record import TurnRecord
from tiller.evaluation.sotopia.markup import visible_text
from tiller.evaluation.sotopia.profiles import Relationship, Scene
from tiller.evaluation.sotopia.prompts import KNOWN_SCENARIOS, agent_prompt, background
from tiller.evaluation.sotopia.protocol import Protocol

SEEN = {  # of Leo, by Mina
    Relationship.stranger: (),
    Relationship.know_by_name: (),
    Relationship.acquaintance: ("44", "choir"),
    Relationship.friend: ("44", "choir", "proud"),
    Relationship.romantic_relationship: ("44", "choir", "proud"),
    Relationship.family_member: ("44", "choir", "proud"),
}


def related(scene: Scene, relationship: Relationship) -> Scene:
    environment = scene.environment.model_copy(update={"relationship": relationship})
    return scene.model_copy(update={"environment": environment})


def said(index: int, text: str = "Hello.", kind: str = "speak") -> TurnRecord:
    seat = index % 2
    name = ("Mina Keller", "Leo Brandt")[seat]
    return TurnRecord(index=index, seat=seat, name=name, action_type=kind, argument=text, text="")  # type: ignore[arg-type]


@pytest.mark.parametrize("relationship", list(Relationship))
def test_the_closer_two_are_the_more_they_know_of_each_other(scene: Scene, relationship: Relationship) -> None:
    text = background(Protocol(), related(scene, relationship), 0)
    assert [word for word in ("44", "choir", "proud") if word in text] == list(SEEN[relationship])
    assert all(word in text for word in ("31", "maps", "patient", "swim", "120 euros", "you paid 300"))
    assert "debt" not in text and "80 euros" not in text and "bell" not in text


def test_visibility_is_a_switch(scene: Scene) -> None:
    hidden = background(Protocol(visibility="hidden"), scene, 0)
    assert "choir" not in hidden and "maps" in hidden
    everything = background(Protocol(visibility="all"), scene, 0)
    assert "debt" in everything and "80 euros" in everything


def test_only_the_one_above_knows_all(scene: Scene) -> None:
    text = background(Protocol(), scene, None)
    assert all(word in text for word in ("swim", "debt", "120 euros", "80 euros", "stolen"))
    assert "stolen" not in background(Protocol(), scene, 0) + background(Protocol(), scene, 1)
    assert "<" not in text


@pytest.mark.parametrize(
    ("text", "viewer", "seen"),
    [
        ("a < b & c", 0, "a < b & c"),
        ("Tom &amp; <extra_info>Jo</extra_info>", 0, "Tom & Jo"),
        ("<p viewer='agent_1'>no</p> yes", 0, "yes"),
        ("<p viewer='agent_1'>no <extra_info>no</extra_info></p> yes", 0, "yes"),
        ("<p viewer='agent_1'>one</p> <p viewer='environment'>two</p>", None, "one two"),
        ("yes <p viewer='agent_1'>no, and never closed", 0, "yes"),
        ("one<br/> two</p> three", 0, "one two three"),
    ],
)
def test_markup_hides_from_others(text: str, viewer: int | None, seen: str) -> None:
    assert visible_text(text, viewer) == seen


def test_a_prompt_grows_at_its_end_alone(scene: Scene) -> None:
    turns = [said(i, f"Line {i}.") for i in range(8)]
    texts = [agent_prompt(Protocol(), scene, 0, turns[:n])[0]["content"] for n in (2, 4, 6, 8)]
    for before, after in zip(texts, texts[1:], strict=False):
        history = before[: before.rindex("\n\n")]
        assert after.startswith(history) and "Line" in history


def test_a_prompt_says_what_the_published_one_says(scene: Scene) -> None:
    turns = [said(0, "Hi Leo."), said(1, "", "none"), said(2, "waves", "non-verbal communication")]
    text = agent_prompt(Protocol(leave_from_turn=9), scene, 1, turns)[0]["content"]
    assert (
        'Turn #1: Mina Keller said: "Hi Leo."' in text
        and "Turn #3: Mina Keller [non-verbal communication] waves" in text
    )
    assert "Turn #2" not in text, "who does nothing is not mentioned"
    assert "turn #4 of at most 20" in text and "You are Leo Brandt." in text and '"action_type"' in text
    assert text.rstrip().endswith("none, speak, non-verbal communication, action. Write your JSON object.")
    assert "possible from turn #9" in text


def test_a_window_shows_the_latest_turns(scene: Scene) -> None:
    text = agent_prompt(Protocol(window=2), scene, 0, [said(i, f"Line {i}.") for i in range(6)])[0]["content"]
    assert "Line 3." not in text and "Turn #5" in text and "Turn #6" in text


def test_the_compact_prompt_is_the_demo_models_own(scene: Scene) -> None:
    protocol = Protocol(template="compact", window=4)
    texts = [agent_prompt(protocol, scene, seat, [said(0, "Hello Leo.")])[0]["content"] for seat in (0, 1)]
    scenario = KNOWN_SCENARIOS["used_bike"]
    goals = [[pair[0].split("{")[0] for pair in scenario.deeds[k : k + 2]] for k in (0, 2)]
    for text, name, wanted in zip(texts, ("Mina", "Leo"), goals, strict=True):
        lines = text.splitlines()
        assert lines[0] == "Scenario: Mina sells an old bike and Leo may buy it."
        assert any(lines[1].startswith(f"You are {name}. Goal: {goal}") for goal in wanted) and "{" not in text
        assert lines[2:] == ['Turn 1 Mina said: "Hello Leo."', f"Turn 2 {name}:"]


def test_the_compact_prompt_of_another_situation_takes_its_own_texts(scene: Scene) -> None:
    other = scene.model_copy(update={"environment": scene.environment.model_copy(update={"codename": "elsewhere"})})
    text = agent_prompt(Protocol(template="compact"), other, 1, [])[0]["content"]
    assert text == (
        "Scenario: Mina offers her bike and Leo looks at it.\n"
        "You are Leo. Goal: Buy it for 80 euros Hint: praise the bell.\nTurn 1 Leo:"
    )
