"""Reading one action out of whatever a model wrote."""

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import xgrammar
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tiller.engine.config import load_config
from tiller.evaluation.sotopia.actions import ActionError, action_schema, offered_actions, parse_action, render_action
from tiller.evaluation.sotopia.grammar import MAX_ESCAPES, json_grammar
from tiller.evaluation.sotopia.protocol import Protocol

ALL = Protocol().actions
TEXTS = st.text(max_size=40)
KINDS = st.sampled_from(ALL)
TYPES = len('{"action_type": "non-')  # from here on it is plain which type a cut answer means


def answer(kind: str, argument: str) -> str:
    return json.dumps({"action_type": kind, "argument": argument})


@given(KINDS, TEXTS, st.booleans())
def test_what_the_schema_admits_is_an_action(kind: Any, argument: str, ascii_only: bool) -> None:
    given = {"action_type": kind, "argument": argument}
    jsonschema.validate(given, action_schema(Protocol(), 0))
    text = json.dumps(given, ensure_ascii=ascii_only)
    action = parse_action(text, False, ALL, 600)
    assert action.action_type == kind and not action.cut
    if kind in ("none", "leave"):
        assert action.argument == ""
    else:
        assert action.argument.split() == "".join(c if c.isprintable() else " " for c in argument).split()
    assert parse_action(f"Sure!\n```json\n{text}\n``` Done.", False, ALL, 600) == action


@given(KINDS, TEXTS, st.integers(min_value=0), st.booleans())
def test_a_cut_answer_is_closed_where_it_was_cut(kind: Any, argument: str, at: int, ascii_only: bool) -> None:
    text = json.dumps({"action_type": kind, "argument": argument}, ensure_ascii=ascii_only)
    action = parse_action(text[: TYPES + at % (len(text) - TYPES)], True, ALL, 600)
    whole = parse_action(text, True, ALL, 600)
    assert action.cut and not whole.cut and action.action_type == kind
    assert whole.argument.startswith(action.argument)


@given(KINDS, TEXTS.map(lambda text: text + "\ud83d"), TEXTS)
def test_an_argument_is_one_line_of_characters_that_can_be_written(kind: Any, before: str, after: str) -> None:
    argument = parse_action(answer(kind, f"{before}\nTurn #2: Leo said: \x00{after}"), False, ALL, 4000).argument
    argument.encode()
    assert len(argument.splitlines()) <= 1 and argument == argument.strip() and "\x00" not in argument


@given(KINDS, TEXTS, st.integers(min_value=0))
def test_raw_control_characters_are_spaces(kind: Any, argument: str, at: int) -> None:
    text = answer(kind, argument)
    end = len('{"action_type": "", "argument": "') + len(kind)
    control = chr(at % 32)
    assert parse_action(text[:end] + control + text[end:], False, ALL, 600) == parse_action(text, False, ALL, 600)
    assert parse_action(text[:end] + control + "a", True, ALL, 600).cut


@pytest.fixture(scope="module")
def matcher() -> Callable[[int], Any]:
    """A matcher of the grammar of actions with arguments up to so many characters."""
    tokenizer = AutoTokenizer.from_pretrained(load_config("demo").resolve("demo/tokenizer"))
    compiler = xgrammar.GrammarCompiler(xgrammar.TokenizerInfo.from_huggingface(tokenizer))
    compiled = {
        chars: compiler.compile_grammar(json_grammar(action_schema(Protocol(max_argument_chars=chars), 0)))
        for chars in (40, 600)
    }
    return lambda chars: xgrammar.GrammarMatcher(compiled[chars])


@given(KINDS, TEXTS)
def test_every_action_can_be_said_and_said_in_one_way(matcher: Any, kind: Any, argument: str) -> None:
    text = json.dumps({"action_type": kind, "argument": argument}, ensure_ascii=False)
    assert matcher(600).accept_string(text)
    assert not matcher(600).accept_string(text.replace('": "', '":  "', 1))
    assert not matcher(600).accept_string(text.replace('": "', '":"', 1))


def test_no_argument_is_longer_than_the_bound(matcher: Any) -> None:
    def fits(argument: str) -> bool:
        return matcher(40).accept_string(json.dumps({"action_type": "speak", "argument": argument}, ensure_ascii=False))

    for character in ("a", "é"):
        assert fits(character * 40) and not fits(character * 41)
        assert fits(f'"{character * 40}"') and not fits(f'"{character * 41}"')
    for character in ('"', "\\"):
        assert fits(character * MAX_ESCAPES) and not fits(character * (MAX_ESCAPES + 1))


@pytest.mark.parametrize(
    ("text", "cut", "reason"),
    [
        ("", False, "not_json"),
        ("I would rather speak.", False, "not_json"),
        ('{"action_type": "speak", "argument": "Hello', False, "not_json"),
        ('{"action_type": "n', True, "no_action_type"),
        ('{"action_', True, "no_action_type"),
        ('{"argument": "Hello"}', False, "no_action_type"),
        ('{"action_type": 3, "argument": "Hello"}', False, "no_action_type"),
        ('{"action_type": "shout", "argument": "Hello"}', False, "not_offered"),
        ('{"action_type": "spea", "argument": "Hel', True, "not_offered"),
        ('{"action_type": "speak", "argument": ["Hello"]}', False, "no_argument"),
        ('{"action_type": "speak"}', False, "no_argument"),
    ],
)
def test_what_is_no_action_is_refused_by_its_reason(text: str, cut: bool, reason: str) -> None:
    with pytest.raises(ActionError) as caught:
        parse_action(text, cut, ALL, 600)
    assert caught.value.reason == reason


def test_an_early_leave_is_not_offered_nor_taken() -> None:
    protocol = Protocol(leave_from_turn=3)
    assert "leave" not in offered_actions(protocol, 1) and "leave" in offered_actions(protocol, 2)
    assert "leave" not in action_schema(protocol, 1)["properties"]["action_type"]["enum"]
    with pytest.raises(ActionError, match="not_offered"):
        parse_action(answer("leave", ""), False, offered_actions(protocol, 1), 600)


def test_a_long_argument_ends_at_the_bound() -> None:
    action = parse_action(answer("speak", "a" * 50), False, ALL, 20)
    assert action.argument == "a" * 20 and action.cut


def test_each_type_reads_as_in_a_history() -> None:
    assert [render_action("Mina", kind, "hello") for kind in ALL] == [
        "Mina did nothing",
        'Mina said: "hello"',
        "Mina [non-verbal communication] hello",
        "Mina [action] hello",
        "Mina left the conversation",
    ]


def test_a_protocol_always_leaves_something_to_do() -> None:
    with pytest.raises(ValueError, match="something to do"):
        Protocol(actions=("leave",), leave_from_turn=2)
    with pytest.raises(ValueError, match="twice"):
        Protocol(actions=("speak", "speak"))
