"""Hosts on this machine: each has a network, processes, a disk and an SSH server of its own.

A host is a set of Linux namespaces. A bridge joins all hosts with the desk: the namespaces of the process
that makes them, from where a person would work. Nothing of it is seen from outside. When the desk ends,
however it ends, the kernel removes all processes, links and disks of the hosts.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = {
    "ip": "iproute2",
    "tc": "iproute2",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
    "rsync": "rsync",
}
"""What hosts are made of, and the Debian packages that bring it."""
SPACES = ("--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc")
PATH = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TEMPORARY = '"$(dirname "$(mktemp -u)")"'
"""The folder of temporary files, as the shell of a host finds it."""
FOLDER = Path("/run/hosts")
"""The files of hosts, on a file system in memory that only hosts and the desk see."""
MARK = "SURVEY_HOSTS_MARK"
"""A variable that reaches all processes of the hosts, if it is set."""
DESK = "10.77.0.254"
USER = "survey"
"""The user of the SSH servers. Inside the namespaces it has all rights."""

START = """set -eu
mount -t tmpfs -o size={memory}m tmpfs /dev/shm
{own_tmp}
mount --bind {home}/passwd /etc/passwd
mount --bind {folder}/hosts /etc/hosts
hostname {name}
ip link set lo up
touch {home}/waiting
until ip link set eth0 up 2>{home}/link; do sleep 0.05; done
ip address add {address}/24 dev eth0
ip route add default via {desk}
{sshd} -D -e -f {home}/sshd_config &
wait
"""
SSHD = """ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
StrictModes no
UsePAM no
PidFile none
PasswordAuthentication no
Subsystem sftp internal-sftp
SetEnv {environment}
"""


def missing() -> str:
    """Why this machine can have no such hosts, in one sentence; empty if it can."""
    if sys.platform != "linux" or os.geteuid():
        return "hosts are namespaces of Linux: only root can make them"
    absent = sorted({package for name, package in PROGRAMS.items() if not shutil.which(name, path=PATH)})
    if absent:
        return f"hosts need the Debian packages {', '.join(absent)}: apt-get install {' '.join(absent)}"
    bridge = ["ip", "link", "add", "br0", "type", "bridge"]
    tried = subprocess.run(["unshare", *SPACES, *bridge], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"this machine does not allow namespaces with a network ({tried.stderr.strip()})"
    return ""


def at_desk(module: str, *arguments: str) -> int:
    """Run a module of this checkout in new namespaces; its exit code. All that it starts ends with it."""
    if reason := missing():
        print(f"not run: {reason}", file=sys.stderr)
        return 2
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", *SPACES, sys.executable, "-m", module]
    return subprocess.run([*command, *arguments], cwd=ROOT, check=False).returncode


def own_tmp(size_mb: int) -> str:
    """Commands that give /tmp a file system of its own. What the programs here need stays where it is."""
    lines, needed = (
        [f"mount -t tmpfs -o size={size_mb}m tmpfs /tmp"],
        {str(ROOT), sys.prefix, sys.base_prefix},
    )
    for number, path in enumerate(sorted(path for path in needed if path.startswith("/tmp/"))):
        kept = f"{FOLDER}/kept/{number}"
        lines.insert(0, f"mkdir -p {kept}; mountpoint -q {kept} || mount --bind {path} {kept}")
        lines.append(f"mkdir -p {path}; mount --bind {kept} {path}")
    return "\n".join(lines)


def call(*command: str) -> str:
    """Run a command that must succeed; its output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not so after {seconds:g} s: {what}")
        time.sleep(0.1)


