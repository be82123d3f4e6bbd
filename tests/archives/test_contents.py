"""What arrives is looked at: pages, damage, checksums. astropy writes the files and their checksums."""

import gzip
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from survey.archives import contents, lamost, legacy, sdss
from survey.archives.addresses import Access
from survey.archives.checksums import Checksums
from survey.archives.failures import FetchError
from survey.archives.targets import WantedFile
from survey.sources.reading import unpack
from tests import survey_files
from tests.archives.archive_server import LOGIN, PAGE, TOKEN


def file(checksum: bool | str, seed: int = 0) -> bytes:
    """A FITS file of an image and a table."""
    pixels = np.random.default_rng(seed).integers(-(2**31), 2**31 - 1, (7, 333), dtype=np.int32)
    column = fits.Column("A", "J", array=np.arange(100 + seed))
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(pixels), fits.BinTableHDU.from_columns([column])]).writeto(
        buffer, checksum=checksum
    )
    return buffer.getvalue()


def reason(data: bytes, name: str = "x.fits", key: str = "1", archive: object = lamost) -> str:
    """Why a file is not taken; empty if it is."""
    options = archive.Options()  # type: ignore[attr-defined]
    try:
        contents.check_file(archive, WantedFile(key, ()), name, data, options)  # type: ignore[arg-type]
    except FetchError as error:
        return f"{error.reason}: {error.detail}"
    return ""


@pytest.mark.parametrize("checksum", [True, "datasum"])
@pytest.mark.parametrize("seed", range(5))
def test_the_checksums_that_astropy_writes_are_those_that_are_computed(
    checksum: bool | str, seed: int
) -> None:
    contents._check_fits(file(checksum, seed))


@pytest.mark.parametrize("checksum", [True, "datasum"])
def test_one_changed_bit_of_the_data_is_found_by_a_checksum(checksum: bool | str) -> None:
    data = file(checksum)
    positions = np.random.default_rng(1).choice([*range(2880, 2880 + 7 * 333 * 4), *range(17280, 17600)], 50)
    for position in positions:
        changed = bytearray(data)
        changed[position] ^= 1 << int(position % 8)
        with pytest.raises(FetchError, match="differs"):
            contents._check_fits(bytes(changed))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "truncated: no bytes"),
        (survey_files.file(1)[:-3000], "damaged: truncated"),
        (gzip.compress(survey_files.file(1))[:-10], "damaged: bad_gzip"),
        (b"not at all" * 1000, "damaged: not_fits"),
        (survey_files.file(2), "other_file: is the file of obsid 1002"),
        (file(False), "other_file: no spectrum of LAMOST"),
        (survey_files.file(1), ""),
        (gzip.compress(survey_files.file(1)), ""),
    ],
)
def test_a_spectrum_is_taken_if_it_is_sound_and_the_one_that_was_asked_for(data: bytes, found: str) -> None:
    assert reason(data, key="1001").startswith(found)
    assert found or not reason(data, key="1001")


def test_real_files_of_lamost_and_sdss_are_taken_and_named(shared: Path) -> None:
    count = 0
    for path in sorted((shared / "lamost").rglob("*.fits*"))[::7]:
        data = path.read_bytes()
        contents._check_fits(unpack(data))
        found = lamost.problem(WantedFile("1", ()), path.name, data, lamost.Options())
        assert not found or found.startswith("is the file of obsid")
        named = lamost.path(WantedFile("1", ()), None, "", data)  # type: ignore[arg-type]
        if path.name.startswith(("spec", "med")):
            assert Path(named).name.removesuffix(".gz") == path.name.removesuffix(".gz")
        count += 1
    for path in sorted((shared / "sdss/spec").glob("spec-*"))[::5]:
        key = "-".join(str(int(part)) for part in path.name.partition(".")[0].split("-")[1:])
        assert reason(path.read_bytes(), path.name, key, sdss) == ""
        assert reason(path.read_bytes(), path.name, "1-1-1", sdss).startswith("other_file")
        count += 1
    assert count > 50


@pytest.mark.parametrize(
    ("start", "found"),
    [
        (PAGE, "page"),
        (LOGIN, "needs_login"),
        (b'\n {"error": "invalid token"}', "needs_login"),
        (b"Service unavailable, please try later", "page"),
        (b"<?xml version='1.0'?><Error>NoSuchKey</Error>", "page"),
        (survey_files.file(1)[:4096], ""),
        (gzip.compress(survey_files.file(1))[:4096], ""),
        (b"", ""),
    ],
)
def test_a_page_in_place_of_a_spectrum_is_recognised(start: bytes, found: str) -> None:
    try:
        contents.check_page(start, "", is_catalogue=False, hide=str)
        seen = ""
    except FetchError as error:
        seen = error.reason
    assert seen == found


