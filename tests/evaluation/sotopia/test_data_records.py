"""Recorded conversations: what is written is read again, and what a file lacks is missing, never 0."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiller.evaluation.inputs import InputError
from tiller.evaluation.sotopia.context import agent_of
from tiller.evaluation.sotopia.episode_log import episode_line, episode_log, write_episode_logs
from tiller.evaluation.sotopia.episode_record import EpisodeRecord, Outcome, TurnRecord
from tiller.evaluation.sotopia.markup import visible_text
from tiller.evaluation.sotopia.objects import Placed
from tiller.evaluation.sotopia.profiles import Relationship, Scene
from tiller.evaluation.sotopia.protocol import Protocol
from tiller.evaluation.sotopia.record import DIMENSIONS, OVERALL, Record
from tiller.evaluation.sotopia.records import read_records, record_of, scene_of
from tiller.evaluation.sotopia.unit import Arm, Unit
from tiller.evaluation.sotopia.world import load_world

WORLD = load_world()
SCENES = WORLD.scenes()
NAMES = ("Ada Ng", "Bea Lund")
WORDS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
LINES = st.lists(WORDS, max_size=6).map(" ".join)  # as actions.parse_action leaves an argument
ACTIONS = st.one_of(
    st.tuples(st.sampled_from(["speak", "non-verbal communication", "action"]), LINES),
    st.sampled_from([("none", ""), ("leave", "")]),
)
SCORES = st.fixed_dictionaries({name: st.integers(-10, 10) for name in (*DIMENSIONS, OVERALL)})


def episode(actions: list[tuple[Any, str]], scene: Scene = SCENES[0], **protocol: Any) -> EpisodeRecord:
    """By turns, or both at once in simultaneous order."""
    at_once = 2 if protocol.get("order") == "simultaneous" else 1
    turns = [
        TurnRecord(
            index=i // at_once, seat=i % 2, name=scene.names[i % 2], action_type=kind, argument=argument,
            text=json.dumps({"action_type": kind, "argument": argument}),
        )
        for i, (kind, argument) in enumerate(actions)
    ]  # fmt: skip
    unit = Unit(scene=scene, protocol=Protocol(**protocol), arm=Arm(name="warm"), models=("one", "two"))
    return EpisodeRecord(unit=unit, turns=turns, outcome=Outcome(status="complete", cause="left"))


def read(body: dict[str, Any]) -> Record:
    """As it comes back from a file."""
    return record_of(Placed("there:1", json.loads(json.dumps(body))))


def essence(turns: Any) -> list[tuple[int, int, str, str]]:
    return [(turn.index, turn.seat, turn.action_type, turn.argument) for turn in turns]


@given(st.lists(ACTIONS, max_size=8), st.sampled_from(SCENES), st.sampled_from(["sotopia", "compact"]))
def test_both_formats_give_the_turns_and_the_scene_back(actions: Any, scene: Scene, template: str) -> None:
    record = episode(actions, scene, template=template)
    from_log, from_line = read(episode_log(record)), read(episode_line(record))
    assert essence(from_log.turns) == essence(from_line.turns) == essence(record.turns)
    for name in (
        "environment_id",
        "agent_ids",
        "names",
        "backgrounds",
        "scenario",
        "models",
        "tag",
        "record_id",
    ):
        assert getattr(from_log, name) == getattr(from_line, name), name
    assert from_log.goals == tuple(visible_text(goal, seat) for seat, goal in enumerate(from_line.goals))
    assert scene_of(from_line, WORLD) == scene_of(from_log, WORLD) == scene
    assert from_line.codename == scene.environment.codename
    assert from_line.models == ("", "one", "two")


@given(st.lists(st.tuples(st.just("speak"), LINES), min_size=1, max_size=4))
def test_both_at_once(actions: Any) -> None:
    record = episode([*actions, *actions], order="simultaneous")
    assert essence(read(episode_log(record)).turns) == essence(record.turns)


@given(st.lists(ACTIONS.filter(lambda action: action[0] != "none"), min_size=1, max_size=8))
def test_a_plain_transcript_is_enough(actions: Any) -> None:
    """Older data sets hold nothing else; it knows no silent turns."""
    record = episode(actions)
    line = {**episode_line(record), "raw_messages": None}
    assert [turn[1:] for turn in essence(read(line).turns)] == [turn[1:] for turn in essence(record.turns)]


@given(st.tuples(st.none() | SCORES, st.none() | SCORES))
def test_scores_come_back_and_missing_ones_stay_missing(scores: Any) -> None:
    record = episode([("speak", "Hello.")])
    for body in (episode_log(record, scores, "judge"), episode_line(record, scores, "judge")):
        assert read(body).rewards == scores
        assert read(body).models[0] == "judge"


def test_overall_is_the_mean_where_it_is_not_given() -> None:
    scores = dict.fromkeys(DIMENSIONS, 1.0) | {"goal": 8.0}
    (overall, inner), failed = episode_log(episode([]), [scores, {"goal": 5.0}])["rewards"]
    assert overall == inner[OVERALL] == 2.0
    assert failed == 0.0  # Sotopia has no word for one that lacks dimensions


@pytest.mark.parametrize(
    ("given_rewards", "expected"),
    [
        ([0.0, 0.0], (None, None)),
        ([3.5, None], ({OVERALL: 3.5}, None)),
        ([[0.0, {}], [2.0, {"goal": 2, "secret": None}]], (None, {OVERALL: 2.0, "goal": 2.0})),
        ([{"goal": 0}, {}], ({"goal": 0.0}, None)),
        ([[0.0, {"goal": 0.0, "secret": 0.0}], float("nan")], ({OVERALL: 0.0, "goal": 0.0, "secret": 0.0}, None)),
        ([], (None, None)),
        (None, (None, None)),
    ],
)
def test_shapes_of_scores(given_rewards: Any, expected: Any) -> None:
    assert read({**episode_log(episode([])), "rewards": given_rewards}).rewards == expected


BACKGROUND = """
Here is the context of this interaction:
Scenario: A queue.
Participants: Ada Ng and Bea Lund
Ada Ng's background: {ada}
Bea Lund's background: {bea}
Ada Ng's goal: {goals[0]}
Bea Lund's goal: {goals[1]}
Conversation Starts:
"""
ADA = (
    "Ada Ng is a 31-year-old female tax advisor. She/her pronouns. Ada Ng rides. Twice a week. Personality and values "
    "description: Ada Ng is calm. Ada's secrets: Never voted."
)
BEA = "Bea Lund is a 50-year-old nonbinary cook. They/them pronouns. Bea Lund sings."


def toolkit_line() -> dict[str, Any]:
    """One line of the toolkit's results: Bea is silent in turn 1, Ada leaves in turn 2."""
    first = [
        ["Environment", "Ada Ng", BACKGROUND.format(ada=ADA, bea=BEA, goals=["Get ahead", "Unknown"])],
        ["Environment", "Bea Lund", BACKGROUND.format(ada="Unknown", bea=BEA, goals=["Unknown", "Stay\nfirst"])],
    ]
    said = [
        ('said: "May I? "Please"."', "did nothing"),
        ("did nothing", "did nothing"),
        ("left the conversation", "did nothing"),
    ]
    messages = [[["Environment", name, f"Turn #{i - 1}: ...\n"] for name in NAMES] for i in range(4)]
    messages[0] = first
    for entries, texts in zip(messages, said, strict=False):
        entries += [[name, "Environment", text] for name, text in zip(NAMES, texts, strict=True)]
    return {
        "environment": {"id": "E1", "pks": ["A1", "A2"], "agent_names": list(NAMES)},
        "rewards": [[1.5, {"goal": 9.0, OVERALL: 1.5}], 0.0],
        "meta": {"models": ["judge", "a", "b"], "tag": "t", "messages": messages, "reasoning": "because"},
    }


