"""`tiller sotopia report`: a run's tables, figures and page."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tiller.evaluation.plotting import write_png, write_svg
from tiller.evaluation.report import Picture, Report, Section

from . import figures, report_tables
from .disk import writing
from .effects import Effect, Trend, effects_of, trends_of
from .health import ArmHealth, health_of, problems_of
from .journal_reader import JournalReader
from .measures import Design, Measure, design_of, measures_of
from .results import Results, collect
from .tables import summary_rows, write_csv, write_tables
from .tradeoff import Tradeoff, tradeoffs_of
from .transcripts import ReadTurns, shown_arms, telling_pairs, transcripts

METHOD = (
    "A pair is one scene, casting, steered seat and seed in every arm, its turns sampled with the same seeds. All intervals "
    "are 95% percentile intervals of 10,000 bootstrap draws of whole scenarios; Student's t on the cluster-robust error with "
    "scenarios - 1 degrees of freedom is their check and makes the p-values. Holm's p holds over the alphas of one target in "
    "one measure (over all arms where there is no alpha). A missing figure stays missing: it is counted with its cause, never "
    "0, and where arms miss different pairs the worst case gives the bounds that any values would allow. An alpha is chosen by "
    "the mean of products of behaviour and fluency on one half of the scenarios and reported on the other."
)


@dataclass(frozen=True)
class Findings:
    """Everything that a report says, computed once from a run's results."""

    results: Results
    seed: int = 0

    @cached_property
    def design(self) -> Design:
        return design_of(self.results)

    @cached_property
    def measures(self) -> list[Measure]:
        return measures_of(self.results, self.design)

    @cached_property
    def effects(self) -> list[list[Effect]]:
        return [effects_of(measure, self.design, self.seed) for measure in self.measures]

    @cached_property
    def trends(self) -> list[list[Trend]]:
        return [trends_of(measure, self.design, self.seed) for measure in self.measures]

    @cached_property
    def tradeoffs(self) -> list[Tradeoff]:
        return tradeoffs_of(self.measures, self.design, self.seed)

    @cached_property
    def health(self) -> list[ArmHealth]:
        return health_of(self.results, self.design)

    @cached_property
    def problems(self) -> list[str]:
        return problems_of(self.health, self.measures)

    @cached_property
    def shown(self) -> list[int]:
        """Measures of the steered agent that are not the same everywhere: what figures and the first table show."""
        return [
            i
            for i, measure in enumerate(self.measures)
            if measure.role == "agent" and len(np.unique(measure.values[~np.isnan(measure.values)])) > 1
        ]


def write_run_report(out: Path) -> Findings:
    """Reads the run in `out` and writes its tables, figures/ and report.html there.

    Raises InputError where there is no run, JournalError where something can't be written.
    """
    with writing(out), JournalReader(out) as journal:
        found = Findings(collect(journal.units, journal.records(), journal.scores(), journal.manifest() or {}))
        write_tables(out, found.results, journal.records())
        write_findings(found, out, journal.turns)
    return found


def write_findings(found: Findings, out: Path, read_turns: ReadTurns) -> None:
    """summary.csv, figures/ and report.html in `out`."""
    write_csv(out / "summary.csv", summary_rows(found.measures, found.effects))
    drawn = {**_dose_figures(found), **_difference_figures(found), **_pareto_figures(found)}
    for name, (figure, _) in drawn.items():
        write_svg(figure, out / "figures" / f"{name}.svg")
        write_png(figure, out / "figures" / f"{name}.png")
    _report(found, drawn, read_turns).write(out / "report.html")


Drawn = dict[str, tuple[Figure, str]]


def _dose_figures(found: Findings) -> Drawn:
    """One for each measure and group of targets that fit on one axis."""
    drawn = {}
    for i in found.shown:
        measure = found.measures[i]
        for k, targets in enumerate(_target_groups(found.design)):
            figure = figures.dose_response(measure, found.effects[i], found.design, targets)
            drawn[f"dose-{k}-{measure.key}"] = figure, f"{measure.label} against alpha of {', '.join(targets)}"
    return drawn


def _difference_figures(found: Findings) -> Drawn:
    """Only where there are arms that aren't part of a sweep."""
    if all(arm.alpha is not None for i, arm in enumerate(found.design.arms) if i != found.design.baseline):
        return {}
    if found.design.baseline is None:
        return {}
    return {
        f"difference-{found.measures[i].key}": (
            figures.differences(found.measures[i], found.effects[i], found.design),
            f"differences of {found.measures[i].label} from the unsteered arm",
        )
        for i in found.shown
    }


def _pareto_figures(found: Findings) -> Drawn:
    return {
        f"pareto-{t.behaviour.key}": (figures.pareto(t, found.design), f"{t.behaviour.label} against fluency, by arm")
        for t in found.tradeoffs
    }


def _target_groups(design: Design, most: float = 4.0, size: int = 6) -> list[list[str]]:
    """Targets by the reach of their alphas: those on one axis differ by a factor of `most` at the utmost."""
    reach = {t: max(abs(design.arms[row].alpha or 0.0) for row in design.arms_of(t)) for t in design.targets}
    groups: list[list[str]] = []
    for target in sorted(design.targets, key=lambda t: reach[t]):
        last = groups[-1] if groups else []
        if last and len(last) < size and reach[target] <= most * max(reach[last[0]], 1e-12):
            last.append(target)
        else:
            groups.append([target])
    return groups


