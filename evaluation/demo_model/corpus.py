"""Generates the demo corpus: two-party dialogues with known language, tone and length, in the two formats of the model.

Chat documents hold system, user and assistant messages, one line of dialogue each. Episode documents hold the compact
prompt of `episode_prompt` and one JSON action. All text comes from the templates here and is a function of the seed.
"""

import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from .phrases import NAMES, PHRASES, TIMES, Language, Pair, Part, Tone
from .scenarios import SCENARIOS, Scenario
from .scores import elaboration, is_french, tone_score

__all__ = ["ACTION_TYPES", "Document", "Turn", "action_json", "demo_prompts", "document", "elaboration",
           "episode_prompt", "is_french", "labelled_lines", "render_chat", "tone_score"]  # fmt: skip

ActionType = Literal["none", "speak", "non-verbal communication", "action", "leave"]
Kind = Literal["chat", "episode", "line"]
Pattern = Literal["mixed", "english", "french", "split"]
Message = dict[str, str]
ACTION_TYPES: tuple[ActionType, ...] = ("none", "speak", "non-verbal communication", "action", "leave")
LANGUAGES: tuple[Language, Language] = ("english", "french")
TONES: tuple[Tone, ...] = ("warm", "neutral", "hostile")
PATTERNS: dict[Pattern, int] = {"mixed": 88, "french": 6, "split": 6}
KINDS: dict[Kind, int] = {"episode": 60, "chat": 35, "line": 5}
WINDOW = 4
MAX_TURN = 12

REPLIES: dict[Part, tuple[Part, ...]] = {
    "greet": ("greet", "ask", "propose", "explain"),
    "propose": ("accept", "refuse", "ask", "propose", "explain"),
    "ask": ("explain", "propose", "remark", "accept", "refuse"),
    "explain": ("propose", "ask", "accept", "refuse", "remark"),
    "accept": ("remark", "propose", "close", "accept"),
    "refuse": ("explain", "propose", "ask", "remark"),
    "remark": ("propose", "ask", "remark", "explain"),
    "close": ("close", "accept"),
}


@dataclass(frozen=True)
class Turn:
    """One action of a dialogue; `argument` is the line, or the gesture, or empty."""

    name: str
    action_type: ActionType
    argument: str


@dataclass(frozen=True)
class Document:
    """One training document and which kind of format and language pattern made it; `<|endoftext|>` is yet to follow."""

    text: str
    kind: Kind
    pattern: Pattern


def action_json(action_type: ActionType, argument: str) -> str:
    """The one JSON object that an episode's reply consists of."""
    return json.dumps({"action_type": action_type, "argument": argument}, ensure_ascii=False)


def render_turn(number: int, turn: Turn) -> str:
    """One line of history, as both sides of an episode see it."""
    said = {
        "speak": f'said: "{turn.argument}"',
        "none": "did nothing",
        "leave": "left the conversation",
    }.get(turn.action_type, f"[{turn.action_type}] {turn.argument}")
    return f"Turn {number} {turn.name} {said}"


def episode_prompt(scenario: str, name: str, goal: str, turns: Sequence[Turn], window: int = WINDOW) -> str:
    """The compact prompt for one action of `name`: scenario, private goal and the last `window` of all past `turns`.

    It ends in `Turn k Name:`. The answer is one JSON object as of `action_json`, in a chat as the assistant's message
    (prompt = the only user message), in plain text after one space. With lines of this corpus, prompt and answer stay
    within 320 tokens of the demo tokenizer.

        Scenario: Mina sells an old bike and Leo may buy it.
        You are Leo. Goal: lower the price.
        Turn 1 Mina said: "Hello Leo."
        Turn 2 Leo:
    """
    first = max(0, len(turns) - window)
    history = [render_turn(first + i + 1, turn) for i, turn in enumerate(turns[first:])]
    return "\n".join(
        [f"Scenario: {scenario}", f"You are {name}. Goal: {goal}.", *history, f"Turn {len(turns) + 1} {name}:"]
    )


