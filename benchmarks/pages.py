"""How fast and how large pages are: 5,000 candidates to vet, and a catalog of a million stars.

    python -m benchmarks.pages [parts=vetting,catalog] [n=12000] [rows=1350000] [scratch=FOLDER]
    python -m benchmarks.pages parts=vetting,prospect prospect=CHECKOUT python=PYTHON scratch=FOLDER

vetting   a made-up survey of n files, through the jobs mock, predict (with the shipped ensemble) and catalog
          to the page of its first 5,000 MP candidates: seconds to make it, megabytes; in Chromium the time to
          load it, to the next candidate (key j), to candidates here and there (chunks that are not unpacked
          yet), and the memory of the page
catalog   made-up predictions of so many rows (benchmarks/catalog.py), their catalog, its page: the same, and
          the time to draw four planes of a million stars
prospect  the same spectra of 500 candidates in a page of prospect (DESI) and in one of ours, by one measure:
          from the choice of a spectrum until the browser draws frames at once again. CHECKOUT is that of
          https://github.com/desihub/prospect, PYTHON one with its packages (benchmarks/prospect_page.py)

Needs Playwright and Chromium, some 3 GB of scratch space, ten minutes on two cores. The browser has no GPU
(--disable-gpu) and no network. Prints a table for benchmarks/RESULTS.md.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from playwright.sync_api import Page, sync_playwright

from benchmarks import catalog as made_up
from survey.reports.spectra_of_stars import open_spectra_of

ROOT = Path(__file__).resolve().parents[1]
LOADS, STEPS = 5, 300
MOST, BESIDE = 5000, 500


def survey(*arguments: str) -> float:
    """Run a job; its seconds."""
    start = time.perf_counter()
    command = [sys.executable, f"jobs/{arguments[0]}.py", *arguments[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}\n{done.stderr[-2000:]}")
    return time.perf_counter() - start


@contextmanager
def window() -> Iterator[Page]:
    """A window of Chromium without a network."""
    with sync_playwright() as player:
        chromium = player.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--headless", "--disable-gpu", "--no-sandbox"]
        )
        yield chromium.new_context(viewport={"width": 1280, "height": 800}, offline=True).new_page()
        chromium.close()


def load(page: Page, path: Path) -> float:
    """Open a page from the disk; the seconds until it can be worked with."""
    start = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached", timeout=120_000)
    return time.perf_counter() - start


def heap(page: Page) -> float:
    """Megabytes of the page's JavaScript after a collection of garbage."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = session.send("Performance.getMetrics")["metrics"]
    used = next(metric["value"] for metric in metrics if metric["name"] == "JSHeapUsedSize")
    return float(used) / 1e6


def spread(milliseconds: list[float]) -> str:
    """The median, and what 95 % are below."""
    return f"{statistics.median(milliseconds):.0f} ms, 95 %: {np.percentile(milliseconds, 95):.0f} ms"


def vetting(scratch: Path, n: int) -> list[tuple[str, str]]:
    """The rows of the table about a vetting page."""
    files, said, catalog, page_file = (
        scratch / name for name in ("files", "said", "catalog", "vetting.html")
    )
    survey("mock", "cemp", f"out={files}", f"n={n}", "broken=0")
    survey("predict", "cemp", f"input={files}", f"predictions={said}", "members=true")
    survey("catalog", "cemp", f"predictions={said}", f"catalog={catalog}")
    seconds = survey("report", f"of={catalog}", "list=mp", f"page={page_file}", f"most={MOST}")
    bare_file = scratch / "bare.html"
    survey("report", f"of={catalog}", "list=mp", f"page={bare_file}", f"most={MOST}", "visits=false")
    with window() as page:
        loads = [load(page, page_file) for _ in range(LOADS)]
        about = page.evaluate(
            "({count: vetting.columns.star.length, entries: vetting.entries.length, visits:"
            " vetting.about.spectra.visits.reduce((sum, one) => sum + one.length, 0)})"
        )
        for _ in range(STEPS):
            page.keyboard.press("j")
            page.wait_for_timeout(40)
        steps = page.evaluate("vetting.times.slice(1)")
        page.evaluate("vetting.times.length = 0")
        for place in np.random.default_rng(1).permutation(about["entries"])[:STEPS].tolist():
            page.evaluate(f"vetting.open({place})")
        jumps = page.evaluate("vetting.times")
        start = time.perf_counter()
        page.fill("#find", "FeH<-2 snr_best>30")
        filtered = time.perf_counter() - start
        memory = heap(page)
    size, bare = page_file.stat().st_size / 1e6, bare_file.stat().st_size / 1e6
    count = about["count"]
    return [
        ("candidates; other visits", f"{count:,}; {about['visits']:,}"),
        ("made in", f"{seconds:.0f} s"),
        ("size without other visits", f"{bare:.1f} MB, {1000 * bare / count:.2f} MB per thousand"),
        ("size with other visits", f"{size:.1f} MB, {1000 * size / count:.2f} MB per thousand"),
        ("load, until the first candidate is drawn", f"{statistics.median(loads):.2f} s"),
        ("next candidate (key j)", f"{spread(steps)} (goal: 50 ms)"),
        ("a candidate anywhere in the list", spread(jumps)),
        ("filter of all candidates", f"{1000 * filtered:.0f} ms"),
        ("memory of the page's code and data", f"{memory:.0f} MB"),
    ]


