"""The steps of the Dockerfile in a folder, where there is no Docker.

    python -m tests.image FOLDER [NAME=VALUE ...]

NAME=VALUE is a build argument, such as TORCH=URL. Each stage is a folder that debootstrap has made, with
Debian's Python in place of the image `python:3.11-slim-bookworm`. Commands run there with their own processes
and mounts, as the user that the Dockerfile names. At the end, jobs run inside, and the health check with and
without a head of Ray. Needs root, debootstrap, Debian's packages and PyPI; takes ten minutes and 6 GB.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

ROOT = Path(__file__).resolve().parents[1]
SUITE = "bookworm"
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")
JOBS = (
    "survey mock cemp out=files n=200 chunk=100",
    "RAY_ADDRESS=local survey ingest cemp input=files store=store shard=50 workers=2",
    "survey predict cemp store=store predictions=predictions",
    "test $(id -u) = 1000 && ! touch /opt/survey/written",
    "bash --login -c -i 'true && source ~/.bashrc; ray --version && survey --help >/dev/null'",  # as `ray up`
)
HEAD = "ray start --head --num-cpus=1 >/dev/null && sleep 5 && {check} && ray stop"


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile with what follows them on their line."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


def shared_paths() -> dict[str, str]:
    """Folders of packages and certificates that pip needs in a stage, by their places there."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    found = re.findall(r"(?:file://)?(/[^\s']+)", listed.stdout)
    folders = [path.removesuffix("/simple") for path in found]  # an index of files has them beside it
    return {path: path for path in [*folders, "/etc/resolv.conf"] if Path(path).exists()}


def pip_settings() -> dict[str, str]:
    """The settings of pip on this machine, as variables; without constraints, which the Dockerfile gives."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    pairs = re.findall(r"^(?:global|:env:)\.([\w-]+)='(.*)'$", listed.stdout, re.M)
    return {f"PIP_{name.upper().replace('-', '_')}": value for name, value in pairs if name != "constraint"}


@dataclass
class Stage:
    """One stage of the image: its root folder, and the state that instructions change."""

    root: Path
    arguments: dict[str, str]
    environment: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
    )
    folder: str = "/"
    user: str = "0"

    def run(self, command: str, home: str = "/root") -> float:
        """Run a shell command inside; the seconds that it took."""
        mounts = [f"mount -t proc proc {self.root}/proc", f"mount --rbind /dev {self.root}/dev"]
        mounts.append(f"mount -t tmpfs tmpfs {self.root}/dev/shm")
        for source, place in shared_paths().items():
            inside = Path(f"{self.root}{place}")
            inside.parent.mkdir(parents=True, exist_ok=True)
            if Path(source).is_dir():
                inside.mkdir(exist_ok=True)
            else:
                inside.touch()
            mounts.append(f"mount --bind {source} {inside}")
        known = pip_settings() | self.arguments | self.environment | {"HOME": home}
        words = ["env", "-i", *(f"{name}={value}" for name, value in known.items())]
        words += ["sh", "-c", f"cd {self.folder} && {command}"]
        user = f"{self.user}:{self.user}"
        chroot = shlex.join(["chroot", f"--userspec={user}", str(self.root), *words])
        started = time.monotonic()
        script = "set -e; " + "; ".join(mounts) + f"; {chroot}"
        subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", script], check=True
        )
        return time.monotonic() - started

    def set(self, kind: str, rest: str, given: dict[str, str]) -> None:
        """The instructions that hold for those after them."""
        if kind == "ARG":
            name, _, value = rest.partition("=")
            self.arguments[name] = given.get(name, value)
        elif kind == "ENV":
            pairs = dict(word.split("=", 1) for word in shlex.split(rest))
            known = self.environment
            self.environment |= {name: Template(text).substitute(known) for name, text in pairs.items()}
        elif kind == "WORKDIR":
            self.folder = rest
            (self.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif kind == "USER":
            self.user = rest
        else:
            raise ValueError(f"Dockerfile: {kind}: this program does not know it")

    def copy(self, rest: str, stages: dict[str, "Stage"]) -> None:
        """COPY, from the checkout or from another stage."""
        *sources, place = shlex.split(rest)
        target = Path(f"{self.root}{Path(self.folder) / place}")
        if sources[0].startswith("--from="):
            origin, single = stages[sources[0].removeprefix("--from=")].root, sources[1].lstrip("/")
            shutil.copytree(origin / single, target, symlinks=True, dirs_exist_ok=True)
            return
        for name in sources:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target, ignore=LEFT_OUT, dirs_exist_ok=True)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, target)


def make_base(folder: Path) -> Path:
    """A minimal Debian with Python, once."""
    base = folder / "base"
    if not (base / "usr/bin/python3").exists():
        packages = "--include=python3,python3-venv,ca-certificates"
        subprocess.run(["debootstrap", "--variant=minbase", packages, SUITE, str(base)], check=True)
    (base / "usr/local/bin/python").unlink(missing_ok=True)
    (base / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    return base


def build(folder: Path, given: dict[str, str]) -> tuple[Stage, str]:
    """Carry out the Dockerfile; the last stage, and the command of its health check."""
    base, stages, stage, check = make_base(folder), {}, None, ""
    for kind, rest in instructions((ROOT / "Dockerfile").read_text()):
        if kind == "FROM":
            name = rest.split(" AS ")[1] if " AS " in rest else "image"
            shutil.rmtree(folder / name, ignore_errors=True)
            subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(folder / name)], check=True)
            stage = stages[name] = Stage(folder / name, {})
        elif stage is None:
            continue  # ARG PYTHON: debootstrap has made the base
        elif kind == "COPY":
            stage.copy(rest, stages)
        elif kind == "RUN":
            print(f"{stage.run(rest):6.0f} s  RUN {rest[:80]}", flush=True)
        elif kind == "HEALTHCHECK":
            check = shlex.join(json.loads(rest.partition("CMD ")[2]))
        elif kind != "CMD":
            stage.set(kind, rest, given)
    assert stage
    return stage, check


def main(folder: str, *given: str) -> None:
    """Build the image, and run jobs and the health check in it."""
    image, check = build(Path(folder), dict(word.split("=", 1) for word in given))
    size = subprocess.run(
        ["du", "-sm", f"{image.root}/opt/survey"], capture_output=True, text=True, check=True
    )
    print(f"built: {size.stdout.split()[0]} MB in /opt/survey, user {image.user}")
    for command in (*JOBS, check, HEAD.format(check=check)):
        print(f"{image.run(command, '/home/survey'):6.0f} s  {command}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