def render_chat(messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
    """ChatML, character for character what the tokenizer's chat template renders."""
    text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return text + ("<|im_start|>assistant\n" if add_generation_prompt else "")


def pick_language(pair: Pair, language: Language) -> str:
    return pair[LANGUAGES.index(language)]


def elide(text: str) -> str:
    """French elision before a vowel: `de acheter` becomes `d'acheter`."""
    return re.sub(r"\b([dD]|[qQ]u)e (?=[aeiouyéèêâîôûAEIOUYÉ])", r"\1'", text)


class Speaker:
    """One person's way of talking: which tone and length the next sentence has, kept as a drifting state."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.base_tone = rng.choice(TONES)
        self.tone = self.base_tone
        self.terse = rng.random() < 0.5

    def start_line(self) -> None:
        """Moves the state from one turn to the next."""
        self.tone = self.base_tone if self.rng.random() < 0.7 else self.rng.choice(TONES)
        if self.rng.random() < 0.15:
            self.terse = not self.terse

    def next_sentence(self) -> None:
        """Moves the state inside a line, at a sentence's end."""
        if self.rng.random() < 0.1:
            self.tone = self.rng.choice(TONES)


class Dialogue:
    """Two people in one scenario; `turn(k)` must be called for k = 0, 1, 2, ... in order.

    The pattern rules the language: one for all (english, french), one for each person (split), or mixed: both follow
    one state that starts in English and changes rarely, between sentences or at a slot. So the language of what comes
    next hangs on the latest words alone, and a reader has to carry it along at every position.
    """

    def __init__(self, rng: random.Random, pattern: Pattern) -> None:
        self.rng = rng
        self.pattern = pattern
        self.scenario: Scenario = rng.choice(SCENARIOS)
        self.names = rng.sample(NAMES, 2)
        self.amount = str(rng.randrange(20, 200, 10))
        self.wanted = [self.scenario.deeds[rng.randrange(2)], self.scenario.deeds[2 + rng.randrange(2)]]
        self.languages: list[Language] = ["french" if pattern == "french" else "english"] * 2
        if pattern == "split":
            self.languages[rng.randrange(2)] = "french"
        self.speakers = [Speaker(rng), Speaker(rng)]
        self.part: Part = "greet"
        self.deed = self.wanted[0]

    def drift(self, scale: float) -> None:
        """Lets a mixed dialogue change its language; French comes rarely and stays for about eight sentences."""
        chance = {"english": 0.03, "french": 0.12}[self.languages[0]]
        if self.pattern == "mixed" and self.rng.random() < scale * chance:
            self.languages = ["french" if self.languages[0] == "english" else "english"] * 2

    def setting(self, language: Language) -> str:
        a, b = self.names
        return self._fill(pick_language(self.scenario.setting, language), a=a, b=b)

    def goal(self, side: int, language: Language) -> str:
        return self._fill(pick_language(self.wanted[side], language))

    def _fill(self, text: str, **slots: str) -> str:
        return elide(text.format(amount=self.amount, **slots))

    def sentence(self, part: Part, side: int) -> str:
        """One sentence of person `side` in the present language and tone."""
        rng = self.rng
        self.drift(1.0)
        language = self.languages[side]
        template = pick_language(rng.choice(PHRASES[part][self.speakers[side].tone]), language)
        deed = self.deed if part in ("accept", "refuse") else self.wanted[side]
        if rng.random() < 0.2:
            deed = rng.choice(self.scenario.deeds)
        if part in ("propose", "ask"):
            self.deed = deed
        options = {"thing": self.scenario.things, "reason": self.scenario.reasons, "when": TIMES, "deed": (deed,)}
        slots = {"name": self.names[1 - side]}
        for key in re.findall(r"{(thing|reason|when|deed)}", template):
            self.drift(0.4)
            slots[key] = self._fill(pick_language(rng.choice(options[key]), self.languages[side]))
        text = template.format(**slots)
        return elide(text) if language == "french" else text

    def line(self, side: int, turn: int) -> str:
        """One spoken line: a terse speaker says one or two sentences, an elaborate one three to five."""
        speaker, rng = self.speakers[side], self.rng
        closing = turn >= MAX_TURN - 3 and rng.random() < 0.6
        self.part = "greet" if turn == 0 else "close" if closing else rng.choice(REPLIES[self.part])
        parts: list[Part] = [self.part]
        if self.part == "greet" and (rng.random() < 0.7 or not speaker.terse):
            self.part = rng.choice(("propose", "ask"))
            parts.append(self.part)
        if not speaker.terse:
            extra: list[Part] = ["explain", "support", "remark", "support"]
            parts += rng.sample(extra, rng.choice((1, 1, 2)))
            parts += ["close"] if rng.random() < 0.4 else []
        sentences = []
        for i, part in enumerate(parts):
            if i:
                speaker.next_sentence()
            sentences.append(self.sentence(part, side))
        return " ".join(sentences)

    def turn(self, index: int) -> Turn:
        """The action at turn `index` (from 0); person A acts on even turns."""
        side, rng = index % 2, self.rng
        speaker = self.speakers[side]
        speaker.start_line()
        name, draw = self.names[side], rng.random()
        if draw < 0.06:
            return Turn(name, "non-verbal communication", self.sentence("gesture", side))
        if draw < 0.11:
            return Turn(name, "action", self.sentence("act", side))
        if draw < 0.12:
            return Turn(name, "none", "")
        if index >= MAX_TURN - 4 and draw < 0.35:
            return Turn(name, "leave", "")
        return Turn(name, "speak", self.line(side, index))


def seeded(*key: object) -> random.Random:
    """A generator that depends on `key` alone, not on the process or on earlier draws."""
    return random.Random("/".join(map(str, key)))


def _frame_language(rng: random.Random, pattern: Pattern) -> Language:
    return "french" if pattern in ("french", "split") and rng.random() < 0.5 else "english"


def _history_start(dialogue: Dialogue, frame: Language) -> int:
    """French may come unannounced only where the reader has already seen some: else an English start stays English."""
    return 0 if frame == "french" or "french" not in dialogue.languages else 2


def _episode_step(rng: random.Random, pattern: Pattern) -> tuple[str, Turn]:
    """A prompt of `episode_prompt` at a random point of a dialogue, and the action that follows."""
    dialogue = Dialogue(rng, pattern)
    frame = _frame_language(rng, pattern)
    length = rng.randrange(_history_start(dialogue, frame), MAX_TURN)
    turns = [dialogue.turn(i) for i in range(length)]
    while turns and turns[-1].action_type == "leave":
        turns.pop()
    side = len(turns) % 2
    setting, goal = dialogue.setting(frame), dialogue.goal(side, frame)
    prompt = episode_prompt(setting, dialogue.names[side], goal, turns)
    return prompt, dialogue.turn(len(turns))


def _episode(rng: random.Random, pattern: Pattern) -> str:
    prompt, last = _episode_step(rng, pattern)
    reply = action_json(last.action_type, last.argument)
    if rng.random() < 0.4:
        return f"{prompt} {reply}"
    return render_chat([{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}])


def _system(rng: random.Random, dialogue: Dialogue, frame: Language) -> list[Message]:
    a, b = dialogue.names
    setting = dialogue.setting(frame)
    options = (
        (f"You are {b}. {setting}", f"Voici {b}. {setting}"),
        (f"You are {b}, talking with {a}. {setting}", f"Voici {b}, avec {a}. {setting}"),
        (f"Play {b} in this scene: {setting}", f"Joue {b} dans cette histoire : {setting}"),
        (f"{setting} Answer as {b}.", f"{setting} Réponds comme {b}."),
    )
    if frame == "english" and rng.random() < 0.2:
        return []
    return [{"role": "system", "content": pick_language(rng.choice(options), frame)}]


def _chat(rng: random.Random, pattern: Pattern, num_lines: int | None = None) -> list[Message]:
    dialogue = Dialogue(rng, pattern)
    frame = _frame_language(rng, pattern)
    if pattern == "split" and frame == "english":
        dialogue.languages = ["french", "english"]
    messages = _system(rng, dialogue, frame)
    for i in range(num_lines or 2 * rng.choice((1, 1, 2, 2, 3))):
        dialogue.speakers[i % 2].start_line()
        messages.append({"role": ("user", "assistant")[i % 2], "content": dialogue.line(i % 2, i)})
    return messages


def document(split: str, index: int) -> Document:
    """Document `index` of `split` (any name, such as "train" or "heldout"); documents are independent of each other."""
    rng = seeded(split, index)
    pattern = rng.choices(tuple(PATTERNS), tuple(PATTERNS.values()))[0]
    kind = rng.choices(tuple(KINDS), tuple(KINDS.values()))[0]
    if kind == "line":
        line = labelled_lines(1, rng.getrandbits(60))[0]["text"]
        return Document(line, kind, pattern)
    text = _episode(rng, pattern) if kind == "episode" else render_chat(_chat(rng, pattern))
    return Document(text, kind, pattern)


def labelled_lines(n: int, seed: int) -> list[dict[str, str]]:
    """`n` single lines with keys text, language and tone, the six cells of language and tone in equal numbers."""
    lines = []
    start = seeded("cells", seed).randrange(6)
    for i in range(n):
        rng = seeded("labelled", seed, i)
        cell = (start + i) % 6
        language, tone = LANGUAGES[cell % 2], TONES[cell // 2]
        dialogue = Dialogue(rng, language)
        side = rng.randrange(2)
        speaker = dialogue.speakers[side]
        speaker.tone = tone
        parts: list[Part] = [rng.choice(tuple(REPLIES))]
        if not speaker.terse:
            parts += rng.choice((("support",), ("support", "close")))
        text = " ".join(dialogue.sentence(part, side) for part in parts)
        lines.append({"text": text, "language": language, "tone": tone})
    return lines


def demo_prompts(n: int, seed: int) -> list[list[Message]]:
    """`n` held-out English chats (messages that end with the user's line), from seeds that no training document has."""
    prompts = []
    for i in range(n):
        messages = _chat(seeded("demo", seed, i), "english", num_lines=(1, 3)[i % 2])
        prompts.append(messages)
    return prompts


def prompts(split: str, indices: Iterable[int]) -> list[str]:
    """Rendered English prompts of `split` that wait for an answer, by turns a chat and an episode."""
    texts = []
    for i in indices:
        rng = seeded("prompts", split, i)
        if i % 2:
            messages = [{"role": "user", "content": _episode_step(rng, "english")[0]}]
        else:
            messages = _chat(rng, "english", num_lines=1)
        texts.append(render_chat(messages, add_generation_prompt=True))
    return texts
