"""SDSS: spectra by plate, mjd and fibre from the Science Archive Server (DR16 and later), and cut-outs.

The folder of a spectrum follows from the version of its reduction (RUN2D): 26, 103 and 104 are those of SDSS
and SEGUE, v5_... those of BOSS and eBOSS. From DR18 on, all lie in one tree. Where a catalogue has no RUN2D,
and where a file is not where it should be, the other folders are tried.
"""

import re
from collections.abc import Iterator
from typing import ClassVar, Literal
from urllib.parse import urlencode

from pydantic import Field

from survey.archives.addresses import BaseAddress
from survey.archives.targets import (
    CATALOGUES,
    BadRowError,
    Form,
    Row,
    WantedFile,
    catalogue_name,
    image_name,
    integer,
    position,
    position_of_id,
)
from survey.settings import Settings
from survey.sources import fits, sdss
from survey.sources.reading import unpack
from survey.sources.visit import number_or_none
from survey.spectrum import Refused

TOKEN = ""
NEEDED = {
    "plate": ("plate", "plateid"),
    "mjd": ("mjd",),
    "fiberid": ("fiberid", "fiber"),
    "run2d": ("run2d",),
}
OPTIONAL = ("run2d", "name")
NEEDED_OF_IMAGES = {
    "ra": ("ra", "plug_ra", "raj2000"),
    "dec": ("dec", "plug_dec", "dej2000"),
    "name": ("name", "objid", "bestobjid", "specobjid", "uid"),
}

LEGACY_RUNS = ("26", "103", "104")
"""The reductions of SDSS and of SEGUE."""
BOSS_RUNS = {16: "v5_13_0"}
LAST_BOSS_RUN = "v5_13_2"
"""The reduction of BOSS and eBOSS spectra in DR17 and later."""
ONE_TREE = 18
"""From this release on, all reductions lie in one tree."""


class Options(Settings):
    """Which of SDSS's data."""

    NOT_IN_RESULT: ClassVar[frozenset[str]] = frozenset({"base"})

    product: Literal["spectra", "images"] = Field("spectra", description="spectra, or JPEG cut-outs")
    base: BaseAddress | None = Field(
        None,
        description="address of the archive or of a mirror; null = https://data.sdss.org/sas for spectra, "
        "https://skyserver.sdss.org for images",
    )
    release: int = Field(17, ge=16, le=99, description="data release, from 16 on")
    files: Literal["lite", "full"] = Field(
        "lite", description="lite = co-added spectra; full = with single exposures, ten times larger"
    )
    scale: float = Field(0.2, gt=0, le=100, description="arcseconds per pixel of a cut-out")
    size: int = Field(128, ge=8, le=2048, description="pixels of a side of a cut-out")


DEFAULT_BASES = {"spectra": "https://data.sdss.org/sas", "images": "https://skyserver.sdss.org"}


def base_of(options: Options) -> str:
    """The address of the archive."""
    return options.base or DEFAULT_BASES[options.product]


def is_image(options: Options) -> bool:
    """Whether the files are images of objects."""
    return options.product == "images"


def needed(options: Options) -> dict[str, tuple[str, ...]]:
    """The columns that name a file."""
    return NEEDED_OF_IMAGES if options.product == "images" else NEEDED


def from_id(text: str, options: Options) -> Row:
    """PLATE-MJD-FIBER or PLATE-MJD-FIBER-RUN2D; of a cut-out, a position."""
    if options.product == "images":
        return position_of_id(text)
    parts = text.split("-")
    if len(parts) not in (3, 4):
        raise BadRowError(f"{text!r}: is no id; give PLATE-MJD-FIBER, such as 266-51602-1")
    return dict(zip(NEEDED, parts, strict=False))


