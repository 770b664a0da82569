"""Profiles as Sotopia publishes them, and what is wrong with files that aren't."""

import json
from pathlib import Path
from typing import Any

import pytest

from tiller.evaluation.demo_model.phrases import NAMES
from tiller.evaluation.demo_model.scenarios import SCENARIOS
from tiller.evaluation.inputs import InputError
from tiller.evaluation.sotopia.profiles import Relationship
from tiller.evaluation.sotopia.world import HARD, World, load_world

ENVIRONMENT = {
    "env_id": "E1", "codename": "tent", "source": "own", "scenario": "Two people, one tent.",
    "agent_goals": ["Sleep inside", "Sleep inside too"], "relationship": "3",
    "age_constraint": "[(18, 70), (18, 70)]", "occupation_constraint": "nan", "agent_constraint": "none",
}  # fmt: skip
AGENTS = [
    {
        "agent_id": pk, "first_name": name, "last_name": "Ng", "age": 30 + i, "occupation": "Baker", "gender": "Woman",
        "gender_pronoun": "She/her", "public_info": "Has a cat.", "big_five": "", "moral_values": ["Care", " Fairness"],
        "schwartz_personal_values": "['Security', 'Power']", "personality_and_values": "Kind.",
        "decision_making_style": "Slow", "secret": "nan", "mbti": "INFJ",
    }
    for i, (pk, name) in enumerate([("A1", "Ada"), ("A2", "Bea"), ("A3", "Cleo"), ("A4", "Ada")])
]  # fmt: skip
COMBOS = [
    {"combo_id": f"C{i}", "env_id": "E1", "agent_ids": pair} for i, pair in enumerate([["A2", "A1"], ["A1", "A3"]])
]
RELATIONSHIPS = [
    {"relationship_id": "R1", "agent1_id": "A1", "agent2_id": "A2", "relationship": "3", "background_story": "nan"},
    {
        "relationship_id": "R2",
        "agent1_id": "A1",
        "agent2_id": "A3",
        "relationship": "0",
        "background_story": "None met.",
    },
]
FILES: dict[str, list[dict[str, Any]]] = {
    "environment_profiles": [ENVIRONMENT],
    "agent_profiles": AGENTS,
    "env_agent_combo_storages": COMBOS,
    "relationship_profiles": RELATIONSHIPS,
}
CLASSES = dict(zip(FILES, ["EnvironmentProfile", "AgentProfile", "EnvAgentComboStorage", "RelationshipProfile"]))  # noqa: B905


def write(folder: Path, **changed: Any) -> Path:
    """A data set as JSON Lines, with other contents for some of its files (None: none)."""
    folder.mkdir(exist_ok=True)
    for name, rows in {**FILES, **changed}.items():
        if rows is not None:
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_published_quirks(tmp_path: Path) -> None:
    world = load_world(write(tmp_path))
    environment, ada = world.environments["E1"], world.agents["A1"]
    assert environment.relationship is Relationship.friend
    assert environment.occupation_constraint is environment.agent_constraint is None
    assert environment.age_constraint == "[(18, 70), (18, 70)]"
    assert (ada.moral_values, ada.schwartz_personal_values) == (("Care", "Fairness"), ("Security", "Power"))
    assert (ada.secret, ada.model_id, ada.age) == ("", "", 30)
    assert world.relationships["R1"].background_story is None
    assert world.relationships["R2"].background_story == "None met."
    assert world.agents["A1"].name == world.agents["A4"].name  # two who share a name are both there


