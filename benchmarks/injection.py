"""Injection and recovery: carbon is put into spectra of metal-poor stars that a network has not seen. Does it
find the carbon, and does its [Fe/H] stay?

    python -m benchmarks.injection [net=prism] [use=5] [variant=more] [work=FOLDER]

Uses the runs of `benchmarks/realsky.py` with the same settings, which must be finished. The light of real
stars is real, and the networks know carbon from computed stars only: if it is found in real stars as in
computed ones, the search carries over. Spectra change as those of computed stars change with carbon, by the
spectral model of `survey.training.synthesis`. The carbon of real stars is not known, and taken as [C/Fe] = 0.
"""

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

from benchmarks.realsky import INPUTS, ROOT, of_fold, spectra, test_spectra
from survey.ensemble.calibrated_run import calibrated
from survey.ensemble.drawn_stars import BEFORE
from survey.ensemble.ensemble import Ensemble, open_ensemble
from survey.ensemble.line_key import read_columns
from survey.labels import CLASSES
from survey.store.store import open_store
from survey.training.batches import read_spectra
from survey.training.synthesis import SpectralModel

NAMES = ["Teff", "logg", "FeH", "CFe"]
CARBON = (0.0, 0.4, 0.7, 1.0, 1.5, 2.0)
LEAST_SNR = 20.0
PORTION = 1000


def stars(work: Path, name: str) -> pd.DataFrame:
    """The spectra of a store with all labels; the carbon of real stars is assumed where it is not known."""
    carbon = pq.read_table(INPUTS[name], columns=["obsid", "CFe"]).to_pandas()
    table = spectra(work, name).merge(carbon, on="obsid")
    return table.assign(CFe=table["CFe"].fillna(BEFORE)) if name == "real" else table


def spectral_model(work: Path) -> SpectralModel:
    """How computed spectra follow from labels."""
    table = stars(work, "computed").dropna(subset=NAMES)
    places = table[["shard", "row_in_shard"]].to_numpy(np.int64)
    read = read_spectra(open_store(str(work / "computed")), places)
    parts = [slice(start, start + PORTION) for start in range(0, len(read), PORTION)]
    return SpectralModel.fit(
        table[NAMES].to_numpy(float), ((read.flux[at], read.ivar[at]) for at in parts), 3
    )


def answers(
    work: Path, name: str, ensemble: Ensemble, model: SpectralModel, unseen: set[int]
) -> Iterator[dict[str, Any]]:
    """For each [C/Fe], what an ensemble says of metal-poor stars with a good signal to noise."""
    table, store = stars(work, name), open_store(str(work / name))
    label_NI = table[NAMES].to_numpy(float)
    inside_N = ((label_NI >= model.low_I.numpy()) & (label_NI <= model.high_I.numpy())).all(1)
    poor_N = (table["FeH"] < -1).to_numpy() & (table["CFe"] < 0.7).to_numpy()
    table = table[inside_N & poor_N & np.isin(table["obsid"], sorted(unseen))]
    places = table[["shard", "row_in_shard"]].to_numpy(np.int64)
    snr_N = read_columns(store, places, ["snr"])["snr"]
    table, places = table[snr_N >= LEAST_SNR], places[snr_N >= LEAST_SNR]
    before, read = torch.from_numpy(table[NAMES].to_numpy(float)), read_spectra(store, places)
    for carbon in CARBON:
        after = before.clone()
        after[:, NAMES.index("CFe")] = carbon
        said = ensemble.predict(model.change(read, before, after), snr_N[snr_N >= LEAST_SNR]).answers
        assert said.p_NC is not None
        assert said.value_NL is not None
        label = {name: said.value_NL[:, said.labels.index(name)] for name in ("FeH", "CFe")}
        yield {"carbon": carbon, "cemp": said.p_NC.argmax(1) == CLASSES.index("CEMP"), **label}


def main(net: str = "prism", use: str = "5", variant: str = "more", work: str = "") -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder = Path(work) if work else ROOT / "benchmarks" / "work" / "realsky"
    model = spectral_model(folder)
    print(
        f"| {net}, {use} folds; [C/Fe] after injection | "
        + " | ".join(f"{value:g}" for value in CARBON)
        + " |"
    )
    print("| --- " * (1 + len(CARBON)) + "|")
    for name in ("real", "computed"):
        rows: list[dict[str, Any]] = []
        for fold in range(int(use)):
            runs = of_fold(folder, net, variant, fold)
            names = [runs[0], *(Path(run).name for run in runs[1:])]
            ensemble = open_ensemble(calibrated("+".join(names), 1, gpu=False))
            rows += answers(folder, name, ensemble, model, test_spectra(runs[0]))
        said = pd.concat(map(pd.DataFrame, rows)).groupby("carbon")
        print(f"| {name}: spectra | " + " | ".join(f"{count:,}" for count in said.size()) + " |")
        print("| ... called CEMP | " + " | ".join(f"{share:.0%}" for share in said["cemp"].mean()) + " |")
        print(
            "| ... [C/Fe] said, median | "
            + " | ".join(f"{value:.2f}" for value in said["CFe"].median())
            + " |"
        )
        shift = said["FeH"].median() - said["FeH"].median().iloc[0]
        print("| ... change of [Fe/H], median | " + " | ".join(f"{value:+.2f}" for value in shift) + " |")


if __name__ == "__main__":
    main(**dict(item.split("=", 1) for item in sys.argv[1:]))