def target(row: Row, options: Options) -> WantedFile:
    """The spectrum of a fibre, or the cut-out around a position."""
    if options.product == "images":
        return _image(row, options)
    plate, mjd = integer(row, "plate", 1, 99_999), integer(row, "mjd", 1, 99_999)
    fiber = integer(row, "fiberid", 1, 9_999)
    run = re.sub(r"\.0*$", "", (row.get("run2d") or "").strip())
    if run and not re.fullmatch(r"\w{1,20}", run):
        raise BadRowError(f"run2d = {run}: is no version of a reduction, such as v5_13_2 or 26")
    name = f"spec-{plate:04d}-{mjd:05d}-{fiber:04d}.fits"
    forms = tuple(
        Form(f"{base_of(options)}/dr{options.release}/{folder}/{plate:04d}/{name}", folder)
        for folder in dict.fromkeys(_folders(run, options))
    )
    key = f"{plate}-{mjd}-{fiber}" + (f"-{run}" if run else "")
    return WantedFile(key, forms, group=str(plate))


def _folders(run: str, options: Options) -> Iterator[str]:
    """The folders of a spectrum, the most probable first."""
    boss = BOSS_RUNS.get(options.release, LAST_BOSS_RUN)
    for current in dict.fromkeys(filter(None, (run, boss, *LEGACY_RUNS))):
        is_legacy = current in LEGACY_RUNS
        if options.release >= ONE_TREE:
            tree = "spectro/sdss/redux"
        else:
            tree = "sdss/spectro/redux" if is_legacy else "eboss/spectro/redux"
        yield f"{tree}/{current}/spectra/{options.files}"
        if is_legacy and options.files == "full":
            yield f"{tree}/{current}/spectra"


def _image(row: Row, options: Options) -> WantedFile:
    ra, dec = position(row)
    side = str(options.size)
    pairs = {
        "ra": f"{ra:.7f}",
        "dec": f"{dec:.7f}",
        "scale": f"{options.scale:g}",
        "width": side,
        "height": side,
    }
    address = f"{base_of(options)}/dr{options.release}/SkyServerWS/ImgCutout/getjpeg?{urlencode(pairs)}"
    path = image_name(row, ".jpg")
    return WantedFile(path.removesuffix(".jpg"), (Form(address),), path=path)


def path(target: WantedFile, form: Form, suggested: str, data: bytes) -> str:
    """Spectra lie by reduction and plate: two reductions of one fibre have the same name."""
    del suggested, data
    if target.path:
        return target.path
    run = form.label.split("/redux/")[1].split("/")[0]
    plate, name = form.address.rsplit("/", 2)[1:]
    return f"{run}/{plate}/{name}"


def circle(ra: float, dec: float, radius: float, options: Options) -> str:
    """This archive is not asked for positions here."""
    del ra, dec, radius, options
    return ""


def catalogue(name: str, options: Options) -> WantedFile:
    """A catalogue of spectra, such as specObj-dr17.fits."""
    name = catalogue_name(name)
    trees = (
        ("spectro/sdss/redux", "spectro/boss/redux")
        if options.release >= ONE_TREE
        else ("sdss/spectro/redux",)
    )
    forms = tuple(Form(f"{base_of(options)}/dr{options.release}/{tree}/{name}", tree) for tree in trees)
    return WantedFile(f"{CATALOGUES}/{name}", forms, path=f"{CATALOGUES}/{name}", is_catalogue=True)


def problem(target: WantedFile, name: str, data: bytes, options: Options) -> str:
    """Why the bytes are no spectrum of this fibre; empty if they are, also of the sky."""
    if options.product == "images":
        return ""
    hdus = fits.parse(unpack(data))
    try:
        spectra = sdss.read(hdus, name, sdss.Options())
    except Refused as refused:
        return refused.detail if refused.reason == "unknown_layout" else ""
    if spectra is None:
        return f"no spectrum of SDSS, but {hdus.summary()}"
    cards = hdus[0].cards
    found = [number_or_none(cards.get(card)) for card in ("PLATEID", "MJD", "FIBERID")]
    asked = [int(part) for part in target.key.split("-")[:3]]
    wrong = [f"{have}" for have, want in zip(found, asked, strict=True) if have is not None and have != want]
    return f"is the file of another fibre ({', '.join(wrong)} in its header)" if wrong else ""


def expected_bytes(options: Options) -> int:
    """Bytes of a file: lite spectra are 150 to 250 kB."""
    if options.product == "images":
        return options.size**2 // 4 + 2_000
    return 200_000 if options.files == "lite" else 3_000_000
