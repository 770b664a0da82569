"""`tiller features`: look at a dictionary's features, and find the ones that mark a trait."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tiller.engine.config import Config, load_config

from .boot import boot
from .inputs import InputError, read_labelled, read_texts
from .jsonl import write_json
from .options import ConfigOption, SAEOption, SkipFirstOption, TextsOption
from .output import writing
from .writable import require_writable_file, require_writable_folder

app = typer.Typer(no_args_is_help=True, help="Look at a dictionary's features, and find the ones that mark a trait.")
console = Console()


@app.command("list")
def list_features(
    config: ConfigOption = "demo",
    sae: SAEOption = "default",
    sort: Annotated[
        Literal["id", "norm", "bias", "max_act", "density"], typer.Option(help="Largest first, except id.")
    ] = "id",
    limit: Annotated[int, typer.Option(min=1, help="How many to show.")] = 20,
) -> None:
    """List an SAE's features with what is known of each: decoder norm, encoder bias, recorded maximum and density."""
    from tiller.engine.sae.dictionary import feature_columns, load_dictionary

    loaded = load_dictionary(load_config(config), sae)
    columns = feature_columns(loaded)
    if sort not in columns:
        raise InputError(f"no {sort} is recorded for this SAE; run `tiller features calibrate`", "--sort")
    order = columns[sort].argsort(descending=sort != "id", stable=True)[:limit]
    console.print(f"SAE {sae}: {loaded.d_sae} features of width {loaded.d_model}, {loaded.format}", highlight=False)
    table = Table()
    for name in columns:
        table.add_column(name, justify="right")
    for index in order.tolist():
        table.add_row(
            *(f"{index}" if name == "id" else f"{float(column[index]):.4g}" for name, column in columns.items())
        )
    console.print(table)


@app.command("show")
def show_feature(
    feature: Annotated[int, typer.Argument(help="Its id, a row of the dictionary.")],
    config: ConfigOption = "demo",
    sae: SAEOption = "default",
    texts: TextsOption = None,
    top: Annotated[int, typer.Option(min=1, help="How many neighbours, tokens and texts to show.")] = 8,
    skip_first: SkipFirstOption = 1,
) -> None:
    """Show one feature: its norms, neighbours, the tokens it speaks for, and texts that activate it most."""
    from tiller.engine.sae.dictionary import describe_feature, load_dictionary

    loaded_config = load_config(config)
    loaded = load_dictionary(loaded_config, sae)
    found = describe_feature(loaded, feature, top)
    promoted, suppressed = _spoken_tokens(loaded_config, loaded.sae.W_dec[feature].float(), top)
    table = Table(show_header=False, box=None)
    table.add_row("feature", f"{feature} of {loaded.d_sae}")
    table.add_row("decoder norm", f"{found.decoder_norm:.4g}")
    table.add_row("encoder bias", f"{found.encoder_bias:.4g}")
    table.add_row("max activation", "not recorded" if found.max_act is None else f"{found.max_act:.4g}")
    table.add_row("nearest", ", ".join(f"{i} ({cosine:.2f})" for i, cosine in found.nearest))
    table.add_row("promotes", Text(" ".join(map(repr, promoted))))
    table.add_row("suppresses", Text(" ".join(map(repr, suppressed))))
    console.print(table)
    if texts is not None:
        _show_texts(loaded_config, read_texts(texts), feature, sae, top, skip_first)


def _spoken_tokens(config: Config, direction: Any, num: int) -> list[list[str]]:
    """The tokens that adding `direction` [d_model] promotes, and those that it suppresses."""
    from transformers import AutoTokenizer

    from tiller.engine.sae.logit_lens import logit_lens, spoken_ids

    arguments = config.vllm_arguments()
    tokenizer = AutoTokenizer.from_pretrained(arguments.get("tokenizer", arguments["model"]))
    logits = logit_lens(arguments["model"], direction)[: len(tokenizer)]
    return [[str(tokenizer.decode([token])) for token in ids] for ids in spoken_ids(logits, num)]


def _show_texts(config: Any, texts: list[str], feature: int, sae: str, top: int, skip_first: int) -> None:
    from .features import top_texts

    with boot(config) as llm:
        for hit in top_texts(llm, texts, feature, sae, top, skip_first):
            line = Text(f"{hit.activation:8.3f}  ")
            line.append(hit.before, style="dim").append(hit.token, style="bold blue").append(hit.after, style="dim")
            console.print(line, soft_wrap=True)


