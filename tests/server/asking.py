"""What the tests of the server ask, and how."""

from typing import Any

import openai

QUESTION = [{"role": "user", "content": "Would you take forty dollars for the old bicycle?"}]
FRENCH = {
    "features": [{"id": 63, "value": 26.8899}, {"id": 81, "value": 18.9983}, {"id": 116, "value": 17.8395}],
    "skip_first": 1,
}
FIXED = {"features": [{"id": 338, "op": "set", "value": 40.0}]}
READ_ALL = {"read": {"features": [63, 338], "top": 2, "reduce": "none"}}


def chat(client: openai.OpenAI, steering: Any = None, **arguments: Any) -> Any:
    """A greedy chat completion of the demo model; `steering` goes in as the extra field."""
    extra = arguments.pop("extra_body", {}) if steering is None else {"steering": steering}
    asked = {"model": "demo", "messages": QUESTION, "max_tokens": 24, "temperature": 0, **arguments}
    return client.chat.completions.create(**asked, extra_body=extra)


def text(answer: Any) -> str:
    return answer.choices[0].message.content


def check_sums(receipt: Any) -> None:
    assert receipt["tokens_in_scope"] == receipt["tokens_steered"] + receipt["tokens_cached"] > 0
