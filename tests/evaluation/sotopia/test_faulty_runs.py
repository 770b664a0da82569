"""Whole runs over an endpoint that fails: every episode ends complete or typed as failed, and the export is the same."""

from pathlib import Path

from tiller.evaluation.sotopia.endpoint import EndpointSpeaker

from .runs import exported, play
from .stub_process import stubbed

CAUSES = {"server_error", "rate_limited", "timeout", "bad_reply", "connection"}


def test_faults_change_nothing_where_attempts_suffice(tmp_path: Path) -> None:
    with stubbed() as calm:
        play(tmp_path / "calm", EndpointSpeaker(calm.endpoint(), "stub"), scenarios=6, max_turns=8)
    with stubbed("--fault-rate", "0.1") as faulty:
        speaker = EndpointSpeaker(faulty.endpoint(timeout=5, max_attempts=9), "stub")
        sitting = play(tmp_path / "faulty", speaker, scenarios=6, max_turns=8)
        assert sum(faulty.counts().values()) - faulty.counts()["asks"] - faulty.counts()["answers"] > 0
    assert sitting.ending.state == "done" and sitting.progress.failed == 0
    assert exported(tmp_path / "faulty") == exported(tmp_path / "calm")


def test_what_fails_for_good_is_typed_and_never_a_silent_turn(tmp_path: Path) -> None:
    with stubbed("--fault-rate", "0.1", "--retry-after", "") as faulty:
        speaker = EndpointSpeaker(faulty.endpoint(timeout=2, max_attempts=1), "stub")
        play(tmp_path / "run", speaker, scenarios=6, max_turns=4)
    episodes = exported(tmp_path / "run")
    assert {episode["outcome"] for episode in episodes} == {"complete", "failed"}
    assert {episode["cause"] for episode in episodes} <= CAUSES | {"max_turns"}
    for episode in episodes:
        assert episode["outcome"] == "failed" or len(episode["turns"]) == 4
        assert all(turn["action_type"] == "speak" for turn in episode["turns"])
