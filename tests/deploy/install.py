#!/usr/bin/env python3
"""Whether docs/install.md is right: tests/deploy/install.py --packages DIR

DIR has the .deb and the archive, as deploy/packages/build makes them. The page's commands are run
as they stand, in two minimal Debians: one with internet, which fills the stick, and one without,
which gets it. There is no systemd in there. A small systemctl stands in for it, and starts what the
installed unit says, as the account that it says.

Takes two minutes. Needs root, mmdebstrap and unshare; where one is missing that is said, and fails
where CI is set.
"""

import fcntl
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SUITE = "bookworm"
MARK = re.compile(r"<!-- run by tests/deploy/install\.py, (with internet|on the box) -->\n```sh\n(.*?)```", re.DOTALL)
MOUNTS = """
mount -t proc proc "$1/proc" && mount -t tmpfs tmpfs "$1/dev/shm" && mount --bind "$2" "$1/media/stick" \\
  && exec chroot "$1" /bin/bash /script
"""
SYSTEMCTL = r"""#!/bin/sh
unit=/usr/lib/systemd/system/client-failover.service
said() { sed -n "s/^$1=//p" $unit; }
stop() {
  [ -e /run/service.pid ] || return 0
  kill "$(cat /run/service.pid)"
  while kill -0 "$(cat /run/service.pid)" 2>/dev/null; do sleep 0.1; done
  rm /run/service.pid
}
start() {
  setpriv --reuid="$(said User)" --regid="$(said Group)" --clear-groups --no-new-privs --bounding-set=-all \
    $(said ExecStart) >>/var/log/service 2>&1 </dev/null &
  echo $! >/run/service.pid
}
case "$*" in
  "enable --now client-failover" | "start client-failover") start ;;
  "stop client-failover") stop ;;
  *) echo "systemctl: $* is not known here" >&2; exit 1 ;;
esac
"""


def fail(message):
    sys.exit(f"install: {message}")


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=500)
    if done.returncode != 0:
        fail(f"{command[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-3000:]}")


def minimal_debian(folder):
    """With the sources of this machine."""
    files = sorted(Path("/etc/apt/sources.list.d").glob("*.sources"))
    sources = folder / "mirrors.sources"
    sources.write_text("\n".join(file.read_text() for file in files if SUITE in file.read_text()))
    said = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True).stdout
    options = [line for line in said.splitlines() if re.match(r"Acquire::(.*Proxy|Check-|Retries)", line)]
    root = folder / "internet"
    given = [f"--aptopt={line}" for line in options]
    run("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", *given, SUITE, root, sources)
    # Nothing is started by what is installed.
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    (root / "media/stick").mkdir()
    return root


def run_blocks(root, stick, blocks, has_internet):
    """Runs commands in there, each block in a shell of its own. Without internet there is loopback
    alone. What was started ends with it."""
    for number, block in enumerate(blocks):
        (root / f"block-{number}").write_text(block)
    # The last of these are those that remove it: systemd would have stopped it.
    steps = [
        f"{'systemctl stop client-failover;' if 'apt-get remove' in block else ''}"
        f"echo '== block {number + 1} of {len(blocks)}'; cd /root; bash -eu /block-{number} </dev/null || exit 1"
        for number, block in enumerate(blocks)
    ]
    (root / "script").write_text("\n".join(steps) + "\n")
    isolated = ["--mount", "--pid", "--fork", "--kill-child", "--propagation=private"]
    if not has_internet:
        isolated += ["--net", "--uts"]
    environment = {
        "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C",
        "HOME": "/root",
    }
    command = ["unshare", *isolated, sys.executable, __file__, "--inside", str(root), str(stick), str(has_internet)]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=500
    )
    if done.returncode != 0:
        log = root / "var/log/service"
        print(done.stdout[-6000:], log.read_text()[-3000:] if log.exists() else "", sep="\n")
        fail(f"the commands in {root.name} ended with {done.returncode}")
    return done.stdout


def inside(root, stick, has_internet):
    if has_internet != "True":
        socket.sethostname("box")
        with socket.socket() as any_socket:
            is_up = 0x1
            fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", is_up))
    os.execvp("sh", ["sh", "-euc", MOUNTS, "sh", root, stick])


def main():
    if len(sys.argv) == 5 and sys.argv[1] == "--inside":
        inside(*sys.argv[2:])
    if len(sys.argv) != 3 or sys.argv[1] != "--packages":
        sys.exit("usage: tests/deploy/install.py --packages DIR")
    missing = [tool for tool in ("mmdebstrap", "unshare") if not shutil.which(tool)]
    if missing or os.geteuid() != 0:
        print(f"install: skipped: there is no {', no '.join(missing) or 'root'}", file=sys.stderr)
        sys.exit(1 if os.environ.get("CI") else 0)
    packages = Path(sys.argv[2])
    ours = [*packages.glob("client-failover_*_amd64.deb"), *packages.glob("client-failover-*-x86_64-linux.tar.gz")]
    if len(ours) != 2:
        fail(f"{packages} has not one .deb and one archive")
    blocks = MARK.findall((ROOT / "docs/install.md").read_text(encoding="utf-8"))
    if len(blocks) != 7:
        fail(f"docs/install.md has {len(blocks)} blocks to run")

    folder = Path(tempfile.mkdtemp(prefix="cf-install-"))
    folder.chmod(0o755)
    try:
        stick = folder / "stick"
        stick.mkdir()
        for file in ours:
            shutil.copy(file, stick)
        if (packages / "SHA256SUMS").exists():
            shutil.copy(packages / "SHA256SUMS", stick)
        else:
            sums = subprocess.run(["sha256sum", *(file.name for file in ours)], cwd=stick, check=True, capture_output=True)
            (stick / "SHA256SUMS").write_bytes(sums.stdout)
        internet = minimal_debian(folder)
        box = folder / "box"
        run("cp", "--archive", internet, box)
        systemctl = box / "usr/local/bin/systemctl"
        systemctl.write_text(SYSTEMCTL)
        systemctl.chmod(0o755)
        (box / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.1.1 box\n")
        # Whatever it could be fetched from is out of reach, and nothing is known of it.
        shutil.rmtree(box / "var/lib/apt/lists")
        (box / "var/lib/apt/lists").mkdir()
        shutil.copy(next(file for file in ours if file.suffix == ".gz"), box / "root")

        run_blocks(internet, stick, [text for where, text in blocks if where == "with internet"], True)
        size = sum(file.stat().st_size for file in stick.rglob("*") if file.is_file())
        print(f"install: the stick has {len(list(stick.glob('*.deb')))} packages, {size / 1e6:.0f} MB", flush=True)
        said = run_blocks(box, stick, [text for where, text in blocks if where == "on the box"], False)
        for wanted in ["no groups", "The promise held.", "This is key 1", "This is key 2"]:
            if wanted not in said:
                print(said[-6000:])
                fail(f"nobody said '{wanted}'")
        left = [path for path in ("var/lib/client-failover", "etc/client-failover") if (box / path).exists()]
        if left:
            fail(f"{left} is there after the purge")
        print("install: docs/install.md is right on a box without internet")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
