"""The lines and bands that are marked in plots of spectra: names and vacuum wavelengths (angstrom)."""

LINES = {
    "Ca K": 3934.8,
    "Ca H": 3969.6,
    "Hδ": 4102.9,
    "Ca I": 4227.9,
    "Hγ": 4341.7,
    "Hβ": 4862.7,
    "Mg b": 5174.1,
    "Fe I": 5271.0,
    "Na D": 5894.6,
    "Hα": 6564.6,
    "Ca T": 8544.4,
}
CARBON = {
    "CN 3883": (3847.1, 3884.5),
    "CN 4215": (4143.3, 4217.2),
    "CH G": (4282.6, 4317.6),
    "C₂ 4737": (4621.3, 4738.4),
    "C₂ 5165": (5061.4, 5166.6),
    "C₂ 5636": (5501.5, 5637.1),
}
"""Bands of carbon molecules: both ends."""

TELLURIC = {
    "O₂ B": (6868.9, 6945.9),
    "H₂O": (7162.0, 7342.0),
    "O₂ A": (7596.1, 7702.1),
    "H₂O ": (8132.2, 8352.3),
}
"""Bands of the Earth's atmosphere, at rest in the observed frame."""
