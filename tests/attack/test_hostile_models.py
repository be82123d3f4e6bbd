"""Hostile models: a file that holds no weights, or other weights than its run, ends with an error that names
it. No pickle is loaded, and no answer is silently no number.
"""

import hashlib
import io
import json
import math
import pickle
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from survey.checked import WrittenFile
from survey.ensemble.ensemble import DOMAIN, open_ensemble
from survey.training import checkpoint
from survey.training.batches import Spectra
from survey.training.run import MODEL, open_run
from tests.attack.hostile import attempt
from tests.ensemble import untrained
from tests.finished import change_document


class Runner:
    """A pickle of this creates a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def raw_models(sound: bytes, mark: Path) -> Iterator[tuple[str, bytes]]:
    """Files under the name of a model that are no model."""
    yield "pickle", pickle.dumps(Runner(mark))
    buffer = io.BytesIO()
    torch.save({"weights": Runner(mark)}, buffer)
    yield "torch.save", buffer.getvalue()
    yield "empty", b""
    yield "a header without an end", (2**63).to_bytes(8, "little") + sound[8:]
    yield "a header of no length", bytes(8)
    for name, header in (
        ("a deep header", b'{"a":' * 100_000),
        ("negative offsets", b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[-4,0]}}'),
        ("a shape of 10^18", b'{"a":{"dtype":"F32","shape":[1000000000000000000],"data_offsets":[0,4]}}'),
        ("no JSON", b"\xff" * 64),
    ):
        yield name, len(header).to_bytes(8, "little") + header + bytes(4)


def weights(tensors: dict[str, torch.Tensor]) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Other tensors than those of a run, by what is other."""
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel() > 1)
    for value in (math.nan, math.inf):
        changed = tensors[name].clone()
        changed.view(-1)[0] = value
        yield str(value), tensors | {name: changed}
    yield "missing", {key: tensor for key, tensor in tensors.items() if key != name}
    yield "unknown", tensors | {"x" * 10_000: torch.ones(1)}
    yield "none", {}
    for shape in ((0,), (1, *tensors[name].shape), tuple(size + 1 for size in tensors[name].shape)):
        yield f"shape {shape}", tensors | {name: torch.ones(shape)}
    for kind in (torch.float16, torch.float64, torch.int64, torch.bool, torch.complex64):
        yield str(kind), tensors | {name: tensors[name].to(kind)}
    yield "too large for float32", tensors | {name: tensors[name].double() + 1e300}


def replace_model(run: Path, data: bytes) -> None:
    """Put a file in place of the model, and make all checksums right again."""
    (run / MODEL).write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    change_document(run / "run.json", {"id": sha256[:16], "weights_sha256": sha256})
    written = WrittenFile.at(str(run / MODEL)).model_dump()
    change_document(run / "run.json", lambda document: document["content"].update({MODEL: written}))


def check_run(run: Path, pixels: int) -> bool:
    """Whether a run can be used. Then its answers are finite; else the error names the model."""
    opened = attempt(run / MODEL, lambda: open_run(str(run)))
    if opened is not None:
        answers = opened.predict(Spectra(torch.ones(2, pixels), torch.ones(2, pixels)))
        assert all(np.isfinite(answer).all() for answer in answers.values())
    return opened is not None


def test_a_hostile_model_is_refused_by_name_and_never_unpickled(tmp_path: Path) -> None:
    store, mark = untrained.store(tmp_path, range(2)), tmp_path / "mark"
    run = untrained.run(tmp_path / "run", store)
    sound, (tensors, _) = (run / MODEL).read_bytes(), checkpoint.read_tensors(str(run / MODEL))
    for kind, data in raw_models(sound, mark):
        replace_model(run, data)
        assert not check_run(run, len(store.grid)), kind
    assert not mark.exists(), "a pickle was loaded"
    for kind, changed in weights(tensors):
        replace_model(run, sound)
        checkpoint.write_tensors(str(run / MODEL), changed, {})
        replace_model(run, (run / MODEL).read_bytes())
        is_used = check_run(run, len(store.grid))
        assert is_used == (kind in ("torch.float16", "torch.float64")), kind


def test_a_document_with_other_layers_than_its_weights_is_refused_before_they_are_made(
    tmp_path: Path,
) -> None:
    store = untrained.store(tmp_path, range(2))
    run = untrained.run(tmp_path / "run", store)
    options = json.loads((run / "run.json").read_text())["options"]
    task = json.loads((run / "run.json").read_text())["task"]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for kind, change, named in (
        ("layers of 4 GB", {"options": options | {"hidden": 8192, "depth": 16}}, MODEL),
        ("a layer of 10^12", {"options": options | {"hidden": 10**12}}, "run.json"),
        ("another network", {"model": "mpbdnet", "options": {}}, MODEL),
        ("no network", {"model": "../../etc"}, "run.json"),
        ("300,000 labels", {"task": task | {"labels": ["Teff"] * 300_000}}, MODEL),
    ):
        sound = (run / "run.json").read_bytes()
        change_document(run / "run.json", change)
        assert attempt(run / named, lambda: open_run(str(run))) is None, kind
        (run / "run.json").write_bytes(sound)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000, "more than 1 GB was taken"
    assert check_run(run, len(store.grid))


def test_the_document_of_another_run_is_refused(tmp_path: Path) -> None:
    store = untrained.store(tmp_path, range(2))
    run, other = (untrained.run(tmp_path / f"run-{seed}", store, seed=seed) for seed in range(2))
    third = untrained.run(tmp_path / "third", store, "reg", ("Teff",))
    for document in (other, third):
        shutil.copy(document / "run.json", run / "run.json")
        assert not check_run(run, len(store.grid))


def test_a_domain_that_is_not_finite_is_refused_by_name(tmp_path: Path) -> None:
    place = untrained.three(tmp_path / "ensemble", untrained.store(tmp_path, range(2)))
    tensors, document = checkpoint.read_tensors(str(place / DOMAIN))
    for name, tensor in tensors.items():
        if name.endswith("usual"):
            continue  # NaN here means that there is no distance
        for changed in ({name: torch.full_like(tensor, math.nan)}, {name: tensor + math.inf}):
            checkpoint.write_tensors(str(place / DOMAIN), tensors | changed, document)
            written = {DOMAIN: WrittenFile.at(str(place / DOMAIN)).model_dump()}
            content = json.loads((place / "ensemble.json").read_text())["content"] | written
            change_document(place / "ensemble.json", {"content": content})
            assert attempt(place / DOMAIN, lambda: open_ensemble(str(place))) is None, name
