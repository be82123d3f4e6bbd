"""README.md and README.zh.md say the same: what needs no translation is equal, in the same order."""

import re
from collections.abc import Callable, Iterator
from difflib import ndiff
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENGLISH, CHINESE = "README.md", "README.zh.md"
LONGEST = 150
"""Lines of a README."""
BLOCK = re.compile(r"```[a-z]*\n(.*?)```", re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
IMAGE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)]+)\)")
NUMBER = re.compile(r"(?<![A-Za-z0-9_.])-?\d+(?:[.,]\d+)*")
OTHER = {ENGLISH: CHINESE, CHINESE: ENGLISH}


def sections(text: str) -> list[str]:
    """The text from the title on, and that of each heading."""
    outside = text
    for found in BLOCK.finditer(text):  # a comment in a block is no heading
        outside = outside.replace(found[0], " " * len(found[0]))
    start = [found.start() for found in re.finditer(r"^#+ ", outside, re.MULTILINE)]
    return [text[begin:end] for begin, end in zip(start, [*start[1:], len(text)], strict=True)]


def without_comment(line: str) -> str:
    return re.sub(r"\s+#.*", "", line).rstrip()


def blocks(text: str) -> list[str]:
    """The lines of all blocks, without comments: commands, and what a program prints."""
    return [without_comment(line) for found in BLOCK.findall(text) for line in found.splitlines()]


def prose(text: str) -> str:
    return BLOCK.sub("", text)


def rows(text: str) -> list[str]:
    """The rows of all tables: their code spans and the cells that are numbers or names of stars."""
    found = []
    for line in prose(text).splitlines():
        if line.startswith("|"):
            values = [cell for cell in map(str.strip, line.split("|")) if re.fullmatch(r"[-+.\dJ]*\d", cell)]
            found.append(" ".join([*(f"`{span}`" for span in SPAN.findall(line)), *values]))
    return found


def spans(text: str) -> list[str]:
    """Code spans outside of tables; the order of words differs between languages."""
    lines = "\n".join(line for line in prose(text).splitlines() if not line.startswith("|"))
    return sorted(SPAN.findall(lines))


def links(text: str) -> list[str]:
    return [link for link in LINK.findall(prose(text)) if link not in OTHER]


def numbers(text: str) -> list[str]:
    """Numbers in figures, such as 1,700; those in words stay words in the other language."""
    return sorted(NUMBER.findall(LINK.sub("", SPAN.sub("", prose(text)))))


PARTS: dict[str, Callable[[str], list[str]]] = {
    "lines of blocks": blocks,
    "rows of tables": rows,
    "code spans in the text": spans,
    "images": IMAGE.findall,
    "links": links,
    "numbers": numbers,
}


def differences(english: str, chinese: str) -> Iterator[str]:
    """What one of both has and the other has not, section by section."""
    pairs = sections(english), sections(chinese)
    if len(pairs[0]) != len(pairs[1]):
        heads = [", ".join(section.splitlines()[0] for section in part) for part in pairs]
        yield f"{len(pairs[0])} and {len(pairs[1])} sections: {heads[0]}; {heads[1]}"
    for one, other in zip(*pairs, strict=False):
        title = f"{one.splitlines()[0]} / {other.splitlines()[0]}"
        for name, part in PARTS.items():
            if part(one) != part(other):
                lines = [line for line in ndiff(part(one), part(other)) if line[0] in "+-"]
                where = f" (- only in {ENGLISH}, + only in {CHINESE}, or in another order)"
                yield "\n    ".join([f"{title}: {name}{where}", *lines])


def read(name: str) -> str:
    return (ROOT / name).read_text()


def test_both_languages_have_the_same_commands_tables_images_links_and_numbers() -> None:
    found = list(differences(read(ENGLISH), read(CHINESE)))
    if found:
        pytest.fail("\n  ".join([f"{ENGLISH} and {CHINESE} differ; make both equal:", *found]), pytrace=False)


@pytest.mark.parametrize("name", [ENGLISH, CHINESE])
def test_the_first_lines_link_the_other_language(name: str) -> None:
    assert f"]({OTHER[name]})" in sections(read(name))[0]


def test_a_readme_fits_on_a_few_screens() -> None:
    assert len(read(ENGLISH).splitlines()) <= LONGEST


ONE = """# title
Two files of `a`, 1,700 in all. ![a picture](a.png) [a page](a.md)

```
survey train epochs=20      # a comment
```

## second

| word | |
| --- | --- |
| 1 | `b` |
"""
SAME = """# 标题
共1,700个文件（`a`）。![图](a.png) [页面](a.md)

```
survey train epochs=20      # 注释
```

## 第二节

| 词 | |
| --- | --- |
| 1 | `b` |
"""


def test_words_and_comments_may_differ() -> None:
    assert list(differences(ONE, SAME)) == []


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("epochs=20", "epochs=30", "lines of blocks"),
        ("`a`", "`c`", "code spans in the text"),
        ("| 1 | `b` |", "| 1 | `c` |", "rows of tables"),
        ("| 1 | `b` |", "| 2 | `b` |", "rows of tables"),
        ("| 1 | `b` |", "| 1 | `b` |\n| 2 | `c` |", "rows of tables"),
        ("a.png", "b.png", "images"),
        ("(a.md)", "(b.md)", "links"),
        ("1,700", "1,800", "numbers"),
        ("## 第二节", "第二节", "2 and 1 sections"),
    ],
)
def test_a_change_in_one_language_is_named(old: str, new: str, part: str) -> None:
    assert part in "\n".join(differences(ONE, SAME.replace(old, new)))
