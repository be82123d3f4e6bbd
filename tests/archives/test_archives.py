"""Each archive: its addresses as its pages document them, its fall-backs, and what is kept where."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from survey import plugins
from survey.archives import lamost, legacy, sdss
from survey.archives.settings import KIND, Download
from survey.archives.targets import BadRowError, Row, load_archive
from survey.files import LARGEST
from survey.settings import SettingsError
from tests import survey_files
from tests.archives.archive_server import Served, Server, serve
from tests.commands import survey

DATA_SDSS = "https://data.sdss.org/sas"


def addresses(row: Row, options: sdss.Options) -> list[str]:
    return [form.address for form in sdss.target(row, options).forms]


@pytest.mark.parametrize("name", plugins.names(KIND))
def test_every_archive_has_all_parts(name: str) -> None:
    archive = load_archive(name)
    functions = "base_of is_image needed target from_id catalogue circle path problem expected_bytes"
    assert all(callable(getattr(archive, function)) for function in functions.split())
    options = archive.Options()
    assert archive.base_of(options).startswith("https://")
    assert archive.expected_bytes(options) > 0
    assert set(archive.OPTIONAL) <= set(archive.needed(options)) | {"name"}
    with pytest.raises(BadRowError):
        archive.from_id("no such id", options)


def test_an_obsid_of_lamost_has_two_addresses() -> None:
    forms = lamost.target({"obsid": "101001"}, lamost.Options(release="dr8", version="v2.0")).forms
    assert [form.address for form in forms] == [
        "https://www.lamost.org/openapi/dr8/v2.0/lrs/spectrum/fits?obsid=101001",
        "https://www.lamost.org/dr8/v2.0/spectrum/fits/101001",
    ]
    medium = lamost.Options(release="dr11", resolution="mrs")
    forms = lamost.target({"obsid": "101001.0"}, medium).forms
    assert forms[0].address == "https://www.lamost.org/openapi/dr11/v2.0/mrs/spectrum/fits?obsid=101001"
    assert forms[1].address == "https://www.lamost.org/dr11/v2.0/medspectrum/fits/101001"


def test_a_row_of_lamost_says_where_its_file_lies() -> None:
    row: Row = {"obsid": "1", "lmjd": "56608", "planid": "GAC116N20B1", "spid": "15"}
    row |= {"fiberid": "92.0"}
    wanted = lamost.target(row, lamost.Options())
    assert wanted.path == "GAC116N20B1/spec-56608-GAC116N20B1_sp15-092.fits.gz"
    wanted = lamost.target(row, lamost.Options(resolution="mrs"))
    assert wanted.path == "GAC116N20B1/med-56608-GAC116N20B1_sp15-092.fits.gz"
    assert lamost.target(row | {"planid": "../../etc"}, lamost.Options()).path.startswith("etc/")
    assert lamost.target(row | {"planid": ".."}, lamost.Options()).path == ""


@pytest.mark.parametrize(
    "suggested", ["", "../../passwd", "spec-1-X_sp01-001.fits.gz; rm", "/etc/spec", "spec-\n.fits", "a" * 999]
)
def test_a_name_that_an_archive_suggests_never_leaves_the_folder(suggested: str) -> None:
    wanted = lamost.target({"obsid": "1001"}, lamost.Options())
    path = lamost.path(wanted, wanted.forms[0], suggested, survey_files.file(1))
    assert path == "TEST01/spec-55859-TEST01_sp01-002.fits.gz"
    path = lamost.path(wanted, wanted.forms[0], suggested, b"no FITS")
    assert path == "obsid/1001.fits.gz"


@pytest.mark.parametrize(
    ("release", "run2d", "first"),
    [
        (16, "v5_13_0", "dr16/eboss/spectro/redux/v5_13_0/spectra/lite/4055/spec-4055-55359-0596.fits"),
        (17, "v5_13_2", "dr17/eboss/spectro/redux/v5_13_2/spectra/lite/4055/spec-4055-55359-0596.fits"),
        (17, "26", "dr17/sdss/spectro/redux/26/spectra/lite/4055/spec-4055-55359-0596.fits"),
        (18, "v5_13_2", "dr18/spectro/sdss/redux/v5_13_2/spectra/lite/4055/spec-4055-55359-0596.fits"),
        (18, "104", "dr18/spectro/sdss/redux/104/spectra/lite/4055/spec-4055-55359-0596.fits"),
    ],
)
def test_the_first_address_of_an_sdss_spectrum_follows_from_its_reduction(
    release: int, run2d: str, first: str
) -> None:
    row: Row = {"plate": "4055", "mjd": "55359", "fiberid": "596", "run2d": run2d}
    found = addresses(row, sdss.Options(release=release))
    assert found[0] == f"{DATA_SDSS}/{first}"
    assert len(found) == len(set(found)) >= 4


def test_an_sdss_spectrum_without_its_reduction_is_looked_for_in_all() -> None:
    row: Row = {"plate": "266", "mjd": "51602", "fiberid": "1", "run2d": None}
    found = addresses(row, sdss.Options(release=17, files="full"))
    assert [address.removeprefix(f"{DATA_SDSS}/dr17/").partition("/0266")[0] for address in found] == [
        "eboss/spectro/redux/v5_13_2/spectra/full",
        "sdss/spectro/redux/26/spectra/full",
        "sdss/spectro/redux/26/spectra",
        "sdss/spectro/redux/103/spectra/full",
        "sdss/spectro/redux/103/spectra",
        "sdss/spectro/redux/104/spectra/full",
        "sdss/spectro/redux/104/spectra",
    ]


def test_cutouts_have_the_addresses_of_the_services() -> None:
    row: Row = {"ra": "150.1", "dec": "-2.25", "name": "NGC 1"}
    image = sdss.target(row, sdss.Options(product="images"))
    assert image.forms[0].address == (
        "https://skyserver.sdss.org/dr17/SkyServerWS/ImgCutout/getjpeg?"
        "ra=150.1000000&dec=-2.2500000&scale=0.2&width=128&height=128"
    )
    assert image.path == "150/NGC_1.jpg"
    cutout = legacy.target(row | {"name": "0"}, legacy.Options(format="fits", bands="griz", size=96))
    assert cutout.forms[0].address == (
        "https://www.legacysurvey.org/viewer/fits-cutout?"
        "ra=150.1000000&dec=-2.2500000&layer=ls-dr10&pixscale=0.262&size=96&bands=griz"
    )
    assert cutout.path == "150/150.10000-2.25000.fits"
    assert "objid" not in legacy.needed(legacy.Options())["name"], "it is a number within a brick of the sky"


QUICK = ["rate=1000", "timeout=5", "first_wait=0.01", "missing_above=1"]


def test_a_plate_is_found_by_fall_backs_once_and_its_other_fibres_at_once(
    shared: Path, tmp_path: Path
) -> None:
    files = sorted((shared / "sdss/spec").glob("spec-*.fits*"))[:1]
    if not files:
        pytest.skip("needs ../shared/data/sdss/spec")
    plate, mjd, fiber = (int(part) for part in files[0].name.partition(".")[0].split("-")[1:])
    name = f"spec-{plate:04d}-{mjd:05d}-{fiber:04d}.fits"
    with serve([Served(name, name, files[0].read_bytes(), under="/104/spectra/lite")]) as server:
        given = [f"ids=[{plate}-{mjd}-{fiber}, {plate}-{mjd}-999]", "connections=1", f"out={tmp_path / 'o'}"]
        done = survey("download", "archive=sdss", f"options.base={server.base}", *given, *QUICK)
        assert done.returncode == 0, done.stderr
        assert len([asked for asked in server.asked if asked.key == name]) == 4
        others = [asked.path for asked in server.asked if asked.key != name]
        assert "/104/" in others[0], "the folder of the plate's last file comes first"
    rows = pq.read_table(tmp_path / "o/catalogue.parquet").to_pylist()
    assert [(row["path"].partition(".")[0], row["plate"]) for row in rows] == [
        (f"104/{plate:04d}/{name.removesuffix('.fits')}", plate)
    ]
    missing = pq.read_table(tmp_path / "o/missing.parquet").to_pylist()
    assert [row["reason"] for row in missing] == ["not_there"]


@pytest.mark.parametrize("connections", [1, 4])
def test_one_spectrum_under_two_ids_is_kept_and_listed_once(
    shared: Path, tmp_path: Path, connections: int
) -> None:
    files = sorted((shared / "sdss/spec").glob("spec-0266-51602-*.fits"))[:1]
    if not files:
        pytest.skip("needs ../shared/data/sdss/spec")
    fiber = int(files[0].stem.split("-")[3])
    name, data = files[0].name, files[0].read_bytes()
    given = [f"ids=[266-51602-{fiber}, 266-51602-{fiber}-26, 266-51602-999]", f"connections={connections}"]
    with serve([Served(name, name, data, under="/26/spectra/lite")]) as server:
        base = ["download", "archive=sdss", f"options.base={server.base}", f"out={tmp_path / 'o'}", *QUICK]
        done = survey(*base, *given)
        assert done.returncode == 0, done.stderr
        rows = pq.read_table(tmp_path / "o/catalogue.parquet").to_pylist()
        assert [row["path"] for row in rows] == [f"26/0266/{name}"]
        assert [path.name for path in (tmp_path / "o").rglob("*spec-*")] == [name]
        asked = len(server.asked)
        assert survey(*base, *given).returncode == 0
        assert len(server.asked) == asked, "both ids are settled"
        (tmp_path / "o/26/0266" / name).unlink()
        assert survey(*base, *given).returncode == 0
        assert [path.name for path in (tmp_path / "o").rglob("*spec-*")] == [name]
        (tmp_path / "sums").write_text(f"{'0' * 32}  {name}\n")
        done = survey(*base, *given, f"checksums={tmp_path / 'sums'}", "retries=0")
        assert done.returncode == 0, done.stderr
        assert not list((tmp_path / "o").rglob("*spec-*")), "it differs from the list under both ids"
        assert survey(*base, *given).returncode == 0
    assert [path.name for path in (tmp_path / "o").rglob("*spec-*")] == [name]
    assert pq.read_table(tmp_path / "o/catalogue.parquet").num_rows == 1


def test_cutouts_are_fetched_and_an_ingest_reads_them(tmp_path: Path) -> None:
    files, rows = [], ["name,ra,dec"]
    for number in range(6):
        pixels = np.random.default_rng(number).normal(1, 0.1, (3, 64, 64)).astype(np.float32)
        buffer = io.BytesIO()
        fits.PrimaryHDU(pixels).writeto(buffer)
        ra, dec = 10.5 + 40 * number, 2.0 - number
        files.append(Served(f"{ra:.7f},{dec:.7f}", "", buffer.getvalue()))
        rows.append(f"G{number},{ra},{dec}")
    (tmp_path / "galaxies.csv").write_text("\n".join(rows) + "\n")
    with serve(files) as server:
        done = survey(
            *("download", "archive=legacy", f"options.base={server.base}", "options.format=fits"),
            *("options.size=64", f"input={tmp_path / 'galaxies.csv'}", f"out={tmp_path / 'o'}", *QUICK),
        )
        assert done.returncode == 0, done.stderr
    rows_there = pq.read_table(tmp_path / "o/catalogue.parquet").to_pylist()
    assert [row["image"] for row in rows_there[:2]] == ["010/G0.fits", "050/G1.fits"]
    made = survey(
        *("ingest", "galaxies", f"input={tmp_path / 'o/catalogue.parquet'}", f"store={tmp_path / 's'}"),
        *("workers=1", "prepare.image.size=64", "prepare.image.stretch=midtone"),
    )
    assert made.returncode == 0, made.stderr
    assert "written    6" in made.stdout


def test_a_catalogue_is_fetched_by_name_and_is_the_input_of_the_next_download(
    mocked: Path, served: list[Served], tmp_path: Path
) -> None:
    name = "dr10_v2.0_LRS_catalogue.csv.gz"
    catalogue = Served(name, name, (mocked / "catalog.csv.gz").read_bytes(), ["cut", "html"])
    with serve([*served, catalogue]) as server:
        base = ["download", "archive=lamost", f"options.base={server.base}", *QUICK]
        done = survey(*base, f"catalogues=[{name}]", f"out={tmp_path / 'c'}")
        assert done.returncode == 0, done.stderr
        path = tmp_path / "c/catalogues" / name
        assert path.read_bytes() == catalogue.data
        done = survey(*base, f"input={path}", "cuts={snrg: [30, null]}", "most=5", f"out={tmp_path / 'f'}")
        assert done.returncode == 0, done.stderr
        assert pq.read_table(tmp_path / "f/catalogue.parquet").num_rows == 5


def test_lamost_is_asked_what_it_has_around_a_position(
    mocked: Path, served: list[Served], tmp_path: Path
) -> None:
    listed = "catalogue_obsid,catalogue_ra,catalogue_dec\n" + "".join(
        f"{one.key},10.0,20.0\n{one.key},10.0,20.0\n" for one in served[:3]
    )
    circle = Served("10.00000000,20.00000000", "", listed.encode(), ["500", "html"])
    with serve([*served, circle]) as server:
        done = survey(
            *("download", "archive=lamost", f"options.base={server.base}", *QUICK),
            *("around=[10, 20, 0.5]", f"out={tmp_path / 'o'}"),
        )
        assert done.returncode == 0, done.stderr
        assert "3 files of 6 rows, 3 listed twice" in done.stdout
        asked = [one for one in server.asked if one.key == circle.key]
        assert asked[0].path == "/openapi/dr10/v2.0/lrs/voservice/conesearch"
    assert pq.read_table(tmp_path / "o/catalogue.parquet").num_rows == 3


def test_a_list_of_checksums_refuses_a_file_that_differs(served: list[Served], tmp_path: Path) -> None:
    (tmp_path / "sums").write_text(f"{'0' * 32}  {served[0].name}\n")
    with serve(served) as server:
        done = survey(
            *("download", "archive=lamost", f"options.base={server.base}", *QUICK, f"out={tmp_path / 'o'}"),
            *(f"ids=[{served[0].key},{served[1].key}]", f"checksums={tmp_path / 'sums'}", "retries=1"),
        )
    assert done.returncode == 0, done.stderr
    missing = pq.read_table(tmp_path / "o/missing.parquet").to_pylist()
    assert [(row["key"], row["reason"]) for row in missing] == [(served[0].key, "damaged")]
    assert "its md5 is not that of the list" in missing[0]["detail"]


def with_checksums(server: Server, folder: Path, lines: list[str], files: list[Served]) -> Any:
    """The download of these files, with a list of checksums."""
    (folder / "sums").write_text("\n".join(lines) + "\n")
    return survey(
        *("download", "archive=lamost", f"options.base={server.base}", *QUICK, f"out={folder / 'o'}"),
        *(f"ids=[{','.join(one.key for one in files)}]", f"checksums={folder / 'sums'}", "retries=1"),
    )


def line(served: Served, data: bytes) -> str:
    return f"{hashlib.sha256(data).hexdigest()}  ./{served.name}"


def test_files_that_are_here_already_are_compared_with_a_list_of_checksums(
    served: list[Served], tmp_path: Path
) -> None:
    some = served[:3]
    right = [line(one, one.data) for one in some]
    with serve(some) as server:
        assert with_checksums(server, tmp_path, right, some).returncode == 0
        path = next((tmp_path / "o").rglob(some[1].name))
        changed = bytearray(some[1].data)
        changed[len(changed) // 2] ^= 1
        path.write_bytes(changed)
        asked = len(server.asked)
        done = with_checksums(server, tmp_path, right, some)
        assert done.returncode == 0, done.stderr
        assert [one.key for one in server.asked[asked:]] == [some[1].key]
        assert path.read_bytes() == some[1].data
        done = with_checksums(server, tmp_path, [*right[:2], line(some[2], b"other")], some)
        assert done.returncode == 0, done.stderr
        missing = pq.read_table(tmp_path / "o/missing.parquet").to_pylist()
        assert [(row["key"], row["reason"]) for row in missing] == [(some[2].key, "damaged")]
        assert not list((tmp_path / "o").rglob(some[2].name))


def test_a_list_of_checksums_that_cannot_be_the_right_one_is_reported(
    served: list[Served], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    some = served[:3]
    with serve(some) as server:
        done = with_checksums(server, tmp_path, [f"{'0' * 32}  other.fits"], some)
        assert done.returncode == 0, done.stderr
        assert "names none of the 3 files that are here" in caplog.text
        asked = len(server.asked)
        done = with_checksums(server, tmp_path, [line(one, b"other") for one in some], some)
        assert done.returncode == 1
        assert "all 3 files that the list names differ from it" in done.stderr
        done = survey(
            *("download", "archive=lamost", f"options.base={server.base}", *QUICK, f"out={tmp_path / 'o'}"),
            *(f"ids=[{','.join(one.key for one in some)}]", "checksums=nowhere"),
        )
        assert done.returncode == 1
        assert "checksums: nowhere: no such file" in done.stderr
        assert len(server.asked) == asked
    assert all(list((tmp_path / "o").rglob(one.name)) for one in some)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("{base}/{obsid}/{obsid[0]}", r"has no field 'obsid\[0\]'"),
        ("{base}/{obsid}/{obsid:09d}", "has no field 'obsid:09d'"),
        ("{base}/{obsid}/{base.x}", "has no field 'base.x'"),
        ("{base}/{obsid}/{}", "has no field ''"),
        ("{base}/{obsid}}{", "its brackets do not match; give a name in each pair"),
    ],
)
def test_an_address_has_plain_names_in_its_brackets(form: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        lamost.Options.from_dict("", {"forms": [form]}, "options.")


def test_a_cut_out_that_no_ingest_would_read_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"size: 3000 pixels .* 108,000,000 bytes.* size=2364 or"):
        legacy.Options.from_dict("", {"format": "fits", "size": 3000}, "options.")
    fits = legacy.Options(format="fits", size=2364)
    assert (
        legacy.expected_bytes(fits) <= LARGEST < legacy.expected_bytes(fits.model_copy(update={"size": 2365}))
    )
    assert legacy.Options(size=3000).format == "jpg"
    options = {"format": "fits", "size": 3000}
    with pytest.raises(SettingsError, match=r"options\.size: 3000"):  # without the rest of the plugin
        Download.from_dict("", {"archive": "legacy", "out": "o", "ids": ["1,1"], "options": options})
