"""Observatories with their coordinates, so that no list has to be downloaded.

Longitudes are degrees east, latitudes degrees north (WGS 84), heights metres. They are good to some hundred
metres, which changes no altitude of a star by more than 0.01 degrees.
"""

import re
from dataclasses import dataclass

from survey.settings import SettingsError, similar


@dataclass(frozen=True)
class Site:
    """A place from which stars are observed."""

    name: str
    longitude: float
    latitude: float
    height: float


SITES = (
    Site("Xinglong", 117.5750, 40.3956, 960),
    Site("Lijiang", 100.0300, 26.6951, 3193),
    Site("Lenghu", 93.8953, 38.6068, 4200),
    Site("La Palma", -17.8792, 28.7606, 2326),
    Site("Calar Alto", -2.5463, 37.2236, 2168),
    Site("Observatoire de Haute-Provence", 5.7133, 43.9317, 650),
    Site("Paranal", -70.4042, -24.6272, 2635),
    Site("La Silla", -70.7317, -29.2567, 2347),
    Site("Las Campanas", -70.6920, -29.0146, 2380),
    Site("Cerro Tololo", -70.8150, -30.1650, 2215),
    Site("Cerro Pachon", -70.7366, -30.2407, 2722),
    Site("Mauna Kea", -155.4681, 19.8207, 4205),
    Site("Keck", -155.4747, 19.8260, 4145),
    Site("Subaru", -155.4761, 19.8255, 4139),
    Site("Gemini North", -155.4690, 19.8238, 4213),
    Site("Gemini South", -70.7367, -30.2407, 2722),
    Site("SALT", 20.8107, -32.3760, 1798),
    Site("Siding Spring", 149.0672, -31.2754, 1164),
    Site("Palomar", -116.8650, 33.3563, 1706),
    Site("Lick", -121.6429, 37.3414, 1283),
    Site("Kitt Peak", -111.5967, 31.9583, 2096),
    Site("Apache Point", -105.8203, 32.7803, 2788),
    Site("McDonald", -104.0217, 30.6717, 2075),
    Site("Mount Graham", -109.8891, 32.7013, 3221),
    Site("Hanle", 78.9642, 32.7794, 4500),
    Site("Nainital", 79.6847, 29.3617, 2424),
    Site("Okayama", 133.5967, 34.5761, 372),
)
OTHER_NAMES = {
    "aao": "Siding Spring",
    "aat": "Siding Spring",
    "apo": "Apache Point",
    "ctio": "Cerro Tololo",
    "eso": "Paranal",
    "gemini n": "Gemini North",
    "gemini s": "Gemini South",
    "gtc": "La Palma",
    "het": "McDonald",
    "int": "La Palma",
    "lamost": "Xinglong",
    "lbt": "Mount Graham",
    "lco": "Las Campanas",
    "magellan": "Las Campanas",
    "maunakea": "Mauna Kea",
    "naoc": "Xinglong",
    "ohp": "Observatoire de Haute-Provence",
    "roque de los muchachos": "La Palma",
    "sutherland": "SALT",
    "vlt": "Paranal",
    "wht": "La Palma",
}
"""Telescopes and short names, in lower case, with the site that they are at."""


def find_site(text: str) -> Site:
    """The site of this name, or at these coordinates (longitude, latitude, height)."""
    if re.match(r"\s*[-+\[(]?\s*[-+.\d]", text):
        return _place(text)
    key = " ".join(re.split(r"[\s_-]+", text.strip().lower()))
    names = {re.sub(r"[\s-]+", " ", site.name.lower()): site for site in SITES}
    names |= {other: names[re.sub(r"[\s-]+", " ", name.lower())] for other, name in OTHER_NAMES.items()}
    if key not in names:
        raise SettingsError(
            f"followup: site: {text!r}: there is no such site in the program; "
            f"{similar(key, [site.name for site in SITES])} Or give longitude,latitude,height, such as "
            "site=117.58,40.40,960"
        )
    return names[key]


def _place(text: str) -> Site:
    """A site from its coordinates."""
    parts = [part for part in re.split(r"[\s,;]+", text.strip("[]() ")) if part]
    try:
        longitude, latitude, height = (float(part) for part in parts)
    except ValueError:
        raise SettingsError(
            f"followup: site: {text!r}: are not three numbers; give longitude,latitude,height, such as "
            "site=117.58,40.40,960"
        ) from None
    if not (-180 <= longitude <= 360 and -90 <= latitude <= 90 and -500 <= height <= 9000):
        raise SettingsError(
            f"followup: site: {text!r}: is no place on the Earth; give the longitude in degrees east, the "
            "latitude in degrees north, the height in metres"
        )
    return Site(text, (longitude + 180) % 360 - 180, latitude, height)
