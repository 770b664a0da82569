"""Sotopia itself loads what we write and we read what it writes; it needs an environment of its own (docs/sotopia.md)."""

import json
import os
import subprocess
from typing import Any

import pytest

from tiller.evaluation.sotopia.episode_log import episode_line, episode_log, write_episode_logs
from tiller.evaluation.sotopia.episode_record import EpisodeRecord
from tiller.evaluation.sotopia.record import DIMENSIONS
from tiller.evaluation.sotopia.records import read_records, scene_of
from tiller.evaluation.sotopia.world import load_world, shipped

from .test_data_records import SCENES, episode, essence

pytestmark = pytest.mark.sotopia

SCORES = [dict.fromkeys(DIMENSIONS, float(seat + 1)) for seat in range(2)]
RECORDS: list[EpisodeRecord] = [
    episode([("speak", 'He said: "no".'), ("none", ""), ("action", "shrugs"), ("leave", "")], SCENES[1]),
    episode([("non-verbal communication", "nods"), ("speak", "Ça va ?")], SCENES[2]),
]
READER = """
import json, sys
from pathlib import Path
from sotopia.database.logs import EpisodeLog
from sotopia.database import serialization as s

lines, own, again = map(Path, sys.argv[1:])
for profile in s.jsonl_to_agentprofiles(str(own / "agent_profiles.jsonl")):
    profile.save()
for profile in s.jsonl_to_environmentprofiles(str(own / "environment_profiles.jsonl")):
    profile.save()
combos = s.jsonl_to_envagnetcombostorage(str(own / "env_agent_combo_storages.jsonl"))
relationships = s.jsonl_to_relationshipprofiles(str(own / "relationship_profiles.jsonl"))
logs = sorted(EpisodeLog.all(), key=lambda log: log.pk)
from_lines = sorted(s.jsonl_to_episodes(str(lines)), key=lambda log: log.pk)
s.episodes_to_jsonl(logs, str(again))
print(json.dumps({
    "logs": [log.model_dump() for log in logs],
    "lines": [log.model_dump() for log in from_lines],
    "rewards": [s.get_rewards_from_episode(log) for log in logs],
    "texts": [s.get_social_interactions_from_episode(log) for log in logs],
    "counts": [len(combos), len(relationships)],
}))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Sotopia finds in our files, and in `again` its own file of the same episodes."""
    root = tmp_path_factory.mktemp("sotopia")
    lines, again = root / "episodes.jsonl", root / "again.jsonl"
    lines.write_text("".join(json.dumps(episode_line(record, SCORES, "judge")) + "\n" for record in RECORDS))
    write_episode_logs((episode_log(record, SCORES, "judge") for record in RECORDS), root / ".sotopia" / "data")
    done = subprocess.run(
        [os.environ["SOTOPIA_PYTHON"], "-c", READER, str(lines), str(shipped()), str(again)],
        env={
            "PATH": os.environ["PATH"], "HOME": str(root), "SOTOPIA_STORAGE_BACKEND": "local", "OPENAI_API_KEY": "unused",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
        capture_output=True, text=True, timeout=300, cwd=root,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return {**json.loads(done.stdout.splitlines()[-1]), "again": again}


def test_sotopia_loads_episode_logs_and_lines(seen: dict[str, Any]) -> None:
    written = [json.loads(json.dumps(episode_log(record, SCORES, "judge"))) for record in RECORDS]
    logs = sorted(written, key=lambda log: log["pk"])
    assert seen["logs"] == seen["lines"] == logs
    assert seen["rewards"] == [log["rewards"] for log in logs]


def test_sotopia_finds_the_conversation(seen: dict[str, Any]) -> None:
    texts = dict(zip([log["pk"] for log in seen["logs"]], seen["texts"], strict=True))
    text = texts[RECORDS[0].unit.unit_id]
    assert 'said: "He said: "no"."' in text and "[action] shrugs" in text and "left the conversation" in text


def test_sotopia_loads_the_shipped_set(seen: dict[str, Any]) -> None:
    world = load_world()
    assert seen["counts"] == [len(world.combos), len(world.relationships)]


def test_we_read_what_sotopia_writes(seen: dict[str, Any]) -> None:
    """Its own scenes in words, of profiles that it loaded from the shipped files."""
    read = {record.record_id: record for record in read_records(seen["again"])}
    for record in RECORDS:
        theirs = read[record.unit.unit_id]
        assert essence(theirs.turns) == essence(record.turns)
        assert scene_of(theirs, load_world()) == record.unit.scene
        assert theirs.goals == record.unit.scene.environment.agent_goals  # type: ignore[union-attr]
        rebuilt, real = scene_of(theirs).agents, record.unit.scene.agents  # type: ignore[union-attr]
        for mine, own in zip(rebuilt, real, strict=True):
            for name in ("first_name", "last_name", "age", "gender", "public_info", "personality_and_values", "secret"):
                assert getattr(mine, name) == getattr(own, name), name
