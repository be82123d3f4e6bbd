"""The names that tables of spectra and HDF5 files may use for what they say of a visit."""

from collections.abc import Sequence

from survey.tables.columns import STAR_COLUMNS, z_is_magnitude

ALIASES = {
    "visit": ("visit", "combined_file", "filename", "file", "file_name"),
    "star": (*STAR_COLUMNS, "combined_desig"),
    "obsid": ("obsid", "combined_obsid"),
    "release": ("release", "data_v"),
    "ra": ("ra", "combined_ra", "ra_obs"),
    "dec": ("dec", "combined_dec", "dec_obs"),
    "lmjd": ("lmjd", "combined_lmjd"),
    "planid": ("planid", "combined_planid"),
    "spid": ("spid", "combined_spid"),
    "fiberid": ("fiberid", "combined_fiberid"),
    "fiber_mask": ("fiber_mask", "fibermask", "fibermas", "fib_mask"),
    "class": ("class", "combined_class"),
    "subclass": ("subclass", "combined_subclass", "sptype", "spectral_type"),
    "rv": ("rv", "combined_rv", "radial_velocity", "helio_rv", "heliocentric_rv", "rv_helio", "vhelio"),
    "z": ("redshift", "z", "combined_z"),
    "z_err": ("z_err", "combined_z_err"),
    **{f"snr_{band}": (f"snr_{band}", f"snr{band}", f"sn_{band}", f"combined_snr{band}") for band in "ugriz"},
    **{name: (name,) for name in ("gaia_source_id", "mag_g", "mag_r", "mag_i", "mag_gaia", "mag_system")},
}
"""The names, in any case, that a table may use for a column of a visit. The first one in the table counts."""


def visit_columns(names: Sequence[str]) -> list[tuple[str, str]]:
    """The columns of a visit and those of the table that hold them. A `z` that is a magnitude is left out.

    A star may be named twice: the better name comes last, so that it counts where there is one.
    """
    by_lower = {name.lower(): name for name in names}
    if z_is_magnitude(names):
        del by_lower["z"]
    columns = []
    for column, aliases in ALIASES.items():
        matching = [by_lower[alias] for alias in aliases if alias in by_lower]
        columns += [(column, name) for name in reversed(matching[: 2 if column == "star" else 1])]
    return columns