def test_a_catalogue_may_be_text_or_xml_but_no_page() -> None:
    contents.check_page(b"obsid|teff\n1|5000\n", "text/csv", is_catalogue=True, hide=str)
    contents.check_page(b"<?xml version='1.0'?><VOTABLE>", "text/xml", is_catalogue=True, hide=str)
    for start, kind in ((LOGIN, ""), (b'{"error": 1}', ""), (b"sorry", "text/html; charset=utf-8")):
        with pytest.raises(FetchError):
            contents.check_page(start, kind, is_catalogue=True, hide=str)


@pytest.mark.parametrize(
    ("data", "is_sound"),
    [
        (b"\xff\xd8\xff\xe0" + bytes(500) + b"\xff\xd9", True),
        (b"\xff\xd8\xff\xe0" + bytes(500), False),
        (b"\x89PNG\r\n\x1a\n" + bytes(500) + b"\0\0\0\0IEND\xaeB`\x82", True),
        (b"\x89PNG\r\n\x1a\n" + bytes(500), False),
    ],
)
def test_a_picture_has_its_end(data: bytes, is_sound: bool) -> None:
    assert (reason(data, "a.jpg", archive=legacy) == "") is is_sound


def test_a_fits_cutout_has_the_size_that_was_asked_for() -> None:
    buffer = io.BytesIO()
    fits.PrimaryHDU(np.zeros((3, 64, 64), np.float32)).writeto(buffer)
    options = legacy.Options(format="fits", size=64)
    assert legacy.problem(WantedFile("a", ()), "a.fits", buffer.getvalue(), options) == ""
    options = legacy.Options(format="fits", size=128)
    assert "128 pixels" in legacy.problem(WantedFile("a", ()), "a.fits", buffer.getvalue(), options)


@pytest.mark.parametrize("kind", ["md5", "sha1", "sha256"])
def test_a_list_of_checksums_is_read_and_compared(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "partial"
    path.write_bytes(b"content" * 100)
    right = hashlib.new(kind, path.read_bytes()).hexdigest()
    text = f"# a comment\n{right}  spectra/lite/a.fits\n{'0' * len(right)} *b.fits\nnothing here\n"
    found = Checksums.read(text)
    assert found.of("a.fits") == [right]
    assert found.of("b.fits") == ["0" * len(right)]
    found.check(path, "0266/a.fits")
    found.check(path, "unlisted.fits")
    with pytest.raises(FetchError, match=kind):
        found.check(path, "0266/b.fits")


@pytest.mark.parametrize("start", ["", "sdss/spectro/redux/", "./"])
def test_files_of_one_name_are_told_apart_by_their_folders(start: str) -> None:
    """Reductions 26 and 103 of SDSS have files of the same names."""
    listed = [(run, f"{start}{run}/spectra/lite/0266/spec.fits") for run in ("26", "103")]
    found = Checksums.read("\n".join(f"{run.zfill(40)}  {path}" for run, path in listed))
    assert found.of("26/0266/spec.fits") == ["26".zfill(40)]
    assert found.of("103/0266/spec.fits") == ["103".zfill(40)]
    assert found.of("v5_13_2/0266/spec.fits") == ["26".zfill(40), "103".zfill(40)], "each of them is allowed"
    assert found.of("26/0266/other.fits") == []


def test_a_catalogue_is_unpacked_to_its_end(tmp_path: Path) -> None:
    text = "obsid|teff\n" + "".join(f"{number}|5000\n" for number in range(100_000))
    path = tmp_path / "catalogues_a.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    contents.check_catalogue(path)
    path.write_bytes(gzip.compress(text.encode())[:-100])
    with pytest.raises(FetchError, match="damaged"):
        contents.check_catalogue(path)


@pytest.mark.parametrize(
    ("name", "start", "named"),
    [
        ("a.fits.gz", b"SIMPLE  =", "a.fits"),
        ("a.fits", b"\x1f\x8b", "a.fits.gz"),
        ("a.fits.gz", b"\x1f\x8b", "a.fits.gz"),
        ("a.jpg", b"\xff\xd8", "a.jpg"),
    ],
)
def test_the_name_says_whether_the_content_is_packed(name: str, start: bytes, named: str) -> None:
    assert contents.named_by_content(name, start) == named


@pytest.mark.parametrize("page", [b"<html><title>Bad %s here</title>", b"Token %s is not known", b"%s" * 9])
def test_a_page_that_repeats_the_token_is_quoted_without_it(page: bytes) -> None:
    access = Access("https://www.lamost.org", TOKEN)
    with pytest.raises(FetchError) as caught:
        contents.check_page(page.replace(b"%s", TOKEN.encode()), "", False, access.hide)
    assert "a page in place of the file: " in caught.value.detail
    assert "***" in caught.value.detail
    assert TOKEN[:4].lower() not in caught.value.detail.lower()
