"""The token goes to the archive's own host alone, and is never shown."""

import pytest

from survey.archives.addresses import Access
from survey.archives.settings import Download
from survey.settings import SettingsError

TOKEN = "F1e2+d3/c4="
OWN = "https://www.lamost.org"
ACCESS = Access(OWN, TOKEN)


@pytest.mark.parametrize(
    ("address", "signed"),
    [
        (f"{OWN}/openapi/x?obsid=1", f"{OWN}/openapi/x?obsid=1&token=F1e2%2Bd3%2Fc4%3D"),
        (f"{OWN}/spectrum/1", f"{OWN}/spectrum/1?token=F1e2%2Bd3%2Fc4%3D"),
        (f"{OWN}:443/spectrum/1", f"{OWN}:443/spectrum/1?token=F1e2%2Bd3%2Fc4%3D"),
        ("http://www.lamost.org/spectrum/1", "http://www.lamost.org/spectrum/1"),
        ("https://www.lamost.org.evil.net/1", "https://www.lamost.org.evil.net/1"),
        ("https://www.lamost.org:8443/1", "https://www.lamost.org:8443/1"),
        ("https://mirror.org/1?token=F1e2%2Bd3%2Fc4%3D&a=1", "https://mirror.org/1?a=1"),
    ],
)
def test_the_token_is_added_for_the_own_host_and_taken_out_for_others(address: str, signed: str) -> None:
    assert ACCESS.signed(address) == signed


def test_an_archive_that_moves_to_https_on_the_same_host_gets_its_token() -> None:
    assert Access("http://www.lamost.org", TOKEN).is_for("https://www.lamost.org/1")
    assert not Access("http://127.0.0.1:80", TOKEN).is_for("https://127.0.0.1:81/1")


@pytest.mark.parametrize(
    "location",
    [
        f"https://evil.net/x?token={TOKEN}",
        "https://evil.net/x?token=F1e2%2Bd3%2Fc4%3D",
        "https://evil.net/x?next=%2Fopenapi%3Ftoken%3DF1e2%252Bd3%252Fc4%253D",
        f"//evil.net/{TOKEN}/x",
    ],
)
def test_a_redirect_that_repeats_the_token_does_not_carry_it_away(location: str) -> None:
    sent = ACCESS.signed(ACCESS.follow(f"{OWN}/x", location))
    assert sent.startswith("https://evil.net/")
    for form in (TOKEN, "F1e2%2B", "F1e2%252B", "F1e2"):
        assert form not in sent


def test_a_shown_text_has_stars_in_place_of_the_token() -> None:
    text = f"Max retries exceeded with url: /x?obsid=1&token=F1e2%2Bd3%2Fc4%3D (token {TOKEN})"
    assert "F1e2" not in ACCESS.hide(text)
    assert "F1e2" not in repr(ACCESS)


def test_the_token_comes_from_the_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMOST_TOKEN", "  abcdef12 \n")
    assert Access.from_environment(OWN, "LAMOST_TOKEN").token == "abcdef12"
    monkeypatch.delenv("LAMOST_TOKEN")
    assert Access.from_environment(OWN, "LAMOST_TOKEN").token == ""
    monkeypatch.setenv("LAMOST_TOKEN", "paste the token here")
    with pytest.raises(ValueError, match="LAMOST_TOKEN: holds no token"):
        Access.from_environment(OWN, "LAMOST_TOKEN")


@pytest.mark.parametrize(
    "base",
    [
        "www.lamost.org",
        "ftp://www.lamost.org",
        "https://me:secret@www.lamost.org",
        "https://www.lamost.org?token=abc",
        "https://www.lamost.org:x",
        "https://",
    ],
)
def test_an_address_that_cannot_be_used_or_holds_a_secret_is_refused(base: str) -> None:
    values = {"archive": "lamost", "out": "o", "ids": ["1"], "options": {"base": base}}
    with pytest.raises(SettingsError) as caught:
        Download.from_dict("download", values)
    assert "options.base" in str(caught.value)
    assert "secret" not in str(caught.value)