def test_toolkit_results() -> None:
    record = read(toolkit_line())
    assert essence(record.turns) == [
        (0, 0, "speak", 'May I? "Please".'), (1, 1, "none", ""), (2, 0, "leave", ""),
    ]  # fmt: skip
    assert (record.scenario, record.goals, record.backgrounds) == ("A queue.", ("Get ahead", "Stay\nfirst"), (ADA, BEA))
    assert record.overall == (1.5, None)
    assert (record.models, record.tag, record.reasoning) == (("judge", "a", "b"), "t", "because")


def test_a_scene_is_made_from_the_log_where_profiles_are_missing() -> None:
    scene = scene_of(read(toolkit_line()), WORLD)
    ada, bea = scene.agents
    assert scene.names == NAMES
    assert (ada.age, ada.gender, ada.occupation, ada.gender_pronoun) == (31, "Woman", "tax advisor", "She/her")
    assert (ada.public_info, ada.personality_and_values, ada.secret) == (
        "Ada Ng rides. Twice a week.", "Ada Ng is calm.", "Never voted.",
    )  # fmt: skip
    assert (bea.gender, bea.public_info, bea.personality_and_values, bea.secret) == (
        "Nonbinary",
        "Bea Lund sings.",
        "",
        "",
    )
    assert scene.environment.relationship is Relationship.acquaintance  # Ada was told of Bea, but not what she is like


