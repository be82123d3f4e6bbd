"""What the three checks of a catalog show: how many CEMP stars there can be, what passes the cut where no
star of the list can be, and what is found of real stars that carbon was put into. Lines of the summary, and a
picture.
"""

from collections.abc import Callable
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from survey.catalog.catalog import CatalogResult
from survey.catalog.document import CatalogDocument, FrequencyRecord, MirrorRecord, RecoveryRecord
from survey.catalog.settings import LIST_NAMES
from survey.reports.style import BLUE, GREY, INK, RED, png

LIST_COLORS = {"MP": BLUE, "CEMP": RED}


def check_lines(document: CatalogDocument) -> list[str]:
    """The checks in words."""
    lines = []
    frequency = document.frequency
    if frequency and document.candidates["MP"]:
        mp = sum(bin_.mp for bin_ in frequency.bins)
        lines.append(
            f"can be     {frequency.fewest:,.0f} to {frequency.most:,.0f} CEMP stars among the {mp:,} stars "
            f"of the MP list, by published frequencies; {frequency.listed:,} are listed"
        )
    for name in LIST_NAMES:
        records = [record for record in document.mirror if record.search == name]
        if records:
            title = "mirror" if name == LIST_NAMES[0] else ""
            texts = ", ".join(f"{record.passed:,} of {record.n:,} {_group(record)}" for record in records)
            listed = sum(record.listed for record in records if record.group != "blanked")
            text = f"the {name} cut, flags ignored, where none can be: {texts}; {listed:,} stars are listed"
            lines.append(f"{title:<10} {text}")
    if document.recovery:
        found = ", ".join(f"{_carbon(record)} {record.share.value:.0%}" for record in document.recovery)
        stars = max(record.stars for record in document.recovery)
        lines.append(f"recovery   carbon put into {stars:,} real metal-poor stars; listed by [C/Fe]: {found}")
    return lines


def _carbon(record: RecoveryRecord) -> str:
    return f"{record.low:g} to {record.high:g}"


def _group(record: MirrorRecord) -> str:
    return record.group.replace("_", " ")


def plot_checks(result: CatalogResult) -> bytes | None:
    """CEMP stars by [Fe/H] against what can be, and shares that pass the cuts; None without any of them."""
    document, parts = result.document, list[Callable[[Axes], None]]()
    if document.frequency and any(bin_.mp for bin_ in document.frequency.bins):
        parts.append(partial(_draw_frequency, frequency=document.frequency))
    if document.mirror:
        parts.append(partial(_draw_mirror, mirror=document.mirror))
    if document.recovery:
        parts.append(partial(_draw_recovery, recovery=document.recovery))
    if not parts:
        return None

    def draw(figure: Figure) -> None:
        for axis, part in zip(figure.subplots(1, len(parts), squeeze=False).flat, parts, strict=True):
            part(axis)

    return png(draw, 0.4 + 5.8 * len(parts), 4.2)


def _draw_frequency(axis: Axes, frequency: FrequencyRecord) -> None:
    """For each bin in [Fe/H] the range that can be, and the stars of the CEMP list."""
    for place, bin_ in enumerate(frequency.bins):
        least, most = bin_.mp * bin_.least, bin_.mp * bin_.most
        axis.bar(place, most - least, bottom=least, width=0.7, color=GREY, alpha=0.5)
        is_long = bin_.cemp > most + 2 * most**0.5
        axis.plot(place, bin_.cemp, "o", color=RED if is_long else BLUE, ms=7)
        axis.annotate(f"{bin_.cemp:,} of {bin_.mp:,}", (place, bin_.cemp), (6, 5), textcoords="offset points")
    names = [_bin_text(bin_.low, bin_.high) for bin_ in frequency.bins]
    axis.set_xticks(range(len(names)), names)
    axis.set(xlabel="[Fe/H] (dex)", ylabel="stars", xlim=(-0.6, len(names) - 0.2), ylim=(0, None))
    axis.set_title(
        f"points: CEMP list of MP list, {frequency.listed:,} stars; grey: can be\n"
        f"all bins: {frequency.fewest:,.0f} to {frequency.most:,.0f} can be"
    )


def _bin_text(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    if low is None:
        return "all" if high is None else f"< {high:g}"
    return f"> {low:g}"


def _draw_mirror(axis: Axes, mirror: tuple[MirrorRecord, ...]) -> None:
    """The share of each group that passes the cut of each list, with its interval."""
    groups = list(dict.fromkeys(record.group for record in mirror))
    for record in mirror:
        place = groups.index(record.group) + (-0.15 if record.search == "MP" else 0.15)
        share, low, high = record.share.value, record.share.low, record.share.high
        if share is None or low is None or high is None:
            continue
        color = LIST_COLORS[record.search]
        axis.errorbar([share], [place], xerr=[[share - low], [high - share]], fmt="o", color=color, capsize=2)
        text = f" {record.search}: {record.passed:,} of {record.n:,}"
        axis.annotate(text, (high, place), fontsize=8, va="center", color=INK)
    axis.set_yticks(range(len(groups)), [group.replace("_", " ") for group in groups])
    axis.set(
        xlabel="share that passes the cut, flags ignored (95 % interval)", ylim=(len(groups) - 0.5, -0.5)
    )
    axis.set_xlim(-0.01, 1.35 * max(record.share.high or 0.0 for record in mirror) + 0.02)
    axis.set_title("where no star of a list can be; blue: MP cut, red: CEMP cut")


def _draw_recovery(axis: Axes, recovery: tuple[RecoveryRecord, ...]) -> None:
    """The share of the stars with added carbon that is in the CEMP list, with its interval, by [C/Fe]."""
    for place, record in enumerate(recovery):
        share, low, high = record.share.value, record.share.low, record.share.high
        if share is None or low is None or high is None:
            continue
        axis.errorbar([place], [share], yerr=[[share - low], [high - share]], fmt="o", color=RED, capsize=2)
        text, offset = f"{record.listed:,} of {record.n:,}", (6, 4)
        axis.annotate(text, (place, share), offset, textcoords="offset points", fontsize=8, color=INK)
    axis.set_xticks(range(len(recovery)), list(map(_carbon, recovery)))
    axis.set(xlabel="[C/Fe] after injection (dex)", ylabel="share in the CEMP list", ylim=(-0.05, 1.08))
    axis.set_xlim(-0.5, len(recovery))
    stars = max(record.stars for record in recovery)
    axis.set_title(f"carbon put into {stars:,} real metal-poor stars\nof unknown carbon (95 % intervals)")
