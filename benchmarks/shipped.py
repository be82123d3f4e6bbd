"""The ensemble that comes with the program, on stars that no member was trained on: those of its validation
and its test part.

    python -m benchmarks.shipped [work=benchmarks/work/realsky]

The rows are those of `realsky.py`; weights/README.md has them. Stores that are missing are made.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks import realsky
from survey.catalog.prior import adjust
from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.line_key import read_columns
from survey.labels import CLASSES
from survey.store.store import open_store

ENSEMBLE = realsky.ROOT / "weights" / "cemp"
SURVEY = {"MP": 0.04, "CEMP": 0.0005, "NMP": 0.9595}
"""Shares of the classes in a survey."""


def predicted(work: Path, name: str) -> realsky.Predicted:
    """The answers about a store; of the training sets, only about the stars that no member was trained on."""
    ensemble, store = open_ensemble(str(ENSEMBLE)), open_store(str(work / name))
    table = realsky.spectra(work, name)
    if name in ("computed", "real"):
        apart = [not_trained(run.path) for run in ensemble.members.runs]
        table = table[np.isin(table["obsid"], sorted(set.intersection(*apart)))].reset_index(drop=True)
    places = table[["shard", "row_in_shard"]].to_numpy(np.int64)
    answers, latents = ensemble.members.predict_store(store.path, places, name)
    snr_N = read_columns(store, places, ["snr"])["snr"]
    final = ensemble.conclude(answers, latents, snr_N).answers
    assert final.p_NC is not None
    assert final.value_NL is not None
    assert final.err_NL is not None
    assert final.low_NL is not None
    assert final.high_NL is not None
    columns = [final.labels.index(label) for label in realsky.LABELS]
    other_N1 = np.full((len(places), 1), np.nan)
    if final.other_kind_N is not None:
        other_N1 = final.other_kind_N[:, None]
    half_NL = (final.high_NL - final.low_NL) / 2
    value_NL, err_NL, half_NL = (array_NL[:, columns] for array_NL in (final.value_NL, final.err_NL, half_NL))
    return realsky.Predicted(table, final.p_NC, value_NL, err_NL, half_NL, other_N1)


def not_trained(run: str) -> set[int]:
    """The observations of the stars that a run was not trained on."""
    table = pq.read_table(Path(run) / "samples.parquet", columns=["part", "extra_obsid"]).to_pandas()
    return set(table.loc[table.part != "train", "extra_obsid"].dropna().astype(int))


def repeat_rows(place: Path, predicted: realsky.Predicted) -> dict[str, str]:
    """How far two visits of a LAMOST star are apart: the first two of each star, in sigmas and by scatter."""
    store = open_store(str(place / "lamost"))
    stars = np.concatenate(
        [
            store.spectra(shard, ["star"])["star"].to_numpy(zero_copy_only=False)
            for shard in range(store.shards)
        ]
    )
    by_star: dict[str, list[int]] = {}
    for row, star in enumerate(stars):
        by_star.setdefault(star, []).append(row)
    kinds = predicted.table["subclass"].fillna("").str[:1].to_numpy()
    first, second = np.array([rows[:2] for rows in by_star.values() if len(rows) > 1]).T
    ordinary = np.isin(kinds[first], ["F", "G", "K"])
    first, second = first[ordinary], second[ordinary]
    rows = {"LAMOST: pairs of visits of F, G, K stars": str(len(first))}
    for number, label in enumerate(realsky.LABELS):
        apart = predicted.value_NL[first, number] - predicted.value_NL[second, number]
        sigma = np.hypot(predicted.err_NL[first, number], predicted.err_NL[second, number])
        within, scatter = (np.abs(apart) <= sigma).mean(), realsky.robust(apart) / np.sqrt(2)
        rows[f"... {label}: within one sigma of the difference; scatter of one visit"] = (
            f"{within:.0%}; {scatter:.3g}"
        )
    return rows


def cemp_scores(predicted: realsky.Predicted, assumed_C: np.ndarray, kinds_apart: bool) -> np.ndarray:
    """The probability of being CEMP with the class shares of `SURVEY`; stars of other kinds apart from the
    classes, or as a part of NMP, as it was until 2026-12-01."""
    p_NC = predicted.p_NC.copy()
    if kinds_apart:
        p_NC[:, CLASSES.index("NMP")] -= np.nan_to_num(predicted.other_N1[:, 0])
    return adjust(p_NC.clip(0), assumed_C, [SURVEY[name] for name in CLASSES])[:, CLASSES.index("CEMP")]


def cemp_rows(sets: dict[str, realsky.Predicted]) -> dict[str, str]:
    """Who is above the threshold that finds half of the computed CEMP stars, by both rules."""
    groups: dict[str, realsky.Predicted] = {}
    for name in ("computed", "direct"):
        class_N = class_numbers_of(sets[name])
        groups |= {f"{name} {kind}": sets[name].at(class_N == CLASSES.index(kind)) for kind in CLASSES}
    real, lamost = sets["real"], sets["lamost"]
    teff_N = real.table["Teff"].to_numpy()
    groups["real, 4,000 to 7,000 K"] = real.at((teff_N > 4000) & (teff_N < 7000))
    groups["real, hotter than 7,500 K or M"] = real.at((teff_N > 7500) | (teff_N < 3900))
    groups["LAMOST files"] = lamost
    counts = np.bincount(class_numbers_of(sets["computed"]), minlength=len(CLASSES))
    rows = {}
    for text, apart in (("kinds in NMP", False), ("kinds apart", True)):
        scores = {name: cemp_scores(group, counts / counts.sum(), apart) for name, group in groups.items()}
        threshold = np.median(scores["computed CEMP"])
        for name, score_N in scores.items():
            count = f"{(score_N >= threshold).sum()} of {len(score_N)}"
            rows[f"CEMP cut, {text}: {name}"] = count
    return rows


def class_numbers_of(predicted: realsky.Predicted) -> np.ndarray:
    """The true class of each star."""
    named = {name: number for number, name in enumerate(CLASSES)}
    return predicted.table["class"].map(lambda value: named.get(value, value)).to_numpy(np.int64)


def main(work: str = "") -> None:
    """Print the table."""
    place = Path(work or realsky.ROOT / "benchmarks" / "work" / "realsky")
    realsky.make_stores(place)
    sets = {name: predicted(place, name) for name in ("real", "lamost", "computed", "direct")}
    parts = [realsky.real_rows(sets["real"]), realsky.lamost_rows(sets["lamost"])]
    parts.append(repeat_rows(place, sets["lamost"]))
    parts += [realsky.computed_rows(sets[name], name) for name in ("computed", "direct")]
    parts.append(cemp_rows(sets))
    sys.stdout.write("| the shipped ensemble | |\n| --- | --- |\n")
    for rows in parts:
        sys.stdout.writelines(f"| {name} | {value} |\n" for name, value in rows.items())


if __name__ == "__main__":
    main(**dict(argument.split("=", 1) for argument in sys.argv[1:]))