class Host:
    """One host; `disk_mb` is the size of its disk, `memory_mb` that of its shared memory."""

    def __init__(
        self, folder: Path, number: int, environment: dict[str, str], disk_mb: int, memory_mb: int
    ) -> None:
        self.folder, self.name, self.address = folder, f"h{number}", f"10.77.0.{number}"
        self.home, self.link = folder / self.name, f"link{number}"
        (self.home / "home").mkdir(parents=True)
        lines = Path("/etc/passwd").read_text()
        (self.home / "passwd").write_text(f"{USER}:x:0:0::{self.home}/home:/bin/bash\n{lines}")
        words = " ".join(f'{name}="{value}"' for name, value in (environment | {"LANG": "C.UTF-8"}).items())
        sshd = SSHD.format(address=self.address, folder=folder, environment=words)
        (self.home / "sshd_config").write_text(sshd)
        script = START.format(
            memory=memory_mb,
            own_tmp=own_tmp(disk_mb),
            folder=folder,
            name=self.name,
            home=self.home,
            address=self.address,
            desk=DESK,
            sshd=shutil.which("sshd", path=PATH),
        )
        self.log = (self.home / "log").open("wb")
        self.process = subprocess.Popen(
            ["unshare", *SPACES, "bash", "-c", script],
            env={"PATH": PATH, "LANG": "C.UTF-8", MARK: os.environ.get(MARK, "")},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        until((self.home / "waiting").exists, f"{self.name} starts")
        inner = ["name", "eth0", "netns", str(self.process.pid)]
        call("ip", "link", "add", "name", self.link, "type", "veth", "peer", *inner)
        call("ip", "link", "set", "dev", self.link, "master", "br0", "up")

    def ssh(self, command: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the host."""
        options = ["-i", str(self.folder / "key"), "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"]
        options += ["-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=5"]
        words = ["ssh", *options, f"{USER}@{self.address}", command]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=seconds)

    def answers(self) -> bool:
        """Whether its SSH server lets the desk in."""
        return self.ssh("true").returncode == 0

    def cut(self) -> None:
        """Pull its cable."""
        call("ip", "link", "set", "dev", self.link, "down")

    def join(self) -> None:
        """Put its cable in again."""
        call("ip", "link", "set", "dev", self.link, "up")

    def slow(self, rate: str) -> None:
        """Let no more through than, for example, 4mbit: to the host, and from it."""
        limit = ["root", "tbf", "rate", rate, "burst", "32kb", "latency", "500ms"]
        call("tc", "qdisc", "add", "dev", self.link, *limit)
        inner = ["nsenter", "--net", "--target", str(self.process.pid)]
        call(*inner, "tc", "qdisc", "add", "dev", "eth0", *limit)

    def steady(self) -> None:
        """The full speed again."""
        call("tc", "qdisc", "del", "dev", self.link, "root")
        inner = ["nsenter", "--net", "--target", str(self.process.pid)]
        call(*inner, "tc", "qdisc", "del", "dev", "eth0", "root")

    def processes(self, pattern: str = "") -> list[int]:
        """The host's own numbers of its processes whose command line holds the pattern."""
        found = self.ssh(f"pgrep -f -- '{pattern or '.'}'").stdout.split()
        return [int(number) for number in found]

    def end(self) -> None:
        """Switch the host off."""
        self.process.kill()
        self.process.wait()
        self.log.close()


@contextmanager
def start(
    count: int, environment: dict[str, str] | None = None, disk_mb: int = 500, memory_mb: int = 400
) -> Iterator[list[Host]]:
    """So many hosts, and a folder `data` that all of them share with the desk."""
    folder = FOLDER
    call("mount", "-t", "tmpfs", "-o", "size=4g", "tmpfs", "/run")
    (folder / "data").mkdir(parents=True)
    Path("/run/sshd").mkdir()
    call("bash", "-ec", own_tmp(1000))
    call("ip", "link", "set", "lo", "up")
    call("ip", "link", "add", "br0", "type", "bridge")
    call("ip", "address", "add", f"{DESK}/24", "dev", "br0")
    call("ip", "link", "set", "br0", "up")
    for name in ("key", "host_key"):
        call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
    names = [f"10.77.0.{number} h{number}" for number in range(1, count + 1)]
    (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *names, ""]))
    hosts: list[Host] = []
    try:
        hosts.extend(
            Host(folder, number, environment or {}, disk_mb, memory_mb) for number in range(1, count + 1)
        )
        for host in hosts:
            until(host.answers, f"{host.name} answers: {(host.home / 'log').read_text()}")
        yield hosts
    finally:
        for host in hosts:
            host.end()


def check() -> None:
    """Make two hosts and print what each can do, as lines of `what: answer`."""
    with start(2) as (first, second):
        options = f"-i {first.folder}/key -o StrictHostKeyChecking=no -o ConnectTimeout=2"
        hello = f"ssh {options} {second.address} hostname"
        print("over the cable:", first.ssh(hello).stdout.strip(), flush=True)
        second.cut()
        print("without the cable:", first.ssh(hello).stdout.strip() or "no answer")
        second.join()
        until(lambda: "h2" in first.ssh(hello).stdout, "the cable is in again")
        print("the cable again:", first.ssh(hello).stdout.strip())
        first.ssh(f"touch {TEMPORARY}/of-first /dev/shm/of-first")
        print("files of the other:", second.ssh("ls /tmp /dev/shm | grep first").stdout.strip() or "none")
        servers = len(second.processes("sshd_config .[l]istener"))
        print("processes of the other:", "none" if servers == 1 else f"{servers} SSH servers", flush=True)
        if "stay" in sys.argv:
            time.sleep(600)


if __name__ == "__main__":
    check() if "at-desk" in sys.argv else sys.exit(at_desk("tests.cluster.hosts", "at-desk", *sys.argv[1:]))
