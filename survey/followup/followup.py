"""A vetted list of candidates -> the sample to observe.

settings.json         the settings
followup.*            the stars to observe, in order: Parquet, VOTable, FITS, CSV
columns.csv           the meaning of its columns
not_chosen.parquet    all other stars of the list, with the reason
strata.parquet        the strata of the random part
tracks.parquet        altitudes of the first stars through the night in the middle, for the plot
followup.json         the document; written last
results/              what the observation gave (`survey.followup.observed`)

A sample is never drawn again: its inclusion probabilities would be lost, and with them the purity.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey import __version__, files
from survey.catalog.exports import COLUMNS_FILE, ENDINGS, export_table
from survey.catalog.votable import Parameter, TableInfo
from survey.folder import Folder
from survey.followup.choice import RANDOM, YIELD, FollowupChoice, choose
from survey.followup.followup_document import FOLLOWUP, FollowupDocument, SiteRecord, StratumRecord
from survey.followup.sample_table import sample_tables
from survey.followup.settings import FollowupSettings
from survey.followup.sites import Site, find_site
from survey.followup.strata import FROM, TO
from survey.followup.stratified import expected_error
from survey.followup.vetted_candidates import REJECTED, ListToObserve, VettedCandidates
from survey.followup.visibility import Darkness, altitudes, darkness
from survey.settings import JobError, SettingsError
from survey.tables.columns import described_field

SAMPLE = "followup"
TRACKED = 60
"""Stars whose way through the night is kept."""


@dataclass(frozen=True)
class Followup:
    """A finished sample: its folder, its document, and whether it was drawn just now."""

    folder: str
    document: FollowupDocument
    created: bool

    def table(self, name: str) -> pa.Table:
        """A table of the folder."""
        return Folder(self.folder, FOLLOWUP).table(name, document=self.document)


def now() -> datetime:
    """When a sample is drawn, in UTC."""
    return datetime.now(UTC)


def night_at(longitude: float, utc: datetime) -> date:
    """The night at this longitude, by the date of its evening; a night ends at noon."""
    return (utc + timedelta(hours=longitude / 15 - 12)).date()


def draw_sample(settings: FollowupSettings) -> Followup:
    """Draw the sample that the settings describe; a sample that was drawn before is left as it is."""
    folder = Folder(files.absolute(settings.followup), FOLLOWUP)
    if settings.of is None:
        return Followup(folder.path, folder.document(), created=False)
    site, listed = find_site(settings.site), ListToObserve.open(settings)
    made_from = json.dumps([listed.document.id, listed.identity, settings.plain()], sort_keys=True)
    identity = hashlib.sha256(made_from.encode()).hexdigest()[:16]
    with folder.claim(settings.plain()):
        before = folder.sound_document()
        agrees = folder.agree(settings.plain(), started=folder.is_finished())
        if before is not None and before.id == identity:
            return Followup(folder.path, before, created=False)
        if before is not None:
            raise SettingsError(
                f"followup: followup={settings.followup}: its sample was drawn before, from another list, "
                "other verdicts or magnitudes; a second draw would spoil its inclusion probabilities: give "
                "another followup= for a new sample, or results=FILE without of= for this one"
            )
        _check_future(settings, night_at(site.longitude, folder.begun() if agrees else now()))
        dark = darkness(site, settings.nights(), settings.sky)
        stars = VettedCandidates.of(listed, dark, settings)
        rows = np.flatnonzero(stars.reason_N == "")
        if not len(rows):
            raise JobError(_nothing_left(stars, settings))
        choice = choose(stars.p_N[rows], stars.cost_N[rows], stars.snr_N[rows], settings)
        if not agrees:
            folder.begin(settings.plain())
        document = _document(identity, settings, listed, dark, stars, rows, choice)
        document = folder.finish(document, _write(folder, document, stars, rows, choice, dark))
    return Followup(folder.path, document, created=True)


def _check_future(settings: FollowupSettings, begun: date) -> None:
    first = settings.nights()[0]
    if first < begun:
        raise SettingsError(f"followup: dates: the night of {first} is over; give nights from {begun} on")


def _nothing_left(stars: VettedCandidates, settings: FollowupSettings) -> str:
    counts = Counter(stars.reason_N.tolist())
    reasons = "; ".join(f"{reason}: {count:,}" for reason, count in counts.most_common())
    return (
        f"followup: site={settings.site}: none of the {len(stars.p_N):,} stars can be observed ({reasons}); "
        "give other dates, another site, or other limits (sky.altitude, sky.moon, exposure.most)"
    )


def _document(
    identity: str,
    settings: FollowupSettings,
    listed: ListToObserve,
    dark: Darkness,
    stars: VettedCandidates,
    rows: NDArray[np.int64],
    choice: FollowupChoice,
) -> FollowupDocument:
    """What the sample says about itself."""
    counts = Counter(reason for reason in stars.reason_N.tolist() if reason)
    rejected = counts.pop(REJECTED, 0)
    vetted_N = stars.reason_N != REJECTED
    strata = tuple(_strata(stars, rows, choice, vetted_N))
    hours = float(stars.cost_N[rows[choice.order]].sum() / 3600)
    notes = list(listed.notes)
    if hours > dark.hours:
        notes.append(f"the sample takes {hours:.1f} hours, but only {dark.hours:.1f} hours are dark")
    if len(choice.order) == len(rows):
        notes.append("all stars that can be observed fit into the hours")
    if not np.isfinite(listed.promised):
        notes.append("the catalog promises no purity of this list: its scores are taken as they are")
    return FollowupDocument(
        version=FOLLOWUP.version,
        id=identity,
        settings=settings.plain(),
        of=files.relative(settings.of or ""),
        of_id=listed.document.id,
        search=listed.search,
        definition=listed.document.definitions.get(listed.search, ""),
        criterion=str(listed.document.settings.get("criterion", "carbon_0.7")),
        site=_site_record(dark.site, dark.hours),
        listed=int(vetted_N.sum()),
        rejected=rejected,
        verdicts=listed.verdicts,
        left_out=dict(counts.most_common()),
        by_yield=int((choice.why_N == YIELD).sum()),
        random=int((choice.why_N == RANDOM).sum()),
        hours=hours,
        expected=float(stars.p_N[rows[choice.order]].sum()),
        purity=float(stars.p_N[vetted_N].mean()),
        promised=listed.promised if np.isfinite(listed.promised) else None,
        error=_expected_error(strata),
        strata=strata,
        notes=tuple(notes),
    )


def _site_record(site: Site, hours: float) -> SiteRecord:
    return SiteRecord(
        name=site.name,
        longitude=site.longitude,
        latitude=site.latitude,
        height=site.height,
        dark_hours=hours,
    )


def _strata(
    stars: VettedCandidates,
    rows: NDArray[np.int64],
    choice: FollowupChoice,
    vetted_N: NDArray[np.bool_],
) -> list[StratumRecord]:
    """The strata. A star that cannot be observed counts to that of the star with the nearest probability."""
    p_K, snr_K = stars.p_N[rows], stars.snr_N[rows]
    outside = np.flatnonzero(vetted_N & (stars.reason_N != ""))
    nearest = _nearest(p_K, stars.p_N[outside])
    outside_H = np.bincount(choice.stratum_N[nearest], minlength=choice.strata)
    records = []
    for number in range(choice.strata):
        inside_K = choice.stratum_N == number
        snr = snr_K[inside_K & np.isfinite(snr_K)]
        records.append(
            StratumRecord(
                stratum=number + 1,
                low=float(p_K[inside_K].min()),
                high=float(p_K[inside_K].max()),
                snr_low=float(snr.min()) if len(snr) else None,
                snr_high=float(snr.max()) if len(snr) else None,
                stars=int(inside_K.sum()),
                outside=int(outside_H[number]),
                by_yield=int((inside_K & (choice.why_N == YIELD)).sum()),
                random=int((inside_K & (choice.why_N == RANDOM)).sum()),
                expected=float(p_K[inside_K].mean()),
            )
        )
    return records


def _nearest(values_K: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.int64]:
    """The row of the nearest value, for each wanted one."""
    order = np.argsort(values_K)
    ordered = values_K[order]
    above = np.clip(np.searchsorted(ordered, wanted), 1, max(len(ordered) - 1, 1))
    below = above - 1
    above = np.minimum(above, len(ordered) - 1)
    is_above = ordered[above] - wanted < wanted - ordered[below]
    return np.asarray(order[np.where(is_above, above, below)], np.int64)


def _expected_error(strata: tuple[StratumRecord, ...]) -> float | None:
    """Half the width of the interval that the purity will have; None without a random part."""
    total = sum(record.stars for record in strata)
    rest = [record.stars - record.by_yield for record in strata]
    if not sum(record.random for record in strata):
        return None if sum(rest) else 0.0
    shares = np.clip([record.expected for record in strata], FROM, TO)
    return expected_error(rest, [record.random for record in strata], shares, total)


def _write(
    folder: Folder[FollowupDocument],
    document: FollowupDocument,
    stars: VettedCandidates,
    rows: NDArray[np.int64],
    choice: FollowupChoice,
    dark: Darkness,
) -> list[str]:
    """Write the tables; returns their names."""
    sample, others = sample_tables(stars, rows, choice)
    about = TableInfo(
        SAMPLE,
        f"{document.search} candidates to observe from {document.site.name}, in order",
        (
            Parameter("expected_true", document.expected, "true stars to be expected", "stat.value"),
            Parameter("hours", document.hours, "hours of observation, with overheads", "time.duration"),
        ),
        document.notes,
    )
    origin = {"code": f"survey {__version__}", "catalog": document.of_id, "followup": document.id}
    export_table(sample, folder.path, about, origin)
    files.write_table(folder.file("not_chosen.parquet"), others)
    strata = pa.Table.from_pylist([record.model_dump() for record in document.strata])
    files.write_table(folder.file("strata.parquet"), strata)
    files.write_table(folder.file("tracks.parquet"), _tracks(sample, dark))
    names = [f"{SAMPLE}.{ending}" for ending in ENDINGS.values()]
    return [*names, COLUMNS_FILE, "not_chosen.parquet", "strata.parquet", "tracks.parquet"]


def _tracks(sample: pa.Table, dark: Darkness) -> pa.Table:
    """Altitudes of the first stars through the night in the middle: a row per time, a column per star."""
    nights = np.unique(dark.night_T)
    night = dark.of_night(int(nights[len(nights) // 2]))
    ra_N, dec_N = (sample[name].to_numpy()[:TRACKED] for name in ("ra", "dec"))
    altitude_NT, _ = altitudes(ra_N, dec_N, night)
    columns = {
        "utc": (night.utc_T, "timestamp[s]", "time, UTC"),
        "moon": (night.moon_2T[0], "float64", "altitude of the moon, degrees"),
    }
    columns |= {
        f"star_{number}": (altitude_T, "float64", "altitude of the star at this place of the order, degrees")
        for number, altitude_T in enumerate(altitude_NT, 1)
    }
    schema = pa.schema([described_field(name, kind, text) for name, (_, kind, text) in columns.items()])
    return pa.table({name: column for name, (column, _, _) in columns.items()}, schema=schema)
