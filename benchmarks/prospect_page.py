"""A page of prospect (DESI) with spectra of a store, for benchmarks/pages.py.

    PYTHON benchmarks/prospect_page.py SPECTRA.npz PAGE.html

Runs in an environment of its own: `pip install bokeh specutils pandas matplotlib`, and prospect 2.x from
https://github.com/desihub/prospect (its folder py/ in PYTHONPATH). SPECTRA.npz holds wave (P), flux and ivar
(N, P). Bokeh's code is put into the page (BOKEH_RESOURCES=inline), because it is opened without a network.
"""

import os
import sys

os.environ["BOKEH_RESOURCES"] = "inline"
import numpy as np
from astropy.table import Table
from prospect.specutils import Spectra
from prospect.viewer import plotspectra

data = np.load(sys.argv[1])
count = len(data["flux"])
fibermap = Table({
    "TARGETID": np.arange(count),
    "TARGET_RA": np.zeros(count),
    "TARGET_DEC": np.zeros(count),
    "DESI_TARGET": np.ones(count, int),
    "MORPHTYPE": ["PSF"] * count,
    "EBV": np.zeros(count),
    "PHOTSYS": ["N"] * count,
    **{f"FLUX_{band}": np.ones(count) for band in ("G", "R", "Z", "W1", "W2")},
})  # fmt: skip
spectra = Spectra(
    ["b"],
    {"b": data["wave"]},
    {"b": data["flux"]},
    {"b": data["ivar"]},
    mask={"b": np.zeros(data["flux"].shape, int)},
    fibermap=fibermap,
)
plotspectra(
    spectra,
    outfile=sys.argv[2],
    title="page",
    mask_type=None,
    with_imaging=False,
    with_thumb_tab=False,
    with_coaddcam=False,
    with_other_model=False,
    model_from_zcat=False,
    top_metadata=["TARGETID"],
)
