"""The names that LAMOST's catalogues give to columns of ours, for scripts that read such catalogues.

This is the one place for these names: `columns.csv` shows them, and with `names=lamost` the exported lists
have them.
"""

from collections.abc import Sequence

import pyarrow as pa

from survey.catalog.settings import ColumnNames

LAMOST_NAMES = {
    "star": "designation",
    "velocity": "rv",
    "snr_u": "snru",
    "snr_g": "snrg",
    "snr_r": "snrr",
    "snr_i": "snri",
    "snr_z": "snrz",
    "fiber_mask": "fibermask",
    "release": "data_v",
    "Teff": "teff",
    "Teff_err": "teff_err",
    "logg": "logg",
    "logg_err": "logg_err",
    "FeH": "feh",
    "FeH_err": "feh_err",
    "rv": "rv",
    "rv_err": "rv_err",
    **{name: name for name in ("obsid", "ra", "dec", "lmjd", "planid", "spid", "fiberid")},
    **{name: name for name in ("class", "subclass", "z", "z_err")},
}
"""Our column and LAMOST's name. Columns that are not here have no counterpart in LAMOST's catalogues."""


def exported_names(columns: Sequence[str], names: ColumnNames) -> list[str]:
    """The names of exported columns, in order.

    If two columns would have one name (a predicted `rv` and the velocity of the survey), the one that has the
    name already keeps it, and the other one keeps its own.
    """
    if names == "survey":
        return list(columns)
    new = {name: LAMOST_NAMES.get(name, name) for name in columns}
    return [name if target != name and target in columns else target for name, target in new.items()]


def with_lamost_names(columns: pa.Table) -> pa.Table:
    """The table of columns with LAMOST's name of each, empty if it has none."""
    names = [LAMOST_NAMES.get(name, "") for name in columns["name"].to_pylist()]
    return columns.append_column("lamost_name", pa.array(names, pa.string()))
