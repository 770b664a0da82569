"""The demo corpus, its scorers, and the shipped model and dictionary against their recorded numbers."""

import json
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiller.evaluation.demo_model import corpus, report
from tiller.evaluation.demo_model.phrases import PHRASES, TONE_WORDS
from tiller.evaluation.demo_model.readme import render_readme
from tiller.evaluation.demo_model.residual import collect_residuals, sample
from tiller.evaluation.demo_model.scenarios import SCENARIOS
from tiller.evaluation.demo_model.scores import words
from tiller.evaluation.demo_model.train_lm import DocumentStream, LMConfig, held_out_rows, mean_loss, train_lm
from tiller.evaluation.demo_model.train_sae import load_sae

DEMO = Path(str(files("tiller.configs"))) / "demo"
SAE = DEMO / "sae" / "resid_post_layer_15" / "trainer_0"


@pytest.fixture(scope="module")
def metrics():
    return json.loads((DEMO / "metrics.json").read_text())


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(DEMO / "tokenizer")


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(DEMO / "model").eval()


def test_documents_depend_on_split_and_index_alone():
    first = [corpus.document("train", i) for i in range(50)]
    assert [corpus.document("train", i) for i in reversed(range(50))] == first[::-1]
    assert not {d.text for d in first} & {corpus.document("heldout", i).text for i in range(500)}


def test_labelled_lines_fill_every_cell_equally_and_vary():
    lines = corpus.labelled_lines(600, seed=3)
    assert set(Counter((line["language"], line["tone"]) for line in lines).values()) == {100}
    assert len({line["text"] for line in lines}) > 500
    assert lines == corpus.labelled_lines(600, seed=3) != corpus.labelled_lines(600, seed=4)


def test_scorers_agree_with_the_labels_of_generated_lines():
    sign = {"warm": 1.0, "neutral": 0.0, "hostile": -1.0}
    for line in corpus.labelled_lines(1200, seed=5):
        assert corpus.is_french(line["text"]) == (line["language"] == "french"), line
        assert corpus.tone_score(line["text"]) == sign[line["tone"]], line


@pytest.mark.parametrize("tone", ["warm", "neutral", "hostile"])
def test_every_sentence_carries_the_words_of_its_own_tone_only(tone):
    sentences = [words(text) for part in PHRASES.values() for pair in part[tone] for text in pair]
    for sentence in sentences:
        marked = {t for t in ("warm", "hostile") if TONE_WORDS[t] & set(sentence)}
        assert marked == ({tone} - {"neutral"}), sentence


@pytest.mark.parametrize(
    ("text", "french"),
    [
        ("Je ne sais pas quoi te dire ce soir.", True),
        ("Merci beaucoup !", True),
        ("C'est la vie, my friend, et tu le sais.", True),
        ("le le le vélo avec avec", True),
        ("Il faut vendre la voiture {when", True),
        ("I do not know what to tell you tonight.", False),
        ("Thanks a lot!", False),
        ("My friend Hugo is at the cafe with a menu.", False),
        ("the the bike with with", False),
        ("", False),
        ("12 !?", False),
    ],
)
def test_is_french_on_handwritten_lines(text, french):
    assert corpus.is_french(text) is french


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Thank you my dear, what a pleasure!", 1.0),
        ("Merci, c'est un plaisir.", 1.0),
        ("Shut up, you pathetic liar.", -1.0),
        ("Tais-toi, quelle honte.", -1.0),
        ("Thank you, idiot.", 0.0),
        ("We could meet tomorrow.", 0.0),
        ("", 0.0),
    ],
)
def test_tone_score_on_handwritten_lines(text, score):
    assert corpus.tone_score(text) == score


def test_elaboration_grows_with_length_within_its_range():
    scores = [corpus.elaboration(" ".join(["word"] * n)) for n in (0, 5, 12, 30, 90)]
    assert scores == [0.0, 0.0, pytest.approx(0.28), 1.0, 1.0]


def test_episode_prompt_shows_a_window_of_numbered_turns():
    turns = [corpus.Turn(("Mina", "Leo")[i % 2], "speak", f"line {i}") for i in range(6)]
    prompt = corpus.episode_prompt(
        "A scene.", "Mina", "lower the price", [*turns[:5], corpus.Turn("Leo", "none", "")], 2
    )
    assert prompt.splitlines() == [
        "Scenario: A scene.",
        "You are Mina. Goal: lower the price.",
        'Turn 5 Mina said: "line 4"',
        "Turn 6 Leo did nothing",
        "Turn 7 Mina:",
    ]


def test_demo_prompts_are_english_chats_that_end_with_the_user():
    chats = corpus.demo_prompts(64, seed=0)
    assert all(chat[-1]["role"] == "user" for chat in chats)
    assert not any(corpus.is_french(message["content"]) for chat in chats for message in chat)
    assert len({json.dumps(chat) for chat in chats}) == 64


