"""LAMOST: spectra by obsid, of any data release and version, and catalogues by name.

The archive has two ways of writing an address: the interface for programs (openapi), and the pages. Releases
before the eighth have hosts of their own and the second way only: for DR5, give
``options={base: http://dr5.lamost.org, release: dr5, version: v3, forms: [FORM]}``, and as FORM
``{base}/{version}/spectrum/fits/{obsid}``.
"""

import re
from typing import Any, ClassVar, Literal
from urllib.parse import quote

from pydantic import Field, field_validator

from survey.archives.addresses import BaseAddress
from survey.archives.targets import (
    CATALOGUES,
    BadRowError,
    Form,
    Row,
    WantedFile,
    catalogue_name,
    fill,
    integer,
    safe_name,
    unknown_fields,
)
from survey.settings import Settings
from survey.sources import fits, lamost
from survey.sources.reading import unpack
from survey.sources.visit import number_or_none, text_or_none
from survey.spectrum import Refused

TOKEN = "LAMOST_TOKEN"  # noqa: S105 - the name of a variable
NEEDED = {
    "obsid": ("obsid", "obs_id", "catalogue_obsid", "med_catalogue_obsid"),
    "lmjd": ("lmjd", "catalogue_lmjd", "med_catalogue_lmjd"),
    "planid": ("planid", "catalogue_planid", "med_catalogue_planid"),
    "spid": ("spid", "catalogue_spid", "med_catalogue_spid"),
    "fiberid": ("fiberid", "catalogue_fiberid", "med_catalogue_fiberid"),
}
OPTIONAL = ("lmjd", "planid", "spid", "fiberid")
"""Without these columns, the answer or the header says what a file is called."""

FIELDS = {"base", "release", "version", "resolution", "med", "obsid"}
FORMS = (
    "{base}/openapi/{release}/{version}/{resolution}/spectrum/fits?obsid={obsid}",
    "{base}/{release}/{version}/{med}spectrum/fits/{obsid}",
)


class Options(Settings):
    """Which of LAMOST's data."""

    NOT_IN_RESULT: ClassVar[frozenset[str]] = frozenset({"base", "forms"})

    base: BaseAddress = Field("https://www.lamost.org", description="address of the archive or of a mirror")
    release: str = Field("dr10", pattern=r"^dr\d+$", description="data release, such as dr8")
    version: str = Field("v2.0", pattern=r"^v[\d.]+$", description="version of the data release")
    resolution: Literal["lrs", "mrs"] = Field("lrs", description="low or medium resolution")
    forms: tuple[str, ...] = Field(
        FORMS,
        strict=False,
        min_length=1,
        description=f"addresses of a spectrum, in this order; the fields are {', '.join(sorted(FIELDS))}",
    )

    @field_validator("forms")
    @classmethod
    def _check_forms(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for form in value:
            try:
                unknown = unknown_fields(form, FIELDS)
            except ValueError:
                raise ValueError(f"{form}: its brackets do not match; give a name in each pair") from None
            if unknown:
                raise ValueError(f"{form}: has no field {unknown[0]!r}; give {', '.join(sorted(FIELDS))}")
            if "{obsid}" not in form or not form.startswith("{base}/"):
                raise ValueError(f"{form}: give an address that begins with {{base}}/ and names {{obsid}}")
        return value

    def fields(self) -> dict[str, Any]:
        """The values for addresses."""
        med = "med" if self.resolution == "mrs" else ""
        return {
            **{name: getattr(self, name) for name in ("base", "release", "version", "resolution")},
            "med": med,
        }


def base_of(options: Options) -> str:
    """The address of the archive."""
    return options.base


def is_image(options: Options) -> bool:
    """Whether the files are images of objects."""
    del options
    return False


def needed(options: Options) -> dict[str, tuple[str, ...]]:
    """The columns that name a file."""
    del options
    return NEEDED


def from_id(text: str, options: Options) -> Row:
    """An obsid."""
    del options
    row: Row = {"obsid": text}
    integer(row, "obsid", 1)
    return row


def target(row: Row, options: Options) -> WantedFile:
    """The spectrum of an obsid; its name is known if the row has the parts of it."""
    obsid = integer(row, "obsid", 1)
    values = options.fields() | {"obsid": obsid}
    forms = tuple(Form(fill(form, values), form) for form in options.forms)
    return WantedFile(str(obsid), forms, path=_path(row, options.resolution))


def _path(row: Row, resolution: str) -> str:
    """The path in LAMOST's own layout; empty if the row lacks a part of it."""
    plan = safe_name(row.get("planid"))
    try:
        values = {name: integer(row, name) for name in ("lmjd", "spid", "fiberid")}
    except BadRowError:
        return ""
    if not plan or plan == "-9999":
        return ""
    path = lamost.NAMING.path.format(planid=plan, **values)
    return path.replace("/spec-", "/med-") if resolution == "mrs" else path


def path(target: WantedFile, form: Form, suggested: str, data: bytes) -> str:
    """The path from the name that the archive suggests, else from the header of the file."""
    del form
    if target.path:
        return target.path
    names = [suggested]
    try:
        cards = fits.parse(unpack(data))[0].cards
        names.append(f"{text_or_none(cards.get('FILENAME'))}.gz")
        row: Row = {column: text_or_none(cards.first(lamost.CARDS[column])) for column in OPTIONAL}
    except Refused:
        row = {}
    for name in map(safe_name, names):
        if parts := re.match(lamost.NAMING.file, re.sub(r"(\.fits?)?(\.gz)?$", "", name)):
            return f"{parts['planid']}/{name}"
    return _path(row, "lrs") or f"obsid/{target.key}.fits.gz"


def circle(ra: float, dec: float, radius: float, options: Options) -> str:
    """The address of the spectra around a position, as CSV."""
    base = fill("{base}/openapi/{release}/{version}/{resolution}/voservice/conesearch", options.fields())
    return f"{base}?ra={ra:.8f}&dec={dec:.8f}&sr={radius:.8f}&output.fmt=csv"


def catalogue(name: str, options: Options) -> WantedFile:
    """A catalogue, such as dr10_v2.0_LRS_stellar.csv.gz."""
    name = catalogue_name(name)
    address = fill("{base}/openapi/{release}/{version}/{resolution}/catalog", options.fields())
    form = Form(f"{address}?name={quote(name)}")
    return WantedFile(f"{CATALOGUES}/{name}", (form,), path=f"{CATALOGUES}/{name}", is_catalogue=True)


def problem(target: WantedFile, name: str, data: bytes, options: Options) -> str:
    """Why the bytes are no spectrum of this obsid; empty if they are, also of a fibre without an object."""
    del options
    hdus = fits.parse(unpack(data))
    try:
        spectra = lamost.read(hdus, name, lamost.Options())
    except Refused as refused:
        return refused.detail if refused.reason == "unknown_layout" else ""
    if spectra is None:
        return f"no spectrum of LAMOST, but {hdus.summary()}"
    obsid = number_or_none(hdus[0].cards.get("OBSID"))
    is_other = isinstance(obsid, int) and obsid > 0 and str(obsid) != target.key
    return f"is the file of obsid {obsid}" if is_other else ""


def expected_bytes(options: Options) -> int:
    """Bytes of a gzipped file: 60 to 130 kB in low resolution, more in medium resolution."""
    return 100_000 if options.resolution == "lrs" else 200_000
