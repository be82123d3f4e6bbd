"""The ensemble that comes with the program, on stars that no member was trained on: those of its validation
and its test part.

    python benchmarks/shipped.py [work=benchmarks/work/realsky]

The rows are those of `realsky.py`; weights/README.md has them. Stores that are missing are made.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import realsky

from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.line_key import read_columns
from survey.store.store import open_store

ENSEMBLE = realsky.ROOT / "weights" / "cemp"


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
    labels = (array_NL[:, columns] for array_NL in (final.value_NL, final.err_NL, half_NL))
    return realsky.Predicted(table, final.p_NC, *labels, other_N1)


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


def main(work: str = "") -> None:
    """Print the table."""
    place = Path(work or realsky.ROOT / "benchmarks" / "work" / "realsky")
    realsky.make_stores(place)
    lamost = predicted(place, "lamost")
    parts = [realsky.real_rows(predicted(place, "real")), realsky.lamost_rows(lamost)]
    parts.append(repeat_rows(place, lamost))
    parts += [realsky.computed_rows(predicted(place, name), name) for name in ("computed", "direct")]
    sys.stdout.write("| the shipped ensemble | |\n| --- | --- |\n")
    for rows in parts:
        sys.stdout.writelines(f"| {name} | {value} |\n" for name, value in rows.items())


if __name__ == "__main__":
    main(**dict(argument.split("=", 1) for argument in sys.argv[1:]))