def _report(found: Findings, drawn: Drawn, read_turns: ReadTurns) -> Report:
    design, results = found.design, found.results
    num_done = len(results.episodes)
    kind = "episodes" if results.units[0].scene is not None else "answers"
    return Report(
        title=f"Steered {kind}",
        summary=(
            f"{num_done} of {len(results.units)} planned {kind}: {len(design.pairs)} pairs in {design.num_clusters} "
            f"{'scenarios' if kind == 'episodes' else 'prompts'}, each under {len(design.arms)} arms."
        ),
        verdict="; ".join(found.problems) or "complete: nothing failed, nothing missing, every receipt adds up",
        passed=not found.problems,
        facts=_facts(found),
        sections=[
            *_curves(found, drawn),
            *_matrix(found),
            *_behaviour(found, drawn),
            *_words(found, read_turns),
            *_health(found),
            Section(title="Method", text=METHOD),
        ],
    )


def _facts(found: Findings) -> list[tuple[str, str]]:
    rows, manifest = found.results.episodes.values(), found.results.manifest
    models = list(dict.fromkeys(model for unit in found.results.units[:1] for model in unit.models if model))
    facts = [("arms", str(len(found.design.arms))), ("turns", f"{sum(row['num_turns'] for row in rows):,}")]
    facts.append(("tokens written", f"{sum(row['completion_tokens'] for row in rows):,}"))
    facts += [("model" if len(models) == 1 else "models", " and ".join(models))] if models else []
    facts += [(name, str(value)) for name, value in (manifest.get("versions") or {}).items()]
    return facts


def _curves(found: Findings, drawn: Drawn) -> list[Section]:
    sections = []
    doses = [Picture(*entry) for name, entry in drawn.items() if name.startswith("dose")]
    if doses:
        text = "Means with 95% bands; dashed: the unsteered arm. Alpha multiplies what the target adds."
        trends = report_tables.trend_table(*_of_shown(found, found.trends))
        note = "Slope and rank correlation with alpha are taken within each scenario, then averaged."
        sections.append(Section(title="What alpha does", text=text, pictures=doses, tables=[trends], note=note))
    plain = [Picture(*entry) for name, entry in drawn.items() if name.startswith("difference")]
    if plain:
        text = "Paired differences from the unsteered arm with 95% intervals; the line marks no difference."
        sections.append(Section(title="What each arm changes", text=text, pictures=plain))
    return sections


def _matrix(found: Findings) -> list[Section]:
    if not found.measures:
        return [Section(title="Scores", text="Nothing has been judged yet; run `tiller sotopia score`.")]
    first = report_tables.matrix(*_of_shown(found, found.effects), found.design)
    rest = [report_tables.details(m, e, found.design) for m, e in zip(found.measures, found.effects, strict=True)]
    return [
        Section(
            title="Arms by dimension",
            text="The unsteered row holds means, the others paired differences from it, both with 95% intervals.",
            tables=[first, *rest],
            note=f"{report_tables.STAR} Holm's p below {report_tables.LEVEL:g}.",
        )
    ]


def _of_shown(found: Findings, entries: Sequence) -> tuple[list[Measure], list]:
    return [found.measures[i] for i in found.shown], [entries[i] for i in found.shown]


def _behaviour(found: Findings, drawn: Drawn) -> list[Section]:
    if not found.tradeoffs:
        return []
    held = report_tables.held_out_table(found.tradeoffs, found.design)
    composites = [report_tables.composite_table(t, found.design) for t in found.tradeoffs]
    return [
        Section(
            title="Behaviour against fluency",
            text=(
                "Up and to the right is better. The grey line joins the arms that no other one beats in both. "
                "Labels are alphas."
            ),
            pictures=[Picture(*entry) for name, entry in drawn.items() if name.startswith("pareto")],
            picture_width=460,
            tables=([held] if held.rows else []) + composites,
            note=(
                "Gains are of the mean product of behaviour and fluency, both on 0 to 1, over the unsteered arm. The gain "
                "where an alpha was chosen flatters it; the other half does not."
            ),
        )
    ]


def _words(found: Findings, read_turns: ReadTurns) -> list[Section]:
    arms = shown_arms(found.design, found.tradeoffs)
    first = next((m for m in found.measures if m.role == "agent" and m.metric.kind == "behaviour"), None)
    blocks = transcripts(found.results, found.design, arms, telling_pairs(first, found.design, arms), read_turns)
    return [
        Section(title="Side by side", text="The same pair in several arms; steered turns are marked.", markup=blocks)
    ]


def _health(found: Findings) -> list[Section]:
    missing = report_tables.missing_table(found.measures, found.design)
    tables = [report_tables.health_table(found.health), *([missing] if missing else [])]
    note = "Arms of alpha 0 must say what the unsteered arm says, word for word."
    return [Section(title="Run health", tables=tables, note=note)]
