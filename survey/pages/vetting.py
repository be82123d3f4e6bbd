"""The vetting page of a list: candidates one after the other, with what a person needs to judge."""

from typing import Any

import numpy as np

from survey import files
from survey.catalog.document import EnsembleRecord
from survey.ensemble.ensemble import ENSEMBLE
from survey.explain.explanation import EXPLANATION
from survey.folder import Folder
from survey.pages.html import SCRIPTS, VETTING_SCRIPTS, Attachments, fingerprint, render, squeezed_json
from survey.pages.settings import ReportSettings
from survey.pages.star_columns import attach_stars, plane_axes, sample_stars
from survey.pages.vetted_list import (
    LIST_TEXTS,
    SEARCHES,
    VettedStars,
    candidate_columns,
    flag_rows,
    label_rows,
    list_text,
    more_columns,
    table_columns,
    work_order,
)
from survey.pages.vetted_spectra import attach_spectra
from survey.reports.candidate_spectra import NORMAL_CARBON, NORMAL_IRON, NORMAL_SNR
from survey.reports.lines import CARBON, LINES, TELLURIC
from survey.settings import SettingsError
from survey.stored_paths import find_folder

IMPORTANCE = "importance.parquet"
MOST_STARS = 12_000
"""Stars of the catalog that the planes show behind the candidates."""
PRESETS: tuple[tuple[str, float | None, float | None], ...] = (
    ("all", None, None),
    ("Ca H K", 3905.0, 3995.0),
    ("CN 4215", 4120.0, 4235.0),
    ("CH G", 4240.0, 4380.0),
    ("C₂ 4737", 4600.0, 4760.0),
    ("C₂ 5165", 5040.0, 5195.0),
    ("Mg b", 5125.0, 5290.0),
    ("Ca triplet", 8480.0, 8690.0),
)
"""Parts of the spectrum that are often looked at: name, both ends (angstrom)."""
PANELS = ("Ca H K", "CH G", "C₂ 4737", "C₂ 5165", "Mg b", "Ca triplet")
"""Those that are always shown beside the complete spectrum."""
SHOWN_BLOCKS = 5
"""Blocks of wavelengths that matter most, which a page names."""
FEWEST_ANGSTROM = 20.0
"""A part with less of it inside the grid is left out."""


def vetting_page(stars: VettedStars, settings: ReportSettings, mark: str, command: str) -> tuple[bytes, str]:
    """The page as the bytes of its file, and why it has no spectra, if so."""
    attachments = Attachments()
    spectra = attach_spectra(attachments, stars, comparison=settings.comparison, visits=settings.visits)
    columns = candidate_columns(stars)
    order = work_order(columns["star"], stars.id, settings.again)
    planes = _attach_planes(attachments, stars, columns)
    wave = spectra.wave
    presets = [preset for preset in PRESETS if preset[1] is None or _is_inside(wave, preset)]
    interval = interval_text(stars)
    about = {
        "why": spectra.why,
        "interval": interval,
        "order": order,
        "labels": label_rows(stars),
        "members": stars.members,
        "magnitudes": [name for name in columns if name.startswith("mag_") and name != "mag_system"],
        "flags": flag_rows(),
        "table": list(table_columns(stars)),
        "more": list(more_columns(columns)),
        "badges": [badge for badge in _badges(stars) if badge["name"] in columns],
        "spectra": spectra.to_dict(),
        "comparison": spectra.comparison_texts,
        "features": _features(),
        "presets": presets,
        "panels": [preset for preset in presets if preset[0] in PANELS],
        "planes": planes,
        "explanation": _explanation(settings.explanation, SEARCHES[stars.name], stars.document.ensemble),
    }
    attachments.add_json("vetting", {"listId": stars.id, "list": stars.name})
    attachments.add_packed("about", squeezed_json(about))
    attachments.add_packed("candidates", squeezed_json(columns))
    if spectra.why:  # the same command tries again
        mark = fingerprint(mark, spectra.why)
    data = render(
        "vetting.html",
        mark,
        attachments,
        scripts=(*SCRIPTS, *VETTING_SCRIPTS),
        title=f"{LIST_TEXTS[stars.name]}: {files.relative(stars.folder)}",
        heading=f"{LIST_TEXTS[stars.name]}: {stars.table.num_rows:,}",
        path=stars.folder,
        page_class="vetting",
        about=list_text(stars),
        again=len(order) - stars.table.num_rows,
        comparison_text=_comparison_text(stars, settings),
        interval=interval,
        command=command,
    )
    return data, spectra.why