def as_list(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    (folder / f"{name}.json").write_text(json.dumps(rows, indent=2))


def as_one_object_or_list(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    (folder / f"{name}.json").write_text(json.dumps(rows[0] if len(rows) == 1 else rows))


def as_lines_called_json(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    (folder / f"{name}.json").write_text("\n".join(map(json.dumps, rows)))


def as_local_backend(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """One file an object, its key called `pk`."""
    (folder / CLASSES[name]).mkdir()
    for row in rows:
        first, *others = row
        body = {"pk": row[first], **{key: row[key] for key in others}}
        (folder / CLASSES[name] / f"{row[first]}.json").write_text(json.dumps(body, indent=4))


@pytest.mark.parametrize("form", [as_list, as_one_object_or_list, as_lines_called_json, as_local_backend])
def test_all_forms_hold_the_same(tmp_path: Path, form: Any) -> None:
    (tmp_path / "other").mkdir()
    for name, rows in FILES.items():
        form(tmp_path / "other", name, rows)
    assert load_world(tmp_path / "other") == load_world(write(tmp_path / "lines"))


def test_scenes_come_in_the_order_of_casting_keys(tmp_path: Path) -> None:
    world = load_world(write(tmp_path, env_agent_combo_storages=COMBOS[::-1]))
    assert [scene.names for scene in world.scenes(combos=2)] == [("Bea Ng", "Ada Ng"), ("Ada Ng", "Cleo Ng")]
    assert world.scenes(combos=1) == world.scenes(combos=2)[:1]


def test_benchmark_list_has_castings_without_keys(tmp_path: Path) -> None:
    write(tmp_path, env_agent_combo_storages=None)
    castings = [{key: row[key] for key in ("env_id", "agent_ids")} for row in COMBOS]
    (tmp_path / "benchmark_agents.json").write_text(json.dumps(castings))
    assert sorted(load_world(tmp_path).castings(load_world(tmp_path).environments["E1"])) == [
        ("A1", "A3"),
        ("A2", "A1"),
    ]


def test_without_castings_relationships_and_ages_decide(tmp_path: Path) -> None:
    world = load_world(write(tmp_path, env_agent_combo_storages=None))
    assert world.castings(world.environments["E1"]) == [("A1", "A2"), ("A2", "A1")]
    narrow = {**ENVIRONMENT, "age_constraint": "[(18, 30), (18, 70)]"}
    world = load_world(write(tmp_path, env_agent_combo_storages=None, environment_profiles=[narrow]))
    assert world.castings(world.environments["E1"]) == [("A1", "A2")]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"environment_profiles": [{**ENVIRONMENT, "agent_goals": ["one"]}]}, "environment_profiles.jsonl:1: agent_goals: 1"),
        ({"environment_profiles": [{**ENVIRONMENT, "agent_goals": ["one", ""]}]}, "agent_goals: the goal of seat 1 is ''"),
        ({"environment_profiles": [{**ENVIRONMENT, "agent_goals": "be nice"}]}, "agent_goals: one text given"),
        ({"environment_profiles": [{**ENVIRONMENT, "relationship": "7"}]}, "relationship: '7' given; allowed: 0 (stranger)"),
        ({"environment_profiles": [{**ENVIRONMENT, "scenario": "nan"}]}, ":1: scenario: Field required"),
        ({"environment_profiles": [{**ENVIRONMENT, "goal": "x"}]}, ":1: goal: unknown key; allowed: env_id"),
        ({"environment_profiles": [ENVIRONMENT, ENVIRONMENT]}, "environment_profiles.jsonl:2: pk: 'E1' is already in"),
        ({"environment_profiles": []}, "environment_profiles.jsonl: it holds no profile"),
        ({"agent_profiles": [AGENTS[0], {**AGENTS[1], "age": "old"}]}, "agent_profiles.jsonl:2: age: Input should be"),
        ({"agent_profiles": [{**AGENTS[0], "pk": "A9"}]}, "agent_profiles.jsonl:1: pk: pk is given twice"),
        ({"agent_profiles": None}, "none of agent_profiles.jsonl, agent_profiles.json, AgentProfile is here"),
        ({"env_agent_combo_storages": [{**COMBOS[0], "env_id": "E2"}]}, "storages.jsonl:1: env_id: no environment 'E2'"),
        ({"env_agent_combo_storages": [*COMBOS, {**COMBOS[0], "combo_id": "C2", "agent_ids": ["A1", "A9"]}]},
         "storages.jsonl:3: agent_ids: no agent 'A9'"),
        ({"env_agent_combo_storages": [{**COMBOS[0], "agent_ids": ["A1", "A1"]}]}, "agent_ids: ['A1', 'A1'] given; the keys"),
        ({"env_agent_combo_storages": [{**COMBOS[0], "agent_ids": ["A1", "A4"]}]}, "agent_ids: both are called Ada Ng"),
        ({"relationship_profiles": [{**RELATIONSHIPS[0], "agent2_id": "A9"}]}, "profiles.jsonl:1: agent_2_id: no agent 'A9'"),
    ],
)  # fmt: skip
def test_bad_data_is_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        load_world(write(tmp_path, **changed))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[\n {"env_id": "E1",\n "scenario": "s", "agent_goals": ["a", "b"]},\n\n 3]',
            "environment_profiles.json:5: a JSON int",
        ),
        ('[{"env_id": "E1"},\n {"env_id": ]', "environment_profiles.json:2: not JSON"),
        (
            '{"env_id": "E1", "scenario": "s", "agent_goals": ["a", "b"]}\n{"env_id"',
            "environment_profiles.json:2: not JSON",
        ),
        (
            '[{"env_id": "E1", "scenario": "s", "agent_goals": ["a", "b"]},\n'
            ' {"env_id": "E2", "scenario": "\\ud83d", "agent_goals": ["a", "b"]}]',
            "environment_profiles.json:2: it holds half of a character",
        ),
    ],
)
def test_bad_json_is_named_by_its_line(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, environment_profiles=None)
    (tmp_path / "environment_profiles.json").write_text(text)
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        load_world(tmp_path)


