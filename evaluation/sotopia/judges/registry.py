"""Judges by name: those that a config defines, and those that need no definition.

Those that count words load scipy with them, so they are imported only where one of them is made.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tiller.evaluation.inputs import InputError
from tiller.evaluation.sotopia.ask import Speaker
from tiller.evaluation.sotopia.fingerprint import fingerprint
from tiller.evaluation.sotopia.judge_settings import (
    FluencyConfig,
    JudgeConfig,
    LexicalConfig,
    RepetitionConfig,
    SotopiaConfig,
)

from .axbench import AxbenchJudge
from .classifier import ClassifierJudge
from .fluency import FluencyJudge
from .judge import Judge
from .lexicon import read_lexicon
from .sae_ts import SaeTsJudge
from .sotopia import SotopiaJudge

READY: dict[str, JudgeConfig] = {
    "lexical": LexicalConfig(), "repetition": RepetitionConfig(), "fluency": FluencyConfig(), "sotopia": SotopiaConfig(),
}  # fmt: skip
ASKING = {"sotopia": SotopiaJudge, "sae_ts": SaeTsJudge, "axbench": AxbenchJudge}
NEEDED = {
    "sae_ts": "{kind: sae_ts, behaviour: 'The text is about London.'}",
    "axbench": "{kind: axbench, concept: London}",
    "classifier": "{kind: classifier, model: FOLDER_OR_HUB_ID}",
}


class Resources(Protocol):
    """What judges are made of; engines and connections are made when first needed."""

    @property
    def model(self) -> str:
        """What names the config's own model."""
        ...

    def engine(self) -> Any:
        """The config's own model, a SteeredLLM."""
        ...

    def speaker(self, endpoint: str | None) -> tuple[Callable[[], Speaker], str]:
        """Who answers a judge that names `endpoint` or nobody, and what names their model."""
        ...

    def resolve(self, path: str) -> str:
        """A path as the config means it."""
        ...


def make_judges(
    names: Sequence[str], configured: Mapping[str, JudgeConfig], resources: Resources, repeats: int = 1
) -> list[Judge]:
    """The judges called `names`, those that ask a model `repeats` times over.

    Raises InputError where there is none of that name, or where its files are wrong.
    """
    known = {**READY, **configured}
    made = [make_judge(name, _config(name, known), resources) for name in dict.fromkeys(names)]
    return [judge.repeated(k) for judge in made for k in range(repeats if judge.noisy else 1)]


def default_names(configured: Mapping[str, JudgeConfig]) -> list[str]:
    """All judges that ask no language model."""
    return [name for name, config in {**READY, **configured}.items() if config.kind not in ASKING]


def make_judge(name: str, config: JudgeConfig, resources: Resources) -> Judge:
    if config.kind in ASKING:
        speaker, model = resources.speaker(config.endpoint)  # type: ignore[union-attr]
        return ASKING[config.kind](name, config, speaker, model)  # type: ignore[arg-type]
    if config.kind == "fluency":
        return FluencyJudge(name, resources.engine, resources.model)
    if config.kind == "classifier":
        path = resources.resolve(config.model)  # type: ignore[union-attr]
        return ClassifierJudge(name, config, path, fingerprint(path, config.revision))  # type: ignore[arg-type, union-attr]
    from .lexical import LexicalJudge
    from .repetition import RepetitionJudge

    if config.kind == "lexical":
        given = config.lexicon  # type: ignore[union-attr]
        return LexicalJudge(name, None if given is None else read_lexicon(Path(resources.resolve(given))))
    return RepetitionJudge(name)


def _config(name: str, known: Mapping[str, JudgeConfig]) -> JudgeConfig:
    if name in known:
        return known[name]
    if name in NEEDED:
        raise InputError(f"it needs settings; write evaluation.judges.{name}: {NEEDED[name]}", f"--judge {name}")
    raise InputError(f"no judge {name!r}; there are: {', '.join(known)}", "--judge")
