"""Verdicts as a browser keeps them: in several windows, from files, and where its room is full."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from survey.pages import vetting

pytestmark = pytest.mark.browser

CODE = Path(vetting.__file__).parent / "static"
BOOK = "const book = new VerdictBook('f00d', 'cemp', ['a', 'b', 'c']);"
KEPT = (
    "Object.entries(JSON.parse(localStorage.getItem('survey-verdicts:f00d:')))"
    ".map(([id, record]) => [id, record.verdict])"
)


@pytest.fixture(scope="module")
def empty_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with the code of verdicts and filters, and nothing else."""
    code = "\n".join((CODE / name).read_text() for name in ("base.js", "table.js", "verdicts.js"))
    path = tmp_path_factory.mktemp("code") / "page.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><title>code</title><script>{code}</script>")
    return path


@pytest.fixture(scope="module")
def context(browser: Any) -> Iterator[Any]:
    """Windows that share what the browser keeps."""
    opened = browser.new_context(offline=True)
    yield opened
    opened.close()


@pytest.fixture
def page(context: Any, empty_page: Path) -> Iterator[Any]:
    """A window in which nothing is kept yet."""
    opened = context.new_page()
    opened.goto(empty_page.as_uri())
    opened.evaluate("localStorage.clear()")
    yield opened
    opened.close()


def run(page: Any, code: str) -> Any:
    """What the code returns, with a book of verdicts about the stars a, b and c."""
    return page.evaluate(f"(() => {{ {BOOK} {code} }})()")


def loaded(page: Any, rows: list[dict[str, Any]], before: str = "") -> list[Any]:
    """Load a file: what is answered, the verdicts by star and look, and the name."""
    text = json.dumps({"format": "survey-verdicts", "version": 1, "verdicts": rows})
    found: list[Any] = run(
        page,
        f"{before} const answer = book.load({json.dumps(text)});"
        "const verdicts = [...book.records].map(([id, record]) => [id, record.verdict]);"
        "return [answer, Object.fromEntries(verdicts), book.user];",
    )
    return found


def row(star: str, verdict: str = "accept", **changes: Any) -> dict[str, Any]:
    values = {"list_id": "f00d", "star": star, "look": 1, "verdict": verdict, "user": "ann"}
    return {**values, "time": "2026-11-29T10:00:00Z", **changes}


def test_two_windows_keep_the_verdicts_of_both(page: Any) -> None:
    kept = run(
        page,
        "const other = new VerdictBook('f00d', 'cemp', ['a', 'b', 'c']);"
        "book.change('a', 1, { verdict: 'accept' }); other.change('b', 1, { verdict: 'reject' });"
        f"return {KEPT}",
    )
    assert sorted(kept) == [["1|a", "accept"], ["1|b", "reject"]]


def test_a_verdict_that_was_taken_back_in_one_window_does_not_come_back_from_another(page: Any) -> None:
    kept = run(
        page,
        "book.change('a', 1, { verdict: 'accept' });"
        "const other = new VerdictBook('f00d', 'cemp', ['a', 'b', 'c']);"
        "book.change('a', 1, { verdict: 'accept' }); other.change('b', 1, { verdict: 'reject' });"
        f"return {KEPT}",
    )
    assert sorted(kept) == [["1|a", ""], ["1|b", "reject"]]


def test_a_window_shows_what_another_one_writes_and_takes_its_name(
    page: Any, context: Any, empty_page: Path
) -> None:
    other = context.new_page()
    other.goto(empty_page.as_uri())
    for window in (page, other):
        window.evaluate("window.book = new VerdictBook('f00d', 'cemp', ['a', 'b', 'c'])")
    page.evaluate("book.change('a', 1, { verdict: 'accept' })")
    other.wait_for_function("book.get('a', 1)?.verdict === 'accept'")
    other.evaluate("book.setUser('ann')")
    page.wait_for_function("book.user === 'ann' && book.get('a', 1)?.verdict === 'accept'")
    assert page.evaluate("localStorage.getItem('survey-verdicts:f00d:')") == "{}"
    other.close()


def test_a_change_is_newer_than_a_record_of_a_clock_that_is_fast(page: Any) -> None:
    assert loaded(page, [row("a", time="2099-01-01T00:00:00Z")])[1] == {"1|a": "accept"}
    assert (
        run(page, "book.change('a', 1, { verdict: 'reject' }); return book.get('a', 1).verdict") == "reject"
    )
    answer, verdicts, _ = loaded(page, [row("a", time="2099-01-01T00:00:00Z")])
    assert (answer, verdicts) == ("0 taken, 1 older than yours", {"1|a": "reject"})


def test_verdicts_of_another_list_are_left_out(page: Any) -> None:
    answer, verdicts, name = loaded(page, [row("a", list_id="cafe"), row("b", list_id="cafe")])
    assert (answer, verdicts, name) == ("0 taken, 2 of another list left out", {}, "")
    answer, verdicts, _ = loaded(page, [row("a"), row("b", list_id="cafe"), row("c", list_id="")])
    assert answer == "2 taken, 1 of another list left out"
    assert verdicts == {"1|a": "accept", "1|c": "accept"}


def test_a_file_of_one_person_gives_the_name_where_there_is_none(page: Any) -> None:
    assert loaded(page, [row("a"), row("b", "reject")])[1:] == [{"1|a": "accept", "1|b": "reject"}, "ann"]
    answer, verdicts, name = loaded(page, [row("c", user="bob")])
    assert answer == "0 taken, 1 of other people left out (merge their files with survey report)"
    assert (verdicts, name) == ({"1|a": "accept", "1|b": "reject"}, "ann")


def test_verdicts_with_a_name_do_not_mix_with_those_without(page: Any) -> None:
    advice = "of somebody with a name left out (if they are yours, give your name first)"
    answer, verdicts, name = loaded(page, [row("a"), row("b", user="bob")])
    assert (answer, verdicts, name) == (f"0 taken, 2 {advice}", {}, "")
    answer, verdicts, name = loaded(page, [row("a")], "book.change('b', 1, { verdict: 'unsure' });")
    assert (answer, verdicts, name) == (f"0 taken, 1 {advice}", {"1|b": "unsure"}, "")


def test_the_newer_value_counts_where_the_room_of_the_browser_is_full(page: Any) -> None:
    code = (
        "memory.set('x', 'old'); const set = Storage.prototype.setItem;"
        "Storage.prototype.setItem = () => { throw new Error('full'); };"
        "memory.set('x', 'new'); Storage.prototype.setItem = set; const full = memory.get('x');"
        "memory.set('x', 'last'); localStorage.setItem('x', 'of another window');"
        "return [full, memory.get('x')];"
    )
    assert run(page, code) == ["new", "of another window"]


@pytest.mark.parametrize(
    ("text", "rows", "problem"),
    [
        ("FeH < -2", [0], ""),
        ("FeH<-2 snr >= 50", [], ""),
        ("feh >-2  snr= 50 star", [1], ""),
        ("dim < 3", [0, 1], "there is no column dim"),
        ("=hyperlink <b>", [1], ""),
        ("FeH<0 =hyperlink", [1], ""),
    ],
)
def test_blanks_around_the_signs_of_a_filter_change_nothing(
    page: Any, text: str, rows: list[int], problem: str
) -> None:
    found = run(
        page,
        "const [columns, texts] = [{ FeH: [-3, -1], snr: [40, 50] }, ['star', 'star =HYPERLINK <b>']];"
        f"const found = readFilter({json.dumps(text)}, columns, (row) => texts[row]);"
        "return [[0, 1].filter((row) => found.fits(row)), found.problem]",
    )
    assert found == [rows, problem]