def test_two_files_of_one_kind_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "agent_profiles.json").write_text(json.dumps(AGENTS))
    with pytest.raises(InputError, match="agent_profiles.jsonl and agent_profiles.json hold the same"):
        load_world(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num": 25}, "25 given; there are 24 environments"),
        ({"num": 0}, "0 given; there are 24"),
        ({"combos": 6}, "6 castings asked for; environment used_bike has 5"),
        ({"only": "hard"}, "no environment '01H7VFHNV13MHN97GAH73E3KM8'; there are: borrowed_money"),
        ({"only": ["party", "picnic"]}, "no environment 'picnic'"),
    ],
)
def test_scenes_that_are_not_there(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_world().scenes(**options)


def test_sotopia_hard_is_fourteen_environments(tmp_path: Path) -> None:
    hard = [{**ENVIRONMENT, "env_id": pk, "codename": f"c{i}"} for i, pk in enumerate(HARD)]
    castings = [{"combo_id": f"H{i}", "env_id": row["env_id"], "agent_ids": ["A1", "A2"]} for i, row in enumerate(hard)]
    write(tmp_path, environment_profiles=[ENVIRONMENT, *hard], env_agent_combo_storages=[*COMBOS, *castings])
    scenes = load_world(tmp_path).scenes(only="hard")
    assert [scene.environment.pk for scene in scenes] == list(HARD) and len(set(HARD)) == 14


@pytest.fixture(scope="module")
def shipped() -> World:
    return load_world()


def test_shipped_set_fits_the_demo_model(shipped: World) -> None:
    assert [e.codename for e in shipped.environments.values()] == [s.codename for s in SCENARIOS]
    assert [a.first_name for a in shipped.agents.values()] == list(NAMES)
    assert {e.relationship for e in shipped.environments.values()} == set(Relationship)
    assert len(shipped.scenes(combos=5)) == 24 * 5


def test_shipped_castings_are_as_close_as_their_environment_says(shipped: World) -> None:
    closeness = {frozenset((r.agent_1_id, r.agent_2_id)): r.relationship for r in shipped.relationships.values()}
    assert len(closeness) == len(shipped.relationships)
    for scene in shipped.scenes(combos=5):
        assert closeness[frozenset(agent.pk for agent in scene.agents)] == scene.environment.relationship


def test_shipped_profiles_are_complete(shipped: World) -> None:
    for agent in shipped.agents.values():
        left_out = {name for name, value in agent.model_dump().items() if not value}
        assert left_out <= {"model_id", "tag"}, agent.pk
    assert all(e.tag and e.source for e in shipped.environments.values())
