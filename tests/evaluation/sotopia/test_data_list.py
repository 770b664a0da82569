"""`tiller sotopia list` from the shell: one line for each, quickly, whatever the file holds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tiller.evaluation.inputs import InputError
from tiller.evaluation.sotopia.episode_log import episode_log, write_episode_logs
from tiller.evaluation.sotopia.listing import rows_of
from tiller.evaluation.sotopia.world import load_world, shipped

from .test_data_records import SCENES, episode, toolkit_line


def tiller_list(*arguments: str) -> list[str]:
    command = [sys.executable, "-m", "tiller.evaluation.cli", "sotopia", "list", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_toolkit_results_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text((json.dumps(toolkit_line()) + "\n") * 12)
    lines = tiller_list("--data", str(path), "--show-all")
    assert [line.split()[0] for line in lines] == [str(i) for i in range(12)]
    assert lines[11] == (
        "11  E1  Ada Ng & Bea Lund  1.50 / -  goals: Get ahead | Stay first  "
        'first turn: Ada Ng said: "May I? "Please"."'
    )
    few = tiller_list("--data", str(path))
    assert few == [*(line.strip() for line in lines[:10]), "and 2 more, which --show-all lists"]


def test_what_ships_is_listed_in_the_environments_order() -> None:
    lines = tiller_list("--show-all")
    assert [line.split()[1] for line in lines] == [e.codename for e in load_world().environments.values()]


def test_listing_does_not_wait_for_torch() -> None:
    code = "import sys; from tiller.evaluation.cli import app; app(['sotopia', 'list'], standalone_mode=False)"
    code += "; print(*({'torch', 'transformers', 'vllm', 'matplotlib', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_environments_of_a_folder_and_of_a_file() -> None:
    in_folder, in_file = rows_of(shipped()), rows_of(shipped() / "environment_profiles.jsonl")
    assert in_folder[0].participants == "Mina Okafor & Victor Duarte (+4)"
    assert "<" not in in_folder[0].goals
    assert in_file == [row._replace(participants="-") for row in in_folder]


def test_a_folder_of_episode_logs(tmp_path: Path) -> None:
    folder = write_episode_logs((episode_log(episode([], scene)) for scene in SCENES[:3]), tmp_path)
    rows = rows_of(folder)
    assert sorted(row.codename for row in rows) == sorted(scene.environment.pk for scene in SCENES[:3])
    assert {(row.scores, row.first_turn) for row in rows} == {("-", "-")}


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "no such file or folder"), ("agents.jsonl", "agents.jsonl:1: no record of a conversation")],
)
def test_what_can_not_be_listed(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "agents.jsonl").write_text('{"agent_id": "A1"}\n')
    with pytest.raises(InputError, match=message):
        rows_of(tmp_path / name)
