"""Hosts made of namespaces: apart from each other, joined by cables, gone with the program that made them."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.cluster import hosts
from tests.processes import ROOT, Workplace


@pytest.fixture(autouse=True)
def allowed() -> None:
    """Skip, with a sentence, where this machine can have no hosts."""
    if reason := hosts.missing():
        pytest.skip(reason)


def living(mark: str) -> list[str]:
    """The commands of processes with this mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(hosts.MARK) == mark:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def test_hosts_are_apart_and_joined_by_cables_and_go_with_the_program(workplace: Workplace) -> None:
    job = workplace.python("-m", "tests.cluster.hosts", "stay", **{hosts.MARK: workplace.mark})
    assert job.until(lambda: "processes of the other" in job.out, 120), job.err
    assert job.out.splitlines() == [
        "over the cable: h2",
        "without the cable: no answer",
        "the cable again: h2",
        "files of the other: none",
        "processes of the other: none",
    ]
    assert len(living(workplace.mark)) > 4
    job.process.send_signal(signal.SIGKILL)
    job.wait()
    hosts.until(lambda: not living(workplace.mark), "all that was started has ended", 20)
    assert not hosts.FOLDER.exists()


def test_without_rights_or_programs_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(hosts, "PATH", "/nowhere")
        assert hosts.missing().startswith("hosts need the Debian packages iproute2, openssh-client,")
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 1000)
        assert hosts.missing() == "hosts are namespaces of Linux: only root can make them"


@pytest.mark.long
@pytest.mark.cluster
@pytest.mark.timeout(2400)
def test_a_cluster_of_two_hosts_makes_the_same_files_as_one_host() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster.demo"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the cluster and one host make the same files" in done.stdout
