"""A damaged image gives valid pixels or a reason for refusal, and a killed ingest of images is made again.

A few hundred cases by default; SURVEY_FUZZ_CASES=10000 runs that many of each kind, SURVEY_KILLS=20 kills so
often.
"""

import io
import json
import os
import random
import tarfile
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as astropy_fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from survey.sources import images, tar
from survey.sources.reading import image
from survey.spectrum import REASONS, ImageOfObject, Refused
from tests.processes import new_workplace

CASES = int(os.environ.get("SURVEY_FUZZ_CASES", "0"))
KILLS = int(os.environ.get("SURVEY_KILLS", "1"))
SOURCES = {"images": images.Options()}
SIZE = 40

hostile = settings(
    max_examples=CASES or 150,
    derandomize=not CASES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


def picture(seed: int) -> np.ndarray:
    """A galaxy of three colours with noise."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    light = 200 * np.exp(-np.hypot(x, 0.6 * y) / 6)
    colours = light[..., None] * [1, 0.8, 0.6] + draw.normal(20, 4, (SIZE, SIZE, 3))
    return np.asarray(np.clip(colours, 0, 255).astype("u1"))


@cache
def originals() -> tuple[tuple[str, bytes], ...]:
    """Valid images of every kind that is read."""
    made = []
    for ending, form, mode in (
        ("jpg", "JPEG", "RGB"),
        ("png", "PNG", "RGB"),
        ("png", "PNG", "P"),
        ("png", "PNG", "L"),
        ("jpg", "JPEG", "CMYK"),
    ):
        sink = io.BytesIO()
        Image.fromarray(picture(1)).convert(mode).save(sink, form)
        made.append((f"g.{ending}", sink.getvalue()))
    sink = io.BytesIO()
    astropy_fits.PrimaryHDU(picture(2).transpose(2, 0, 1).astype("f4")).writeto(sink)
    return (*made, ("g.fits", sink.getvalue()))


def check(found: ImageOfObject | Refused) -> None:
    """Three planes of finite pixels, or a reason of the list."""
    if isinstance(found, Refused):
        assert found.reason in REASONS
        assert found.reason != "plugin_error", found.detail
        return
    assert found.pixels.ndim == 3
    assert found.pixels.shape[0] == 3
    assert found.pixels.dtype.kind in "fu"


def read(name: str, data: bytes) -> None:
    try:
        check(image(data, name, SOURCES))
    except Refused as refused:
        check(refused)


@st.composite
def damage(draw: st.DrawFn) -> tuple[str, bytes]:
    """A valid image with bytes changed, left out or put in, or cut off."""
    name, data = draw(st.sampled_from(originals()))
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(len(changed) - 1, 0)))
        kind = draw(st.sampled_from(("flip", "cut", "insert", "remove", "zero")))
        if kind == "flip" and changed:
            changed[place] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del changed[place:]
        elif kind == "insert":
            changed[place:place] = draw(st.binary(max_size=20))
        elif kind == "remove":
            del changed[place : place + draw(st.integers(1, 200))]
        else:
            changed[place : place + 16] = bytes(len(changed[place : place + 16]))
    return name, bytes(changed)


@hostile
@given(damage())
def test_a_damaged_image_gives_pixels_or_a_reason(case: tuple[str, bytes]) -> None:
    read(*case)


@hostile
@given(st.sampled_from(("g.jpg", "g.png", "g.fits")), st.binary(max_size=4000))
def test_any_bytes_give_a_reason(name: str, data: bytes) -> None:
    read(name, data)


@hostile
@given(st.data())
def test_a_damaged_archive_gives_images_or_reasons_for_its_members(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for number, (name, content) in enumerate(originals()):
            member = tarfile.TarInfo(f"{number}-{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    changed = bytearray(sink.getvalue())
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.tar"
    path.write_bytes(bytes(changed[: data.draw(st.integers(1, len(changed)))]))
    try:
        count = tar.count(str(path), tar.Options())
    except ValueError:
        return
    for found in tar.read_rows(str(path), list(range(count or 0)), tar.Options()) if count else []:
        check(found)


@pytest.mark.long
@pytest.mark.kill
@pytest.mark.timeout(600 + 60 * KILLS)
def test_a_killed_ingest_of_images_is_made_again_the_same(tmp_path: Path) -> None:
    """Images and damaged ones, in shards of 20; every byte is that of an undisturbed run."""
    (tmp_path / "in").mkdir()
    for number in range(120):
        data = bytearray(originals()[number % 5][1])
        if number % 11 == 0:
            del data[len(data) // 2 :]
        (tmp_path / "in" / f"g{number:03d}.{originals()[number % 5][0][2:]}").write_bytes(bytes(data))
    prepare = json.dumps({"grid": "none", "image": {"size": 32}})
    values = [
        f"input={tmp_path}/in",
        "sources=[images]",
        "shard=20",
        "refuse_above=1.0",
        f"prepare={prepare}",
    ]
    generator = random.Random(3)
    with new_workplace() as place:
        started = time.monotonic()
        job = place.python("jobs/ingest.py", *values, f"store={tmp_path}/whole", "workers=1")
        assert job.wait() == 0, job.err
        seconds = time.monotonic() - started
        for _ in range(KILLS):
            job = place.python("jobs/ingest.py", *values, f"store={tmp_path}/store", "workers=1")
            time.sleep(generator.uniform(0.5, 0.9) * seconds)
            if job.process.poll() is None:
                job.kill()
        job = place.python("jobs/ingest.py", *values, f"store={tmp_path}/store", "workers=1")
        assert job.wait() == 0, job.err
    kinds = ("spectra", "refused")
    whole, again = (
        {
            path.name + path.parent.name: path.read_bytes()
            for kind in kinds
            for path in (tmp_path / name / kind).iterdir()
        }
        for name in ("whole", "store")
    )
    assert whole == again
    assert len(whole) == 12