def interval_text(stars: VettedStars) -> str:
    """What the interval of a label is, with the share of true values that it contains if the ensemble that
    predicted is there to say it.
    """
    record = stars.document.ensemble
    try:
        path = find_folder(record.path, stars.folder, ENSEMBLE, record.id)
        ensemble = Folder(path, ENSEMBLE).document()
    except (OSError, ValueError):  # gone, or damaged
        return "interval"
    return f"{100 * ensemble.calibration.coverage:g} % interval" if ensemble.id == record.id else "interval"


def _explanation(folder: str | None, search: str, ensemble: EnsembleRecord) -> dict[str, Any] | None:
    """How much each block of wavelengths matters for the class of the list, by occlusion."""
    if folder is None:
        return None
    explained = Folder(files.absolute(folder), EXPLANATION)
    document = explained.document()
    found = explained.table(IMPORTANCE, document=document).to_pylist()
    target = f"p_{search}"
    rows = [row for row in found if row["method"] == "occlusion" and row["target"] == target]
    groups = [group for group in (search, "all") if any(row["group"] == group for row in rows)]
    if not groups:
        raise SettingsError(
            f"report: explanation: {folder}: nothing about {target}; explain a network that gives classes"
        )
    rows = [row for row in rows if row["group"] == groups[0]]
    main = sorted(rows, key=lambda row: -row["share"])[:SHOWN_BLOCKS]
    text = f"{target} by occlusion, {'all spectra' if groups[0] == 'all' else search + ' stars'}"
    same = {ensemble.id}
    if len(ensemble.members) == 1:  # a run that was calibrated has two ids
        same.add(ensemble.members[0].id)
    if document.of_id not in same:
        text += f" (of other networks: {document.of}, but the answers of this list are of {ensemble.path})"
    return {
        "blocks": [(row["low"], row["high"], round(row["share"], 4)) for row in rows],
        "text": text,
        "main": [
            (f"{row['low']:.0f} to {row['high']:.0f} Å", row["share"], row["features"] or "") for row in main
        ],
    }


def _attach_planes(
    attachments: Attachments, stars: VettedStars, columns: dict[str, list[Any]]
) -> list[dict[str, Any]]:
    """Stars of the catalog behind the candidates; the planes that can be drawn."""
    sample = sample_stars(stars.folder, stars.table.column_names, stars.document.stars, MOST_STARS)
    shown = {
        name: np.array([np.nan if value is None else value for value in columns[name]], float)
        for name in sample.values
        if name in columns
    }
    planes = [
        plane for plane in plane_axes(sample, shown) if plane["title"] in ("Absolute carbon", "Kiel diagram")
    ]
    if not planes:
        return []
    attach_stars(attachments, "stars", sample)
    return sorted(planes, key=lambda plane: plane["title"] != "Absolute carbon")


def _is_inside(wave: Any, preset: tuple[str, float | None, float | None]) -> bool:
    _, low, high = preset
    if low is None or high is None or not len(wave):
        return False
    return min(high, float(wave[-1])) - max(low, float(wave[0])) >= FEWEST_ANGSTROM


def _features() -> list[tuple[str, float, float, bool]]:
    """Bands and lines: name, both ends, and whether they are of the Earth's air; by wavelength."""
    bands = [(name, low, high, False) for name, (low, high) in CARBON.items()]
    bands += [(name.strip(), low, high, True) for name, (low, high) in TELLURIC.items()]
    lines = [(name, wave, wave, False) for name, wave in LINES.items()]
    return sorted([*bands, *lines], key=lambda feature: feature[1])


def _badges(stars: VettedStars) -> list[dict[str, Any]]:
    score = f"score_{SEARCHES[stars.name].lower()}"
    return [
        {"name": "class", "title": "class", "digits": None},
        {"name": score, "title": "score", "digits": 3},
        {"name": "snr_best", "title": "S/N", "digits": 0},
    ]


def _comparison_text(stars: VettedStars, settings: ReportSettings) -> str:
    """What a comparison star is."""
    if not settings.comparison:
        return "This page has no comparison stars (comparison=true adds them)."
    like = "temperature and gravity" if SEARCHES[stars.name] == "MP" else "temperature, gravity and iron"
    but = (
        f"[Fe/H] above {NORMAL_IRON:g}" if SEARCHES[stars.name] == "MP" else f"[C/Fe] below {NORMAL_CARBON:g}"
    )
    return (
        f"The blue line is the nearest star of this catalog outside the list in {like}, with {but} and a "
        f"signal to noise of {NORMAL_SNR:g} or more. A band that is deeper only because a star is cooler is "
        "deeper in both."
    )
