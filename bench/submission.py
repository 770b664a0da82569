"""What a `steering` field costs the front end in processor time before its request reaches the engine."""

import json
import time
from types import SimpleNamespace
from typing import Any

from tiller.engine import compat, load_config
from tiller.engine.admission import check_params
from tiller.engine.build_inventory import make_plan
from tiller.engine.inventory import PLAN_KEY
from tiller.engine.spec import SPEC_KEY, parse_spec

NUM_SPECS = 200
NUM_EDITS = (1, 16, 64)


def submission_cost(config: str) -> dict[str, dict[str, float]]:
    """Milliseconds of CPU a request, by number of edits: `fresh`, a spec that the process has not seen, and `seen`.

    The same steps as in a server: the field's text, the spec in it, the check against the plan, and the two gates on the way.
    """
    loaded = load_config(config)
    vllm_config = compat.engine_config(loaded.vllm_arguments())
    vllm_config.additional_config = {PLAN_KEY: make_plan(loaded).model_dump(mode="json")}
    return {f"{num} edits": _cost(vllm_config, num) for num in NUM_EDITS}


def _cost(vllm_config: Any, num_edits: int) -> dict[str, float]:
    edits = [[{"id": 7 + j, "value": 0.5 + i / 1000} for j in range(num_edits)] for i in range(NUM_SPECS)]
    return {name: _pass(vllm_config, [{"features": own} for own in edits]) for name in ("fresh", "seen")}


def _pass(vllm_config: Any, specs: list[dict[str, Any]]) -> float:
    start = time.process_time()
    for given in specs:
        json.loads(json.dumps(given))
        spec = parse_spec(given)
        params = SimpleNamespace(extra_args={SPEC_KEY: spec.model_dump_json(exclude_defaults=True)}, seed=None)
        for _ in range(2):
            check_params(vllm_config, params)
    return 1000 * (time.process_time() - start) / len(specs)
