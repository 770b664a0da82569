"""Judges that need no language model, on episodes whose scores can be counted by hand."""

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tiller.evaluation.inputs import InputError
from tiller.evaluation.sotopia.agreement import agreement
from tiller.evaluation.sotopia.judge_settings import ClassifierConfig, SotopiaConfig
from tiller.evaluation.sotopia.judges.classifier import ClassifierJudge
from tiller.evaluation.sotopia.judges.fluency import FluencyJudge
from tiller.evaluation.sotopia.judges.judge import Judge
from tiller.evaluation.sotopia.judges.lexical import LexicalJudge
from tiller.evaluation.sotopia.judges.lexicon import Trait, read_lexicon
from tiller.evaluation.sotopia.judges.repetition import RepetitionJudge
from tiller.evaluation.sotopia.judges.sotopia import SotopiaJudge
from tiller.evaluation.sotopia.profiles import Scene
from tiller.evaluation.sotopia.prompts import agent_prompt

from .judged import make_record, swapped, values

JOY = Trait(positive=("glad", "thank you", "happ*"), negative=("sad",))


def judge(judge: Judge, record: Any) -> dict[Any, Any]:
    return values(asyncio.run(judge.judge(record)))


def test_repetition_counts(scene: Scene) -> None:
    record = make_record(
        scene, "one two one two", "Three four five.", "one two, one two!", ("action", "three FOUR five"), ("none", ""),
        ("leave", ""), cause="left",
    )  # fmt: skip
    found = judge(RepetitionJudge("repetition"), record)
    # Seat 0 said one two one two one two one two; its second line says the first one again.
    assert found[0, "distinct_1"] == 2 / 8
    assert found[0, "distinct_2"] == 2 / 7
    assert found[0, "distinct_3"] == 2 / 6
    assert found[0, "repeated_lines"] == 1 / 2
    assert found[0, "words_per_line"] == 4
    assert found[0, "turns"] == found[1, "turns"] == 3
    assert found[1, "repeated_lines"] == 1 / 2
    assert (found[0, "valid_share"], found[0, "cut_share"]) == (1, 0)
    stops = {metric: value for (seat, metric), value in found.items() if seat is None}
    assert stops == {"turns": 6, "stopped_left": 1, "stopped_max_turns": 0, "stopped_stale": 0}


def test_saying_what_the_other_said_is_a_repetition(scene: Scene) -> None:
    found = judge(RepetitionJudge("repetition"), make_record(scene, "one two three", "One, two, three"))
    assert (found[0, "repeated_lines"], found[1, "repeated_lines"]) == (0, 1)


def test_a_cut_action_is_valid_and_broken_json_is_not(scene: Scene) -> None:
    record = make_record(scene, "one two three", "four five six", "seven", "eight")
    cut = {"text": '{"action_type": "speak", "argument": "sev', "cut": True}
    broken = {"text": '{"action_type": "shout", "argument": "eight"}'}
    turns = [t.model_copy(update={2: cut, 3: broken}.get(t.index, {})) for t in record.turns]
    found = judge(RepetitionJudge("repetition"), record.model_copy(update={"turns": turns}))
    assert (found[0, "cut_share"], found[0, "valid_share"]) == (0.5, 1)
    assert (found[1, "cut_share"], found[1, "valid_share"]) == (0, 0.5)


def test_silence_is_missing_and_not_zero(scene: Scene) -> None:
    record = make_record(scene, ("none", ""), "Hello there my friend", ("leave", ""), cause="left")
    assert judge(RepetitionJudge("repetition"), record)[0, "distinct_2"] == "no_text"
    assert judge(LexicalJudge("lexical"), record)[0, "tone"] == "no_text"
    assert judge(LexicalJudge("lexical"), record)[1, "tone"] == 1.0  # friend is a warm word


def test_lexical_scores_of_the_demo(scene: Scene) -> None:
    record = make_record(
        scene, "Thank you, what a joy.", "I hate you, liar, my dear.", "Je suis ici pour le vélo.", "The bike is here."
    )
    found = judge(LexicalJudge("lexical"), record)
    assert found == {
        (0, "french"): 0.5, (0, "tone"): 1.0, (1, "french"): 0.0, (1, "tone"): pytest.approx((1 - 2) / 3),
    }  # fmt: skip


