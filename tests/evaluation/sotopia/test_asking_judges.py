"""Judges that ask a language model, over HTTP, with right and wrong answers."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tiller.evaluation.sotopia.judge_resources import answered_by
from tiller.evaluation.sotopia.judge_settings import AxbenchConfig, SaeTsConfig, SotopiaConfig
from tiller.evaluation.sotopia.judges.axbench import AxbenchJudge
from tiller.evaluation.sotopia.judges.dimensions import DIMENSIONS, METRICS
from tiller.evaluation.sotopia.judges.evaluations import read_evaluations
from tiller.evaluation.sotopia.judges.judge import Missing
from tiller.evaluation.sotopia.judges.sae_ts import SaeTsJudge
from tiller.evaluation.sotopia.judges.sotopia import SotopiaJudge
from tiller.evaluation.sotopia.profiles import Scene
from tiller.evaluation.sotopia.settings import EndpointConfig

from .judged import JudgingModel, expected, judging_model, make_record, sotopia_answer, swapped, values

NAMES = ("Mina Keller", "Leo Brandt")


@pytest.fixture
def model() -> Iterator[JudgingModel]:
    with judging_model() as found:
        yield found


def judge(model: JudgingModel, cls: type, config: Any, record: Any) -> dict[Any, Any]:
    return values(model.run(lambda speaker: cls("own", config, speaker, "model").judge(record)))


def whole(names: tuple[str, str] = NAMES) -> dict[tuple[int | None, str], float]:
    """What the sotopia judge makes of `sotopia_answer`."""
    found = {(seat, d): expected(names[seat], d) for seat in (0, 1) for d in DIMENSIONS}
    overall = {(seat, "overall_score"): sum(expected(names[seat], d) for d in DIMENSIONS) / 7 for seat in (0, 1)}
    return found | {key: pytest.approx(value) for key, value in overall.items()}  # type: ignore[return-value]


def test_seven_dimensions_and_their_mean(model: JudgingModel, scene: Scene) -> None:
    record = make_record(scene, "It is yours for 100.", ("none", ""), ("action", "rings the bell"))
    assert judge(model, SotopiaJudge, SotopiaConfig(), record) == whole()
    (body,) = model.asked
    assert body["temperature"] == 0
    schema = body["response_format"]["json_schema"]["schema"]
    goal = schema["properties"]["Leo Brandt"]["properties"]["goal"]
    assert list(goal["properties"]) == ["reasoning", "score"]
    assert goal["properties"]["score"] == {"type": "integer", "minimum": 0, "maximum": 10}
    (question,) = model.questions
    assert "Leo is in debt." in question and "never learned to swim" in question and "It was stolen." in question
    assert 'Turn #1: Mina Keller said: "It is yours for 100."' in question
    assert "Turn #3: Mina Keller [action] rings the bell" in question
    assert "did nothing" not in question


def test_reasons_that_hold_half_a_character_are_kept_without_it(model: JudgingModel, scene: Scene) -> None:
    """A model may write one half of an escaped pair; no file can hold that."""

    def answer(body: dict[str, Any]) -> str:
        found = sotopia_answer(body)
        found["Mina Keller"]["goal"]["reasoning"] = "glad \ud83d"
        return json.dumps(found)

    model.answer = answer
    made = model.run(
        lambda speaker: SotopiaJudge("own", SotopiaConfig(), speaker, "model").judge(
            make_record(scene, "Hello", "Hello")
        )
    )
    (note,) = [score.note for score in made if (score.seat, score.metric) == (0, "goal")]
    assert note == "glad \ufffd"


def test_agents_are_scored_by_name_and_not_by_order(model: JudgingModel, scene: Scene) -> None:
    model.answer = lambda body: json.dumps(dict(reversed(sotopia_answer(body).items())))
    record = make_record(scene, "Hello", "Hello")
    assert judge(model, SotopiaJudge, SotopiaConfig(), record) == whole()
    mirrored = judge(model, SotopiaJudge, SotopiaConfig(), make_record(swapped(scene), "Hello", "Hello", first=1))
    assert mirrored == whole(NAMES[::-1])  # type: ignore[arg-type]


def test_what_was_read_may_stand_in_a_fence(model: JudgingModel, scene: Scene) -> None:
    for shape in ("```json\n{}\n```", "Here it is:\n```\n{}\n```\nDone.", "My scores are {} as asked."):
        model.answer = lambda body, shape=shape: shape.replace("{}", json.dumps(sotopia_answer(body)))  # type: ignore[misc]
        assert judge(model, SotopiaJudge, SotopiaConfig(), make_record(scene, "Hello")) == whole()


def changed(body: dict[str, Any], score: Any) -> str:
    """An answer with one score of one agent replaced."""
    answer = sotopia_answer(body)
    answer["Leo Brandt"]["secret"]["score"] = score
    return json.dumps(answer)


def without(body: dict[str, Any], *path: str) -> str:
    answer = sotopia_answer(body)
    at = answer
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    return json.dumps(answer)


@pytest.mark.parametrize(
    ("cause", "answer"),
    [
        ("out_of_range", lambda body: changed(body, 1)),
        ("out_of_range", lambda body: changed(body, -11)),
        ("unparsable", lambda body: changed(body, 2.5)),
        ("unparsable", lambda body: changed(body, "-3")),
        ("unparsable", lambda body: changed(body, True)),
        ("unparsable", lambda body: changed(body, None)),
        ("unparsable", lambda body: changed(body, float("nan"))),
        ("unparsable", lambda body: changed(body, float("inf"))),
        ("unparsable", lambda body: "I would rather not."),
        ("unparsable", lambda body: "[1, 2]"),
        ("incomplete", lambda body: without(body, "Leo Brandt", "goal")),
        ("wrong_names", lambda body: without(body, "Mina Keller")),
        ("truncated", lambda body: (json.dumps(sotopia_answer(body))[:-40], "length")),
        ("server_error", lambda body: 500),
        ("refused", lambda body: 400),
    ],
)
def test_a_judgement_is_whole_or_missing(model: JudgingModel, scene: Scene, cause: str, answer: Any) -> None:
    model.answer = answer
    found = judge(model, SotopiaJudge, SotopiaConfig(), make_record(scene, "Hello"))
    assert found == {(seat, metric): cause for seat in (0, 1) for metric in METRICS}


def test_published_shapes_are_read(scene: Scene) -> None:
    pairs = {d: ["why", low] for d, (low, _, _) in DIMENSIONS.items()}
    objects = {d: {"reasoning": "why", "score": high} for d, (_, high, _) in DIMENSIONS.items()}
    for body in (
        {"evaluations": {"agent_1": pairs, "agent_2": objects}},
        {"agent_2": objects, "agent_1": pairs},
        {"agent_1_evaluation": pairs, "agent_2_evaluation": objects},
        {"leo brandt": objects, "Mina  Keller": pairs},
    ):
        first, second = read_evaluations(body, NAMES)
        assert [rating.score for rating in first.values()] == [low for low, _, _ in DIMENSIONS.values()]
        assert [rating.score for rating in second.values()] == [high for _, high, _ in DIMENSIONS.values()]
        assert {rating.reasoning for rating in (*first.values(), *second.values())} == {"why"}
    with pytest.raises(Missing, match="wrong_names"):
        read_evaluations({"agent_1": pairs, "Leo Brandt": objects}, NAMES)


def test_two_of_the_same_name_are_told_apart(model: JudgingModel, scene: Scene) -> None:
    twins = Scene(environment=scene.environment, agents=(scene.agents[0], scene.agents[0]))
    found = judge(model, SotopiaJudge, SotopiaConfig(), make_record(twins, "Hello", "Bye"))
    assert found == whole(("Mina Keller (1)", "Mina Keller (2)"))
    (question,) = model.questions
    assert 'Mina Keller (2) said: "Bye"' in question
    assert "Mina Keller (1) is the one whose background and goal stand first" in question


def test_who_is_named_first_can_be_swapped(model: JudgingModel, scene: Scene) -> None:
    """A judge that favours whom it is asked about first: by one point in every dimension."""

    def biased(body: dict[str, Any]) -> str:
        first, second = body["response_format"]["json_schema"]["schema"]["properties"]
        base = {d: low + 1 for d, (low, _, _) in DIMENSIONS.items()}
        favoured = {d: ["", score + 1] for d, score in base.items()}
        return json.dumps({first: favoured, second: {d: ["", score] for d, score in base.items()}})

    model.answer = biased
    record = make_record(scene, "Hello")
    seats = judge(model, SotopiaJudge, SotopiaConfig(order="seats"), record)
    other = judge(model, SotopiaJudge, SotopiaConfig(order="swapped"), record)
    both = judge(model, SotopiaJudge, SotopiaConfig(order="both"), record)
    assert (seats[0, "goal"], seats[1, "goal"]) == (2, 1) == (other[1, "goal"], other[0, "goal"])
    assert (both[0, "goal"], both[1, "goal"]) == (1.5, 1.5)
    assert (both[0, "position_bias"], both[1, "position_bias"]) == (1, 1)
    assert both[0, "overall_score"] == pytest.approx((seats[0, "overall_score"] + other[0, "overall_score"]) / 2)


def sae_ts_answer(behaviour: Any, coherence: Any) -> Any:
    def answer(body: dict[str, Any]) -> str:
        asked = body["messages"][-1]["content"]
        return json.dumps({"score": behaviour if "London" in asked else coherence})

    return answer


def test_sae_ts_rescales_and_multiplies_each_text(model: JudgingModel, scene: Scene) -> None:
    model.answer = sae_ts_answer(4, 10)
    config = SaeTsConfig(behaviour="The text is about London.")
    record = make_record(scene, "Hello", "Bye", "Well")
    third = pytest.approx(1 / 3)
    assert judge(model, SaeTsJudge, config, record) == {
        (seat, metric): value
        for seat in (0, 1)
        for metric, value in (("behaviour", third), ("coherence", 1.0), ("behaviour_coherence", third))
    }
    assert len(model.asked) == 4
    assert {question.split("Text:\n")[1] for question in model.questions} == {"Hello\nWell", "Bye"}


@pytest.mark.parametrize(
    ("answers", "cause"), [((0, 5), "out_of_range"), ((5, 11), "out_of_range"), ((5, "5"), "unparsable")]
)
def test_sae_ts_never_loses_one_criterion_alone(model: JudgingModel, scene: Scene, answers: Any, cause: str) -> None:
    model.answer = sae_ts_answer(*answers)
    found = judge(model, SaeTsJudge, SaeTsConfig(behaviour="London?"), make_record(scene, "Hello", ("none", "")))
    own = {(0, metric): cause for metric in ("behaviour", "coherence", "behaviour_coherence")}
    assert found == own | {(1, metric): "no_text" for _, metric in own}


@pytest.mark.parametrize(
    ("grades", "overall"), [((2, 2, 2), 2), ((2, 1, 2), 1.5), ((1, 2, 0), 0), ((2, 3, 1), "out_of_range")]
)
def test_axbench_is_a_harmonic_mean(model: JudgingModel, grades: Any, overall: Any) -> None:
    def answer(body: dict[str, Any]) -> str:
        asked = body["messages"][-1]["content"]
        which = 0 if "Concept:" in asked else 1 if "Asked for:" in asked else 2
        return json.dumps({"reasoning": "so", "score": grades[which]})

    model.answer = answer
    record = make_record(None, "Rome is old.", cause="answered")
    found = judge(model, AxbenchJudge, AxbenchConfig(concept="age"), record)
    parts = ("concept", "instruct", "fluency")
    if isinstance(overall, str):
        assert found == {(0, metric): overall for metric in (*parts, "axbench")}
    else:
        assert found == {(0, m): g for m, g in zip(parts, grades, strict=True)} | {
            (0, "axbench"): pytest.approx(overall)
        }
        assert "Asked for:\nuser: Tell me about Rome." in model.questions[1]


def test_an_id_for_everything_that_can_change_a_score() -> None:
    def make(model: str = "m", **settings: Any) -> SotopiaJudge:
        return SotopiaJudge("own", SotopiaConfig(**settings), lambda: None, model)  # type: ignore[arg-type, return-value]

    same = [make(), make(in_flight=3), make(endpoint="gpt")]
    others = [
        make("other"),
        make(temperature=1.0),
        make(order="both"),
        make(max_tokens=99),
        make(max_reasoning_chars=9),
    ]
    ids = [judge.judge_id for judge in (*same, *others, make().repeated(1), make().repeated(2))]
    assert len(set(ids[:3])) == 1
    assert len(set(ids)) == len(ids) - 2
    assert make().repeated(2).judge_id == make().judge_id + "#2"
    prompts = SaeTsJudge("a", SaeTsConfig(behaviour="x"), lambda: None, "m").judge_id  # type: ignore[arg-type, return-value]
    assert prompts != SaeTsJudge("a", SaeTsConfig(behaviour="y"), lambda: None, "m").judge_id  # type: ignore[arg-type, return-value]


def test_where_a_model_is_served_does_not_name_it() -> None:
    here, there = (EndpointConfig(url=url, model="judge") for url in ("http://a/v1", "http://b/v1"))
    assert answered_by(here) == answered_by(there) == "judge"
    assert answered_by(here.model_copy(update={"extra_body": {"reasoning_effort": "low"}})) != "judge"
