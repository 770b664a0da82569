"""Features looked up by id or label: what their weights show, worked out off the event loop."""

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tiller.engine.config import Config
from tiller.engine.inventory import recorded_max_act
from tiller.engine.sae.dictionary import describe_feature, find_sae, load_entry, without_encoder
from tiller.engine.sae.loader import LoadedSAE
from tiller.engine.sae.logit_lens import logit_lens, spoken_ids

from .problems import NotFound

if TYPE_CHECKING:
    from .server import Server

NUM_NEAREST, NUM_TOKENS = 8, 12
MAX_KNOWN = 4096  # features whose description is kept


class Features:
    """The first look at a feature loads its dictionary's decoder into this process; it stays there."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._labels: dict[str, dict[int, str]] = {}
        self._one_at_a_time = asyncio.Lock()
        self._dictionary = lru_cache(maxsize=None)(self._load)
        self._look = lru_cache(maxsize=MAX_KNOWN)(self._look_up)

    def load(self, config: Config | None) -> None:
        """Takes the config's labels."""
        if config is not None:
            self._labels = {name: config.labels(name) for name in config.saes}

    def num_labels(self, sae: str) -> int:
        return len(self._labels.get(sae, {}))

    def search(self, words: str, sae: str, limit: int) -> list[dict[str, Any]]:
        """Features whose label holds all of `words`, whatever their case, in order of their ids."""
        find_sae(self._server.plan, sae)
        labels, wanted = self._labels.get(sae, {}), words.casefold().split()
        found = [i for i in sorted(labels) if all(word in labels[i].casefold() for word in wanted)]
        return [self.known(sae, feature) for feature in found[:limit]]

    def known(self, sae: str, feature: int) -> dict[str, Any]:
        """What can be said of a feature without its dictionary."""
        recorded = recorded_max_act(self._server.plan.saes[sae].path)
        max_act = None if recorded is None else float(recorded[feature])
        return {"id": feature, "sae": sae, "label": self._labels.get(sae, {}).get(feature), "max_act": max_act}

    async def describe(self, sae: str, feature: int) -> dict[str, Any]:
        """One feature as its weights show it. Raises NotFound for an id that is no row of the dictionary."""
        entry = find_sae(self._server.plan, sae)
        if not 0 <= feature < entry.d_sae:
            raise NotFound(f"feature {feature} is out of range; this SAE has 0 to {entry.d_sae - 1}", "id")
        async with self._one_at_a_time:  # two at once would load the dictionary twice
            weights, promoted, suppressed = await asyncio.to_thread(self._look, sae, feature)
        nearest = [{**self.known(sae, i), "cosine": cosine} for i, cosine in weights.nearest]
        return {
            **self.known(sae, feature),
            "object": "steering.feature",
            "decoder_norm": weights.decoder_norm,
            "encoder_bias": weights.encoder_bias,
            "nearest": nearest,
            "promotes": [self._server.decode(token) for token in promoted],
            "suppresses": [self._server.decode(token) for token in suppressed],
        }

    def _load(self, sae: str) -> LoadedSAE:
        return without_encoder(load_entry(self._server.plan.saes[sae]))

    def _look_up(self, sae: str, feature: int) -> tuple[Any, list[int], list[int]]:
        loaded = self._dictionary(sae)
        model = self._server.engine.vllm_config.model_config.model
        logits = logit_lens(model, loaded.sae.W_dec[feature].float())[: self._server.vocab_size]
        return describe_feature(loaded, feature, NUM_NEAREST), *spoken_ids(logits, NUM_TOKENS)