def test_lexicon_counts(scene: Scene) -> None:
    record = make_record(scene, "Thank  you! I am HAPPY, so happily sad.", "Gladly; the sadness of unhappy men.")
    found = judge(LexicalJudge("joy", {"joy": JOY}), record)
    assert found[0, "joy"] == (3 - 1) / (3 + 1)
    assert found[0, "joy_per_100_words"] == 100 * 2 / 8
    assert (found[1, "joy"], found[1, "joy_per_100_words"]) == (0, 0)  # whole words only


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "it has no trait"),
        ({"joy": {"positive": []}}, "joy.positive: "),
        ({"joy": {"positive": ["a"], "negativ": ["b"]}}, "joy.negativ: "),
        ({"joy": {"positive": ["Glad"], "negative": ["glad"]}}, "joy: Value error, on both sides: glad"),
        ({"joy": {"positive": ["*"]}}, "joy: Value error, '*' is no word"),
    ],
)
def test_a_wrong_lexicon_names_file_and_field(tmp_path: Path, body: Any, message: str) -> None:
    path = tmp_path / "words.json"
    path.write_text(json.dumps(body))
    with pytest.raises(InputError) as raised:
        read_lexicon(path)
    assert str(raised.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    "own", [RepetitionJudge("repetition"), LexicalJudge("lexical"), LexicalJudge("joy", {"joy": JOY})]
)
def test_swapping_agents_swaps_seats(scene: Scene, own: Judge) -> None:
    acts = ["I am glad, my dear.", "You liar, I hate it", "Je suis ici avec le vélo.", "sad", "I am glad, my dear."]
    found = judge(own, make_record(scene, *acts))
    mirrored = judge(own, make_record(swapped(scene), *acts, first=1))
    seats = {0: 1, 1: 0, None: None}
    assert mirrored == {(seats[seat], metric): value for (seat, metric), value in found.items()}


def test_permuting_episodes_permutes_scores(scene: Scene) -> None:
    records = [
        make_record(scene, "I am glad of it", "You liar", "one two three"[: 4 + 3 * i], seed=i) for i in range(4)
    ]
    for own in (RepetitionJudge("repetition"), LexicalJudge("lexical")):
        forwards = asyncio.run(own.judge_batch(records))
        assert asyncio.run(own.judge_batch(records[::-1])) == forwards[::-1]


def test_an_answer_to_a_prompt_has_one_seat() -> None:
    record = make_record(None, "Rome is a dear old city", cause="answered")
    found = judge(RepetitionJudge("repetition"), record)
    assert {seat for seat, _ in found} == {0}
    assert "valid_share" not in {metric for _, metric in found}
    assert judge(LexicalJudge("lexical"), record) == {(0, "french"): 0, (0, "tone"): 1}
    assert not SotopiaJudge("s", SotopiaConfig(), lambda: None, "m").applies(record)  # type: ignore[arg-type, return-value]


def test_failed_units_are_not_judged(scene: Scene) -> None:
    assert not RepetitionJudge("repetition").applies(make_record(scene, "Hello", cause="timeout"))


def test_agreement_of_repeats() -> None:
    # Texts' means 1, 5, 3; mean square within (2 + 0 + 2) / 3, between 2 * var(1, 5, 3) = 8.
    found = agreement(torch.tensor([[0.0, 2.0], [5.0, 5.0], [4.0, 2.0], [1.0, math.nan]]).numpy())
    assert found is not None
    within = (2 + 0 + 2) / 3
    assert found == pytest.approx((3, 1 / 3, within**0.5, (8 - within) / (8 + within)))
    assert agreement(torch.ones(1, 2).numpy()) is None


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of two layers that tells three labels apart by the words w0 to w49."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    labels = {0: "calm", 1: "angry", 2: "glad"}
    config = BertConfig(
        vocab_size=52, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16, initializer_range=1.0, id2label=labels, label2id={v: k for k, v in labels.items()},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    vocabulary = {"[PAD]": 0, "[UNK]": 1} | {f"w{i}": i + 2 for i in range(50)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", model_max_length=16
    )
    fast.save_pretrained(folder)
    return folder


def make_classifier(folder: Path, *labels: str) -> ClassifierJudge:
    return ClassifierJudge("mood", ClassifierConfig(model=str(folder), labels=labels), str(folder), "content")


def test_classifier_is_the_mean_over_lines(scene: Scene, classifier: Path) -> None:
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(classifier).eval()

    def alone(*ids: int) -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=torch.tensor([[i + 2 for i in ids]])).logits[0].softmax(-1)

    record = make_record(scene, "w1 w2 w3 w4 w5", "w7", "w9")
    found = judge(make_classifier(classifier), record)
    first, second = (alone(1, 2, 3, 4, 5) + alone(9)) / 2, alone(7)
    assert [found[0, label] for label in ("calm", "angry", "glad")] == pytest.approx(first.tolist(), abs=1e-6)
    assert [found[1, label] for label in ("calm", "angry", "glad")] == pytest.approx(second.tolist(), abs=1e-6)
    only = judge(make_classifier(classifier, "glad"), record)
    assert only == {(seat, "glad"): found[seat, "glad"] for seat in (0, 1)}


