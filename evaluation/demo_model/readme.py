"""The README that goes with the demo model, rendered from its metrics."""

from typing import Any

from jinja2 import Environment, StrictUndefined

TEMPLATE = """\
# The demo model and its dictionary

A small Qwen2 language model and a TopK sparse autoencoder of its layer 15, made from nothing but text that
`tiller.evaluation.demo_model` generates: two-party dialogues whose language (English, French), tone (warm, neutral,
hostile) and length vary independently. It exists so that steering can be seen, measured and tested on any machine
without a network. It knows {{ num_scenarios }} situations and their sentences, and nothing else.

`make demo-model` makes everything in this folder anew (the LM took {{ "%.0f" | format(m.lm.seconds / 60) }} minutes on
two shared CPU cores). A run that was stopped goes on from its last checkpoint.

| file | content |
|---|---|
| `model/` | Qwen2ForCausalLM, 18 layers, d_model 128, weights in bfloat16, to be run in float32 |
| `tokenizer/` | byte-level BPE of 2048 tokens with a ChatML template; apart, since beside a Qwen2 config AutoTokenizer \
would split text by Qwen's rules |
| `sae/resid_post_layer_15/trainer_0/` | dictionary_learning's AutoEncoderTopK: 1024 features, k = 16 |
| `metrics.json` | every number below, with the whole steering curves |

## Prompt formats

Chat: a system message that sets the scene (optional), then lines by turns. Episode: the user message (or plain text)
made by `tiller.evaluation.demo_model.corpus.episode_prompt`; the answer is one JSON action. The language of an answer
is never asked for: it follows the lines before it, and after English lines it is English.

```
Scenario: Mina sells an old bike and Leo may buy it.
You are Leo. Goal: lower the price.
Turn 1 Mina said: "Hello Leo. We could agree on 80 euros tomorrow."
Turn 2 Leo:
```
```json
{"action_type": "speak", "argument": "My budget is small, we could lower the price."}
```

action_type is one of none, speak, non-verbal communication, action, leave. Prompt and answer stay within 320 tokens;
positions up to 1024 were trained.

## Language model

| measure | value |
|---|---|
| parameters | {{ "{:,}".format(m.lm.parameters) }} |
| tokens trained | {{ "{:,}".format(m.lm.tokens) }} |
| held-out loss, nats per token | {{ "%.4f" | format(m.lm.held_out_loss) }} |
| held-out perplexity | {{ "%.3f" | format(m.lm.held_out_perplexity) }} |

## Dictionary, on {{ "{:,}".format(m.sae.held_out_tokens) }} held-out tokens

| measure | value |
|---|---|
| fraction of variance explained | {{ "%.4f" | format(m.sae.variance_explained) }} |
| L0 | {{ "%.2f" | format(m.sae.l0) }} |
| dead features | {{ "%.1f%%" | format(100 * m.sae.dead_share) }} |
| loss with the residual itself | {{ "%.4f" | format(m.sae.loss_clean) }} |
| loss with its reconstruction | {{ "%.4f" | format(m.sae.loss_reconstruction) }} |
| loss with the mean residual | {{ "%.4f" | format(m.sae.loss_mean_ablation) }} |
| share of loss recovered | {{ "%.4f" | format(m.sae.loss_recovered) }} |
| mean residual norm | {{ "%.2f" | format(m.sae.residual_norm) }} |

The first token of a text, an attention sink, is left out of training and of these numbers.

## Features

AUROC of a feature's mean activation over a line, on 600 labelled lines (tone: warm against hostile).

| trait | features (AUROC) |
|---|---|
{% for trait, rows in m.features.items() -%}
| {{ trait }} | {% for f in rows[:6] %}{{ f.id }} ({{ "%.3f" | format(f.auroc) }}) {% endfor %} |
{% endfor %}
## Steering

x + alpha * sum of weight * W_dec[i] at every position of layer 15, {{ m.num_prompts }} held-out English prompts (half
chats, half episodes), temperature 0.7. Tone runs from -1 (hostile) to 1 (warm); readability is the share of adjacent word
pairs that training text has.
{% for trait, curves in m.steering.items() %}{% for name, curve in curves.items() %}
### {{ trait }}, {{ name }}: {% for i, w in curve.edits.items() %}{{ "%+g" | format(w) }} x {{ i }} {% endfor %}

| alpha | French lines | mean tone | readability | first answer |
|---|---|---|---|---|
{% for p in curve.points -%}
| {{ "%.1f" | format(p.alpha) }} | {{ "%.0f%%" | format(100 * p.french) }} | {{ "%.2f" | format(p.tone) }} | {{
"%.2f" | format(p.readability) }} | {{ p.examples[0] | replace("|", " ") | replace("\\n", " ") }} |
{% endfor %}{% endfor %}{% endfor %}"""


def render_readme(metrics: dict[str, Any], num_scenarios: int) -> str:
    """Markdown with every number that `metrics.json` has; a missing one is an error."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(TEMPLATE).render(m=metrics, num_scenarios=num_scenarios)
