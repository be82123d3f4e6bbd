"""Objects with unusual keys: each is read under its own key; hidden ones are counted, and not read."""

from pathlib import Path

import pytest

from survey import files
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.store.store import open_store
from tests import survey_files

pytestmark = pytest.mark.s3

KEYS = (
    *(
        "a//b.fits",
        "/root.fits",
        " blank .fits",
        "tab\t.fits",
        "\x7f.fits",
        f"{'x' * 1000}.fits",
        "s3:/x.fits",
    ),
    *("é.fits", "\u202eright.fits", "\U0001f600.fits", "%2e%2e.fits", "a+b c.fits", "a?b=c.fits", "a#b.fits"),
    *(
        "*.fits",
        "[a].fits",
        "{a}.fits",
        "~.fits",
        "$HOME.fits",
        "`x`.fits",
        "'q'.fits",
        '"d".fits',
        "\\.fits",
    ),
    *("%s{0}.fits", "a:b@c.fits"),
)
HIDDEN = ("../up.fits", "a/../b.fits", "./here.fits", ".fits")


@pytest.mark.usefixtures("server")
def test_each_object_is_read_under_its_own_key(tmp_path: Path) -> None:
    for number, key in enumerate((*KEYS, *HIDDEN)):
        data = survey_files.file(number)
        files.bucket_system().call_s3("put_object", Bucket="sky", Key=f"keys/{key}", Body=data)
    values = {"input": "s3://sky/keys", "store": str(tmp_path / "store")}
    result = ingest(Ingest.from_dict("ingest", values))
    (table,) = open_store(str(tmp_path / "store")).tables(["path", "obsid"])
    read = dict(zip(table["path"].to_pylist(), table["obsid"].to_pylist(), strict=True))
    assert read == {f"s3://sky/keys/{key}": 1000 + number for number, key in enumerate(KEYS)}
    assert (result.plan.ignored, result.document.refused) == (len(HIDDEN), {})