def catalog(scratch: Path, rows: int) -> list[tuple[str, str]]:
    """The rows of the table about the page of a catalog."""
    predictions, folder, page_file = (scratch / name for name in ("made-up", "million", "million.html"))
    made_up.write_predictions(predictions, rows)
    survey("catalog", f"predictions={predictions}", f"catalog={folder}", "exports=[]")
    stars = json.loads((folder / "catalog.json").read_text())["stars"]
    seconds = survey("report", f"of={folder}", f"page={page_file}")
    group = "document.querySelector('[data-block=planes]').starGroup"
    with window() as page:
        loads = [load(page, page_file) for _ in range(LOADS)]
        shown = page.evaluate(f"{group}.rows")
        draw = f"(() => {{ const begun = performance.now(); {group}.planes.forEach((plane) => plane.draw());"
        times = [page.evaluate(f"{draw} return performance.now() - begun }})()") for _ in range(20)]
        chosen = page.evaluate(
            f"(() => {{ const group = {group}; const plane = group.planes[0];"
            " const begun = performance.now();"
            " plane.box = {x0: 80, y0: 40, x1: 220, y1: 200, chooses: true}; plane.endBox();"
            " return [performance.now() - begun, group.count] })()"
        )
        memory = heap(page)
    size = page_file.stat().st_size / 1e6
    return [
        ("stars; in the page", f"{stars:,}; {shown:,}"),
        ("made in", f"{seconds:.0f} s"),
        ("size", f"{size:.1f} MB"),
        ("load, until all planes are drawn", f"{statistics.median(loads):.2f} s"),
        ("draw all four planes again", spread(times)),
        ("choose stars in one plane, draw all", f"{chosen[0]:.0f} ms ({chosen[1]:,} stars)"),
        ("memory of the page's code and data", f"{memory:.0f} MB (typed arrays are outside)"),
    ]


SETTLED = """async (act) => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const begun = performance.now();
  await act();
  let last = performance.now(), quick = 0, end = last;
  while (quick < 2) {
    await frame();
    const now = performance.now();
    if (now - last > 25) { quick = 0; end = now; } else quick += 1;
    last = now;
  }
  return end - begun;
}"""
"""Runs an action in the page; milliseconds until two frames follow within 25 ms each."""


def prospect(scratch: Path, checkout: str, python: str) -> list[tuple[str, str]]:
    """The rows of the table beside prospect; needs the part vetting in the same scratch folder."""
    document = json.loads((scratch / "catalog" / "catalog.json").read_text())
    table = pq.ParquetFile(scratch / "catalog" / "mp_candidates.parquet").read(["shard", "row_in_shard"])
    places = [(row["shard"], row["row_in_shard"]) for row in table.slice(0, BESIDE).to_pylist()]
    opened = open_spectra_of(document["predictions"]["path"], places)
    if isinstance(opened, str):
        raise SystemExit(opened)
    found = {one.place: (one.flux_P, one.ivar_P) for one in opened.spectra}
    flux, ivar = (np.stack([found[place][side] for place in places]) for side in (0, 1))
    spectra, theirs, ours = (scratch / name for name in ("spectra.npz", "prospect.html", "ours.html"))
    np.savez(spectra, wave=opened.wave, flux=flux.astype("f4"), ivar=ivar.astype("f4"))
    start = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": f"{checkout}/py"}
    command = [python, "benchmarks/prospect_page.py", str(spectra), str(theirs)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=environment)
    their_seconds = time.perf_counter() - start
    our_seconds = survey(
        "report", f"of={scratch / 'catalog'}", "list=mp", f"page={ours}", f"most={BESIDE}", "again=0"
    )
    slider = "[...Bokeh.documents[0]._all_models.values()].find((one) => /^Spectrum/.test(one.title))"
    rows = []
    for name, path, action, seconds in (
        ("prospect", theirs, f"{slider}.value = NUMBER", their_seconds),
        ("survey", ours, "vetting.open(NUMBER)", our_seconds),
    ):
        with window() as page:
            begun = time.perf_counter()
            page.goto(path.as_uri())
            page.wait_for_selector("canvas", state="attached", timeout=120_000)
            page.evaluate(f"({SETTLED})(() => null)")
            loaded = time.perf_counter() - begun
            act = f"({SETTLED})(async () => {{ await ({action}) }})"
            times = [page.evaluate(act.replace("NUMBER", str(number))) for number in range(1, 101)]
            size = path.stat().st_size / 1e6
            figures = (
                f"{seconds:.0f} s; {size:.1f} MB; load {loaded:.1f} s; {spread(times)}; {heap(page):.0f} MB"
            )
            rows.append((f"{name}, {BESIDE} spectra: made; size; load; next; memory", figures))
    return rows


def main() -> None:
    """Print a table for each part."""
    arguments = dict(argument.split("=", 1) for argument in sys.argv[1:])
    scratch = Path(arguments.get("scratch") or tempfile.mkdtemp(prefix="survey-bench-"))
    scratch.mkdir(parents=True, exist_ok=True)
    for part in arguments.get("parts", "vetting,catalog").split(","):
        if part == "vetting":
            table = vetting(scratch, int(arguments.get("n", 12_000)))
        elif part == "catalog":
            table = catalog(scratch, int(arguments.get("rows", 1_350_000)))
        else:
            table = prospect(scratch, arguments["prospect"], arguments["python"])
        print(f"| {part} | figure |\n| --- | --- |")
        print("\n".join(f"| {name} | {figure} |" for name, figure in table), flush=True)
        print()


if __name__ == "__main__":
    main()