def test_a_biography_of_another_form_stays_whole() -> None:
    agent = agent_of("A", "Ada Ng", "Ada Ng. She rides, and who knows what else.")
    assert (agent.name, agent.public_info) == ("Ada Ng", "She rides, and who knows what else.")


def test_different_scenario_texts_keep_to_their_viewers() -> None:
    body = toolkit_line()
    body["meta"]["messages"][0][1][2] = body["meta"]["messages"][0][1][2].replace(
        "A queue.", "A queue, and you are last."
    )
    assert read(body).scenario == '<p viewer="agent_0">A queue.</p><p viewer="agent_1">A queue, and you are last.</p>'


def test_files_and_folders(tmp_path: Path) -> None:
    records = [episode([("speak", f"Line {i}.")], scene) for i, scene in enumerate(SCENES[:3])]
    folder = write_episode_logs(map(episode_log, records), tmp_path)
    lines = tmp_path / "episodes.jsonl"
    lines.write_text("".join(json.dumps(episode_line(record)) + "\n" for record in records))
    by_id = {record.record_id: record for record in read_records(folder)}
    assert [essence(by_id[record.unit.unit_id].turns) for record in records] == [
        essence(record.turns) for record in read_records(lines)
    ]
    (one,) = read_records(folder / f"{records[0].unit.unit_id}.json")
    assert essence(one.turns) == essence(records[0].turns)


def broken(change: Any) -> dict[str, Any]:
    body = toolkit_line()
    change(body)
    return body


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"agent_id": "A1", "first_name": "Ada"}, "no record of a conversation (it has agent_id, first_name)"),
        (broken(lambda b: b["meta"].pop("messages")), "the key 'messages' is missing"),
        (broken(lambda b: b["environment"].update(agent_names=["Ada Ng"])), "environment.agent_names: Ada Ng given; two"),
        (broken(lambda b: b["environment"].update(agent_names=["Ada Ng"] * 2)), "two agents of different names"),
        (broken(lambda b: b["meta"]["messages"][1].append(["Cleo", "Environment", "did nothing"])), "messages[1]: 'Cleo' acts"),
        (broken(lambda b: b["meta"]["messages"][1].append(["Ada Ng", "Environment", "sang"])), "messages[1]: 'sang' is no"),
        (broken(lambda b: b["meta"]["messages"][2].append(["Ada Ng", 3, "x"])), "meta.messages[2]: ['Ada Ng', 3, 'x'] given"),
        (broken(lambda b: b.update(rewards=[1.0])), "rewards: 1 given; one for each"),
        (broken(lambda b: b.update(rewards=[1.0, [2]])), "rewards: [2] given; [overall score, {dimension: score}] is"),
        (broken(lambda b: b.update(rewards=[1.0, {"goal": "x"}])), "rewards.goal: 'x' given; a number is needed"),
        (broken(lambda b: b.update(meta=[])), "not the shape of"),
        (broken(lambda b: b["environment"].update(id=7)), "environment_id: Input should be a valid string"),
    ],
)  # fmt: skip
def test_bad_records_are_named(tmp_path: Path, body: dict[str, Any], message: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(toolkit_line()) + "\n" + json.dumps(body) + "\n")
    with pytest.raises(InputError) as error:
        read_records(path)
    assert str(error.value).startswith(f"{path}:2: ") and message in str(error.value)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text("\n")
    with pytest.raises(InputError, match="it holds no record"):
        read_records(tmp_path / "r.jsonl")
