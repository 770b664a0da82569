"""The `classifier` judge: what a sequence classifier of Hugging Face says of each line."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tiller.evaluation.inputs import InputError
from tiller.evaluation.sotopia.episode_record import EpisodeRecord
from tiller.evaluation.sotopia.judge_settings import ClassifierConfig
from tiller.evaluation.sotopia.score_record import Score

from .judge import Judge, Missing, lines, seats

LINES_AT_ONCE = 32


class ClassifierJudge(Judge):
    """Of each seat, for each label: its mean probability over the seat's lines.

    Softmax over the labels; sigmoid for a model with one label or with problem_type multi_label_classification; a
    regression's output as it is. A line beyond the model's length makes the seat's scores missing (`too_long`): what is
    cut off could be what decides. `path` is where the model is read from, `content` a fingerprint of its files.
    """

    kind = "classifier"
    batch_size = 32

    def __init__(self, name: str, config: ClassifierConfig, path: str, content: str) -> None:
        self.config = config
        self.path = path
        super().__init__(name, {"model": content, "labels": config.labels})

    async def judge_batch(self, records: Sequence[EpisodeRecord]) -> list[list[Score]]:
        said = [[(seat, lines(record, seat)) for seat in seats(record)] for record in records]
        values = iter(self._classify([line for of_record in said for _, own in of_record for line in own]))
        return [
            [score for seat, own in of_record for score in self._scores(record, seat, [next(values) for _ in own])]
            for record, of_record in zip(records, said, strict=True)
        ]

    def _scores(self, record: EpisodeRecord, seat: int, rows: list[Any]) -> list[Score]:
        """`rows` [num_lines, num_labels], None where a line is too long."""
        if not rows or any(row is None for row in rows):
            why = Missing("too_long", "a line is beyond the model's length") if rows else Missing("no_text", "no line")
            return self.missing(record, seat, self.labels, why)
        means = np.mean(rows, axis=0)
        return self.scores(record, seat, dict(zip(self.labels, means.tolist(), strict=True)))

    def _classify(self, texts: list[str]) -> list[Any]:
        """Scores of the labels for each text, None where it is too long."""
        tokenizer, model = self._model
        limit = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 10**9))
        fits = [len(tokenizer(text)["input_ids"]) <= limit for text in texts]
        rows = iter(self._probabilities([text for text, fit in zip(texts, fits, strict=True) if fit]))
        return [next(rows) if fit else None for fit in fits]

    def _probabilities(self, texts: list[str]) -> list[list[float]]:
        import torch

        tokenizer, model = self._model
        columns = [model.config.label2id[label] for label in self.labels]
        rows: list[list[float]] = []
        for start in range(0, len(texts), LINES_AT_ONCE):
            batch = tokenizer(texts[start : start + LINES_AT_ONCE], return_tensors="pt", padding=True)
            with torch.inference_mode():
                logits = model(**batch.to(model.device)).logits.float()
            rows += _activate(logits, model.config)[:, columns].tolist()
        return rows

    @cached_property
    def labels(self) -> list[str]:
        """Those of the config, or all that the model has, in its order."""
        known = [label for label, _ in sorted(self._model[1].config.label2id.items(), key=lambda entry: entry[1])]
        if unknown := [label for label in self.config.labels if label not in known]:
            raise InputError(
                f"no label {unknown[0]!r}; the model has: {', '.join(known)}", f"judges.{self.name}.labels"
            )
        return list(self.config.labels) or known

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.path, revision=self.config.revision)
            model = AutoModelForSequenceClassification.from_pretrained(self.path, revision=self.config.revision)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.config.model}: {error}", f"judges.{self.name}.model") from None
        return tokenizer, model.to(self.config.device).eval()


def _activate(logits: Any, config: Any) -> Any:
    if config.problem_type == "regression":
        return logits
    many = config.problem_type == "multi_label_classification" or config.num_labels == 1
    return logits.sigmoid() if many else logits.softmax(-1)
