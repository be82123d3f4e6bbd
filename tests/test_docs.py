"""What README, docs and the descriptions of jobs print is true: commands, columns, files."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from survey.arguments import load
from survey.catalog.flags import flag_table
from survey.catalog.names import LAMOST_NAMES
from survey.estimate.settings import Prices
from survey.settings import JOBS
from tests.test_jobs import SETTINGS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "jobs").glob("*.py"))]


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of each command `survey ...` in the blocks of a page, or in the description of a job."""
    text = page.read_text()
    blocks = re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL)
    for block in [text.split('"""')[1]] if page.suffix == ".py" else blocks:
        for line in re.sub(r"\\+\n\s*", " ", block).splitlines():
            found = re.match(r"\s*(?:\$ )?survey ([a-z]+) +(.*?)(?:\s{3,}.*)?$", line)
            if found and " ..." not in line and "─" not in line:
                yield [found[1], *shlex.split(found[2], comments=True)]


EVERY = [(page.name, arguments) for page in PAGES for arguments in commands(page)]


@pytest.mark.parametrize(("page", "arguments"), EVERY, ids=lambda value: " ".join(value) if value else "")
def test_a_printed_command_has_a_job_and_valid_settings(page: str, arguments: list[str]) -> None:
    job, *rest = arguments
    assert job in JOBS
    if "--help" not in rest and not any(item.startswith("with=") for item in rest):
        assumed = [item.removeprefix("plan.") for item in rest if item.startswith("plan.")]
        load(SETTINGS[job], job, [item for item in rest if not item.startswith(("plan.", "show=plan"))])
        load(Prices, "plan", assumed)


def test_the_page_of_columns_lists_every_flag_and_every_name_of_lamost() -> None:
    page = (ROOT / "docs" / "catalog-columns.md").read_text()
    for row in flag_table().to_pylist():
        assert f"| {row['value']} | `{row['name']}` | {row['severity']} | {row['description']} |" in page
    for ours, theirs in LAMOST_NAMES.items():
        assert f"| `{ours}` | `{theirs}` |" in page if ours != theirs else f"`{ours}`" in page


def test_every_link_between_pages_leads_to_a_file() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text() if page.suffix == ".md" else ""):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"