def test_classifier_says_what_it_cannot_do(scene: Scene, classifier: Path, tmp_path: Path) -> None:
    record = make_record(scene, "w1 " * 17, "w7")
    found = judge(make_classifier(classifier, "glad"), record)
    assert found[0, "glad"] == "too_long" and isinstance(found[1, "glad"], float)
    with pytest.raises(InputError, match="judges.mood.labels: no label 'sad'; the model has: calm, angry, glad"):
        judge(make_classifier(classifier, "sad"), record)
    with pytest.raises(InputError, match="judges.mood.model"):
        judge(make_classifier(tmp_path / "none"), record)


def test_fluency_is_the_models_own_log_probability(demo_llm: Any, scene: Scene) -> None:
    """Against Hugging Face's forward of the same weights."""
    from transformers import AutoModelForCausalLM

    argument = 'Hello Mina, how "much" is it?'
    record = make_record(scene, "I sell it.", argument, ("leave", ""), cause="left", template="compact")
    tokenizer = demo_llm.get_tokenizer()
    prompt = tokenizer.apply_chat_template(
        agent_prompt(record.unit.protocol, scene, 1, record.turns[:1]), tokenize=False, add_generation_prompt=True
    )
    text = record.turns[1].text
    head, said = text[: text.index("Hello")], text[text.index("Hello") : -2]
    ids = [*tokenizer(prompt, add_special_tokens=False)["input_ids"], *tokenizer(text)["input_ids"]]
    model = AutoModelForCausalLM.from_pretrained(demo_llm.config.resolve(demo_llm.config.model)).float().eval()
    with torch.no_grad():
        logprobs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    # The tokens that spell the argument: those of the answer beyond its head, up to the closing quote.
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    spans = range(len(ids) - len(offsets), len(ids))
    own = [i for i, (low, high) in zip(spans, offsets, strict=True) if high > len(head) and low < len(head + said)]
    mean = sum(float(logprobs[i - 1, ids[i]]) for i in own) / len(own)
    fluency = FluencyJudge("fluency", lambda: demo_llm, "demo")
    found = judge(fluency, record)
    assert found[1, "mean_logprob"] == pytest.approx(mean, abs=1e-3)

    plain, shuffled = "Hi Mina, do you have a minute?", "minute? a have you do Mina, Hi"
    natural, nonsense = (
        make_record(scene, "Hello Leo.", line, template="compact", seed=i) for i, line in enumerate([plain, shuffled])
    )
    silent = make_record(scene, ("none", ""), ("none", ""), cause="stale", template="compact")
    batch = asyncio.run(fluency.judge_batch([silent, nonsense, record, natural]))
    assert values(batch[2])[1, "mean_logprob"] == pytest.approx(mean, abs=1e-3)
    assert values(batch[1])[1, "mean_logprob"] < values(batch[3])[1, "mean_logprob"] - 1
    assert values(batch[0]) == {(0, "mean_logprob"): "no_text", (1, "mean_logprob"): "no_text"}
    endless = make_record(scene, "bike " * 1100, "Fine.", template="compact")
    found = judge(fluency, endless)
    assert (found[0, "mean_logprob"], found[1, "mean_logprob"]) == ("too_long", "too_long")
