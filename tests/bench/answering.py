"""A child of the benchmark that answers as its first argument says, without an engine behind it."""

import json
import sys
import time

from tiller.bench.rivals.protocol import answer


def load(job):
    if "start" in job:
        raise RuntimeError(job["start"])
    time.sleep(job.get("sleep", 0))

    def prepare(order):
        rows = order.get("rows") or order.get("specs") or [None] * len(order["prompts"])
        steered = [row is not None for row in rows]
        if "fail" in job and any(steered):
            raise ValueError(job["fail"])
        time.sleep(job.get("slow", 0))
        texts = [f"{i}{'+' * (own and not job.get('deaf', False))}" for i, own in enumerate(steered)]
        num = order["max_tokens"] * len(order["prompts"])
        print("a library's own words")
        return lambda: None, lambda _: {
            "tokens": num,
            "steered_tokens": 0 if job.get("deaf") else sum(steered),
            "texts": texts,
        }

    return {"name": "answering"}, prepare


if __name__ == "__main__":
    assert json.loads(sys.argv[1]) is not None
    answer(load)