def test_chat_template_equals_the_training_rendering(tokenizer):
    for chat in corpus.demo_prompts(8, seed=0):
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert text == corpus.render_chat(chat, add_generation_prompt=True)


def test_documents_fit_the_context_and_survive_the_tokenizer(tokenizer):
    for i in range(400):
        text = corpus.document("heldout", i).text
        ids = tokenizer(text)["input_ids"]
        assert len(ids) <= 320
        assert tokenizer.decode(ids) == text


def test_shipped_config_is_a_deep_enough_qwen2(model):
    assert type(model).__name__ == "Qwen2ForCausalLM"
    assert model.config.architectures == ["Qwen2ForCausalLM"]
    assert model.config.num_hidden_layers > 16 and model.config.max_position_embeddings >= 1024
    assert model.dtype == torch.float32


def test_shipped_files_stay_below_ten_megabytes():
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) < 10e6


def test_readme_shows_the_recorded_numbers(metrics):
    assert (DEMO / "README.md").read_text() == render_readme(metrics, len(SCENARIOS))


def test_held_out_loss_is_the_recorded_one(model, tokenizer, metrics):
    rows = held_out_rows(tokenizer, metrics["lm"]["sample_rows"])
    assert mean_loss(model, rows) == pytest.approx(metrics["lm"]["sample_loss"], rel=0.02)


def test_dictionary_explains_as_much_variance_as_recorded(model, tokenizer, metrics):
    x = collect_residuals(model, tokenizer, [corpus.document("heldout", i).text for i in range(40)])
    x = x[: metrics["sae"]["sample_tokens"]]
    assert len(x) == metrics["sae"]["sample_tokens"]
    assert report.variance_explained(load_sae(SAE), x) > metrics["sae"]["sample_variance_explained"] - 0.01


def test_greedy_answer_to_an_episode_prompt_is_one_action(model, tokenizer):
    turns = [corpus.Turn("Mina", "speak", "Hello Leo. We could agree on 80 euros tomorrow.")]
    prompt = corpus.episode_prompt("Mina sells an old bike and Leo may buy it.", "Leo", "lower the price", turns)
    chat = corpus.render_chat([{"role": "user", "content": prompt}], add_generation_prompt=True)
    for reply in sample(model, tokenizer, [chat], max_new_tokens=80, temperature=0.0):
        action = json.loads(reply)
        assert set(action) == {"action_type", "argument"} and action["action_type"] in corpus.ACTION_TYPES


def test_recorded_feature_turns_replies_french(model, tokenizer, metrics):
    bench = report.Bench(model, tokenizer, load_sae(SAE), metrics["sae"]["residual_norm"], frozenset())
    best = metrics["steering"]["french"]["single"]
    strength = next(point["strength"] for point in best["points"] if point["french"] >= 0.95)
    asked = corpus.prompts("heldout", range(100, 112))
    edits = {int(feature): weight for feature, weight in best["edits"].items()}
    plain, steered = (report.steering_point(bench, edits, s, asked)["french"] for s in (0.0, strength))
    assert plain <= 0.1 and steered >= 0.8


class InterruptedTokenizer:
    """The tokenizer until its `calls`-th document, then the Ctrl-C of an impatient user."""

    def __init__(self, tokenizer, calls):
        self.tokenizer, self.calls = tokenizer, calls

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)

    def __len__(self):
        return len(self.tokenizer)

    def __call__(self, text):
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        return self.tokenizer(text)


def test_interrupted_training_resumes_to_the_same_weights(tokenizer, tmp_path):
    config = LMConfig(num_steps=5, num_rows=1, seq_len=64, noise_from=1, seconds_per_checkpoint=0.0)
    whole, _ = train_lm(tokenizer, _folder(tmp_path / "whole"), config)
    halves = _folder(tmp_path / "halves")
    with pytest.raises(KeyboardInterrupt):
        train_lm(InterruptedTokenizer(tokenizer, calls=3), halves, config)
    assert 0 < torch.load(halves / "lm_checkpoint.pt")["state"]["step"] < 5
    resumed, state = train_lm(tokenizer, halves, config)
    assert state["step"] == 5
    torch.testing.assert_close(dict(resumed.named_parameters()), dict(whole.named_parameters()), rtol=0, atol=0)


def test_every_row_begins_with_a_document(tokenizer):
    stream = DocumentStream(tokenizer, "train")
    rows = stream.batch(2, 300)
    assert rows.shape == (2, 300) and tokenizer.decode(rows[0]).startswith(corpus.document("train", 0).text)


def _folder(path):
    path.mkdir()
    return path
