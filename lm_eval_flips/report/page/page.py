"""Comparison -> one HTML file that needs nothing else: numbers, charts, tasks, changed samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.comparison.standing import standings_of
from lm_eval_flips.logs.names import last_name, own_version
from lm_eval_flips.report.changed.changed import WORDS, Found, find_changed
from lm_eval_flips.report.charts import NamedChart, charts_of
from lm_eval_flips.report.charts.shown_runs import ShownRun, shown_runs
from lm_eval_flips.report.charts.theme import drawn_config
from lm_eval_flips.report.names import run_names
from lm_eval_flips.report.overview import ShownModel, family_words, overview
from lm_eval_flips.report.page.bundles import Bundles, bundles
from lm_eval_flips.report.page.embedded import json_text, script_text, security_policy
from lm_eval_flips.report.page.models import model_signs, shown_models
from lm_eval_flips.report.page.sample_browser import MOST, SIGN_WORDS, browser_data
from lm_eval_flips.report.page.sources import sources
from lm_eval_flips.report.page.task_table import table_data
from lm_eval_flips.report.text.across import across_lines
from lm_eval_flips.report.text.headline import FIGURES, figures, sentence, verdicts
from lm_eval_flips.report.text.numbers import number
from lm_eval_flips.report.text.sentences import floor_lines, run_lines, several_lines
from lm_eval_flips.report.text.signs import Sign, sign_key
from lm_eval_flips.report.text.table import legend
from lm_eval_flips.report.text.warned import warned, warning_lines

TEMPLATES = Path(__file__).parent.parent / "templates"
CARDS = 3  # runs; more are the rows of a table
SETTING = 60  # characters of a setting's value
SCRIPTS = ("page.js", "charts.js", "tasks.js", "samples.js")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The file's text, and the changed samples if they are more than it holds, else none."""

    html: str
    beyond: tuple[Found, ...]


def page(
    comparison: Comparison,
    *,
    sizes: Mapping[str, int] | None = None,
    libraries: Bundles | None = None,
    parquet: str = "",
    most: int = MOST,
) -> Page:
    """The comparison as one HTML file.

    Args:
        comparison: what ``compare`` returned; the runs' files are read again for the texts.
        sizes: bytes of models, by name, for the chart of quality against size.
        libraries: the page's JavaScript, if it is made already.
        parquet: name of the file that will hold all changed samples, if they are too many.
        most: the most changed samples in the page.

    Raises:
        FlipsError: a run's files are gone or have changed since they were compared.
    """
    found = find_changed(comparison)
    table = table_data(comparison)
    charts = list(charts_of(comparison, sizes=sizes).values())
    scripts = _scripts(libraries or bundles())
    html = _template().render(
        **_overview(comparison, sizes),
        charts=charts,
        drawings=json_text(_drawings(charts)),
        table=json_text(table),
        legend=legend([column["label"] for column in table["columns"]]),
        changed=len(found),
        shown=min(len(found), most),
        parquet=parquet,
        browser=json_text(browser_data(comparison, found[:most])),
        words=json_text(WORDS),
        answer_signs=json_text(SIGN_WORDS),
        scripts=scripts,
        policy=security_policy(list(scripts.values())),
        version=own_version(),
        made=date.today().isoformat(),
    )
    return Page(html=html, beyond=tuple(found) if len(found) > most else ())


def _scripts(libraries: Bundles) -> dict[str, Markup]:
    own = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return {
        "own": script_text(own),
        "vega": script_text(libraries.vega),
        "tables": script_text(libraries.tables),
    }


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _overview(comparison: Comparison, sizes: Mapping[str, int] | None) -> dict[str, Any]:
    """What the page says in words: each run, what was compared, and runs against each other."""
    shown, baseline = shown_runs(comparison), last_name(comparison.baseline.model)
    models = shown_models(comparison, shown, sizes)
    marks = model_signs(comparison, shown)
    names = run_names(comparison)
    labels = {own.label for run in shown for own in figures(run.run.pooled)}
    return {
        "title": f"What compression changed in {baseline}",
        "baseline": baseline,
        "cards": len(shown) <= CARDS,
        "runs": [
            _run(own, model, found) for own, model, found in zip(shown, models, marks, strict=True)
        ],
        "told": overview(models, standings_of(comparison, sizes={}).distance),
        "signs": sign_key(marks),
        "distances": [FIGURES[key] for key in ("choice_kl", "token_kl") if FIGURES[key] in labels],
        "warned": warned(comparison, names) if len(shown) > CARDS else [],
        "sources": sources(comparison),
        "floor": "; ".join(floor_lines(comparison)),
        "differing": _differing(comparison, {run.run.path: run.name for run in shown}),
        "floor_differing": _differing(comparison, _floor_name(comparison)),
        "ranking": _ranking(comparison, names),
        "across": [*across_lines(comparison), *several_lines(comparison)],
    }


def _run(run: ShownRun, model: ShownModel, found: Sequence[Sign]) -> dict[str, Any]:
    """What the top of the page says of a compressed run."""
    own, row = run.run, run.run.pooled
    return {
        "name": run.name,
        "model": last_name(own.model),
        "colour": run.colour,
        "shown": model,
        "glyph": model.look.glyph if run.by_family else "",
        "family": family_words(model.look),
        "sentence": sentence(row),
        "figures": list(figures(row)),
        "flips": row.flips,
        "verdicts": list(verdicts(own)),
        "signs": found,
        "warnings": warning_lines(own.warnings),
        "lines": [line.strip() for line in run_lines(own)],
        "place": run.place,
    }


def _floor_name(comparison: Comparison) -> dict[str, str]:
    floor = comparison.noise_floor
    return {} if floor is None else {floor.path: "noise floor"}


def _differing(comparison: Comparison, names: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Setting, its value in the baseline and in a run of these paths, and that run's name."""
    return [
        (d.setting, _short(d.baseline), _short(d.compressed), names[d.run])
        for d in comparison.settings_that_differ
        if d.run in names
    ]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= SETTING else f"{text[:SETTING]} …"


def _ranking(comparison: Comparison, names: Sequence[str]) -> dict[str, Any] | None:
    """Groups of runs whose scores cannot be told apart, with these scores."""
    found = comparison.ranking
    if found is None:
        return None
    groups = [[(names[i], number(found.scores[i])) for i in group] for group in found.groups]
    what = f"{found.metric} (lower is better)" if found.lower_is_better else "Score"
    return {"n": found.n, "groups": groups, "what": what}


def _drawings(charts: Sequence[NamedChart]) -> dict[str, Any]:
    """The charts' specifications and both themes, for Vega-Embed."""
    return {
        "config": {mode: drawn_config(mode) for mode in ("light", "dark")},
        "charts": {
            chart.slug: [chart.page_spec()]
            + ([] if chart.narrow is None else [chart.page_spec(narrow=True)])
            for chart in charts
        },
    }