@app.command("find")
def find_features(
    config: ConfigOption = "demo",
    sae: SAEOption = "default",
    positive: Annotated[Path | None, typer.Option(help="Texts with the trait.", dir_okay=False)] = None,
    negative: Annotated[Path | None, typer.Option(help="Texts without it.", dir_okay=False)] = None,
    texts: TextsOption = None,
    label: Annotated[str | None, typer.Option(help="Key of --texts' lines that says which side a text is on.")] = None,
    positive_value: Annotated[str | None, typer.Option(help="Value of --label that means positive.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to show.")] = 20,
    skip_first: SkipFirstOption = 1,
    out: Annotated[Path | None, typer.Option(help="Write every active feature as JSON.", dir_okay=False)] = None,
) -> None:
    """Rank features by how well their mean activation over a text tells two sets of texts apart."""
    from tiller.engine.sae.dictionary import num_readable

    from .features import read_activations, separate

    if out is not None:
        require_writable_file(out, "--out")
    given, sides = _two_sets(positive, negative, texts, label, positive_value)
    with boot(config) as llm:
        activations = read_activations(llm, given, sae, skip_first)
        complete = num_readable(llm.plan, sae) < llm.plan.max_top
    found = separate(activations, sides)
    console.print(f"{sum(sides)} positive and {len(sides) - sum(sides)} negative texts", highlight=False)
    table = Table()
    for name in ("feature", "AUROC", "95% interval", "texts", "tokens", "mean +", "mean -"):
        table.add_column(name, justify="right")
    for s in found[:limit]:
        table.add_row(
            str(s.id), f"{s.auroc:.3f}", f"{s.auroc_low:.3f} to {s.auroc_high:.3f}", f"{s.text_density:.1%}",
            f"{s.token_density:.2%}", f"{s.mean_positive:.4g}", f"{s.mean_negative:.4g}",
        )  # fmt: skip
    console.print(table)
    if not complete:
        console.print("This SAE may have more active features at a token than are read: the weakest count as inactive.")
    if out is not None:
        body = {"num_positive": sum(sides), "num_negative": len(sides) - sum(sides), "sae": sae}
        write_json({**body, "features": [s.to_dict() for s in found]}, out)


@app.command("calibrate")
def calibrate_features(
    texts: Annotated[Path, typer.Option(help="Texts, one a line, or .jsonl with `text`.", dir_okay=False)],
    config: ConfigOption = "demo",
    sae: SAEOption = "default",
    skip_first: SkipFirstOption = 1,
) -> None:
    """Record beside the SAE every feature's largest activation, the unit `max_act`, and its density on texts."""
    from tiller.engine.build_inventory import make_plan
    from tiller.engine.sae.dictionary import find_sae
    from tiller.engine.sae.loader import max_act_path

    from .features import read_activations, write_calibration

    given, loaded = read_texts(texts), load_config(config)
    path = max_act_path(Path(find_sae(make_plan(loaded), sae).path))
    require_writable_file(path, "--sae")
    with boot(loaded) as llm:
        activations = read_activations(llm, given, sae, skip_first)
    write_calibration(activations, path)
    console.print(
        f"wrote {path}: {len(activations.active_features)} of {activations.mean.shape[1]} features are active "
        f"somewhere in {activations.num_tokens.sum()} tokens", highlight=False, soft_wrap=True,
    )  # fmt: skip


@app.command("correlate")
def correlate_features(
    episodes: Annotated[Path, typer.Option(help="Folder of a judged run, or a file of recorded episodes with scores.")],
    out: Annotated[Path, typer.Option(help="Folder for the table, the figures and report.html.", file_okay=False)],
    config: ConfigOption = "demo",
    sae: SAEOption = "default",
    arm: Annotated[list[str], typer.Option(help="Arm of the run to look at; may be repeated.")] = ["unsteered"],  # noqa: B006
    pool: Annotated[
        Literal["mean", "max"], typer.Option(help="Over the tokens of all that an agent said in an episode.")
    ] = "mean",
    min_support: Annotated[int, typer.Option(min=2, help="Agents that a feature must be active on at least.")] = 5,
    limit: Annotated[int, typer.Option(min=1, help="How many to show for each score.")] = 10,
    skip_first: SkipFirstOption = 1,
) -> None:
    """Correlate features' activations on what agents said with the agents' scores."""
    import numpy as np

    from . import correlate, correlate_report
    from .features import read_activations

    require_writable_folder(out, "--out")
    loaded = load_config(config)
    samples = correlate.samples_of(episodes, arm)
    texts = [text for sample in samples for text in sample.texts]
    group = np.repeat(np.arange(len(samples)), [len(sample.texts) for sample in samples])
    with boot(loaded) as llm:
        activations = read_activations(llm, texts, sae, skip_first)
    found = correlate.correlate(correlate.pool(activations, group, len(samples), pool), samples, min_support)
    labels = loaded.labels(sae)
    facts = [("agents", str(len(samples))), ("scenarios", str(len({s.cluster for s in samples}))),
             ("utterances", f"{len(texts):,}"), ("SAE", sae), ("pooled by", pool), ("model", loaded.model)]  # fmt: skip
    with writing(out, "--out"):
        correlate_report.write_correlates(out, found, labels, facts)
    for score, own in correlate_report.by_score(found).items():
        table = Table(title=score, title_justify="left", box=None, padding=(0, 2, 0, 0))
        for name in correlate_report.HEADER:
            table.add_column(name)
        for entry in own[:limit]:
            table.add_row(*correlate_report.cells(entry, labels.get(entry.feature, "")))
        console.print(table)
    console.print(f"wrote report.html, correlations.parquet and figures/ to {out}", highlight=False, soft_wrap=True)


def _two_sets(
    positive: Path | None, negative: Path | None, texts: Path | None, label: str | None, positive_value: str | None
) -> tuple[list[str], list[bool]]:
    """Texts and sides, from two files or from one labelled one."""
    if positive is not None and negative is not None and texts is None:
        with_trait, without = read_texts(positive), read_texts(negative)
        return with_trait + without, [True] * len(with_trait) + [False] * len(without)
    if texts is not None and label is not None and positive_value is not None and positive is None and negative is None:
        return read_labelled(texts, label, positive_value)
    raise InputError("give --positive and --negative, or --texts with --label and --positive-value")
