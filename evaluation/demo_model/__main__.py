"""`python -m tiller.evaluation.demo_model OUT_DIR`: makes the demo model, its dictionary and their numbers anew."""

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from . import report
from .readme import render_readme
from .residual import collect_residuals
from .scenarios import SCENARIOS
from .tokenizer import save_tokenizer, train_tokenizer
from .train_lm import LMConfig, save_model, train_lm
from .train_sae import SAEConfig, save_sae, save_statistics, train_sae, training_texts

SAE_FOLDER = Path("sae/resid_post_layer_15/trainer_0")


def main() -> None:
    """Trains, or goes on where an earlier run of the same command stopped."""
    parser = argparse.ArgumentParser(prog="python -m tiller.evaluation.demo_model", description=__doc__)
    parser.add_argument(
        "out", type=Path, help="folder that receives model/, tokenizer/, sae/, metrics.json and README.md"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (default: all cores)")
    parser.add_argument("--lm-steps", type=int, default=LMConfig.num_steps)
    parser.add_argument("--sae-steps", type=int, default=SAEConfig.num_steps)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    make(args.out, LMConfig(num_steps=args.lm_steps), SAEConfig(num_steps=args.sae_steps))


def make(out: Path, lm_config: LMConfig, sae_config: SAEConfig) -> None:
    """Writes model/, tokenizer/, sae/, metrics.json and README.md into `out`; its work/ lasts until all is done."""
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer()
    trained, history = train_lm(tokenizer, work, lm_config)
    save_tokenizer(tokenizer, out / "tokenizer")
    model = save_model(trained, tokenizer, out / "model")
    residuals = collect_residuals(model, tokenizer, training_texts(model, tokenizer, sae_config))
    sae, sae_history = train_sae(residuals, sae_config)
    save_sae(sae, out / SAE_FOLDER)
    save_statistics(sae, residuals, out / SAE_FOLDER)
    metrics: dict[str, Any] = {"lm": {**history, **report.measure_lm(model, tokenizer)}}
    metrics["sae"] = {**sae_history, **report.measure_sae(model, tokenizer, sae)}
    bench = report.Bench(model, tokenizer, sae, metrics["sae"]["residual_norm"], report.known_pairs())
    metrics["features"] = report.top_features(bench)
    metrics["num_prompts"] = report.NUM_PROMPTS
    metrics["steering"] = report.steering(bench, metrics["features"])
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1, ensure_ascii=False) + "\n")
    (out / "README.md").write_text(render_readme(metrics, len(SCENARIOS)))
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
