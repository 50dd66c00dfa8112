#!/usr/bin/env python3
"""Makes the images of the Dockerfile without a container engine, and runs the service in them.

The steps are the Dockerfile's own, read from it; one that is not understood is an error. A stage of the Rust image runs in a fresh
folder, with the Rust of this machine: its steps have no absolute paths. A stage of the Debian image runs in a minimal Debian root,
made by mmdebstrap. Then the service is started in the plain image as docker-compose.yml starts a replica, on a PostgreSQL of this
script's own, and is asked by the health check of the compose file; and in the one with PostgreSQL as it is, on a volume. Both with the
image's user, without any capability, on a root that cannot be written to.

Usage: tests/deploy/image.py [--keep DIR] [--package FILE] [--archives DIR]
  --keep DIR      a folder that is not there yet: what was built stays in it (the sources and target/ in DIR/build/src)
  --package FILE  a .deb that is there already, in place of what the stage `build` would make
  --archives DIR  the images are written there, each as an archive in OCI's layout, which engines and registries take

The build is a whole optimised one and takes minutes, the rest half a minute. The second part needs root, mmdebstrap and PostgreSQL's
binaries: where one is missing, that is said and left out. Ends with 0 where everything held, and with 1 otherwise.
"""

import contextlib
import hashlib
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

# What is given as --build-arg.
ARGUMENTS = {
    "SOURCE_COMMIT": os.environ.get("SOURCE_COMMIT") or "0123456789abcdef0123456789abcdef01234567",
    "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH") or "1700000000",
}


class Wrong(Exception):
    """Something that did not hold."""


def run(command, **options):
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, text=True, **options)
    if done.returncode != 0:
        said = (done.stdout or "") + (done.stderr or "")
        raise Wrong(f"{shlex.join(map(str, command))} ended with {done.returncode}{': ' if said else ''}{said[-4000:]}")
    return done.stdout


@contextlib.contextmanager
def timed(what):
    print(f"image: {what}", flush=True)
    began = time.monotonic()
    yield
    print(f"image: {what}: {time.monotonic() - began:.1f} s", flush=True)


# --- What the Dockerfile says


# What says how an image is run, and what it is.
DESCRIBING = ("USER", "EXPOSE", "ENTRYPOINT", "CMD", "ENV", "LABEL", "VOLUME", "HEALTHCHECK")


@dataclass
class Stage:
    image: str
    name: str
    steps: list = field(default_factory=list)


def with_variables(text, variables):
    def value(found):
        name = found.group(1) or found.group(2)
        if name not in variables:
            raise Wrong(f"Dockerfile: ${name} in '{text}' has no value")
        return variables[name]

    return re.sub(r"\$\{(\w+)\}|\$(\w+)", value, text)


def read_dockerfile(text):
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    instructions = re.sub(r"\\\n", " ", "\n".join(lines)).splitlines()
    variables, stages = {}, []
    for instruction in instructions:
        word, _, rest = instruction.strip().partition(" ")
        word, rest = word.upper(), rest.strip()
        if word == "ARG" and not stages and "=" in rest:
            name, _, default = rest.partition("=")
            variables[name] = default
        elif word == "FROM":
            found = re.fullmatch(r"(\S+)(?:\s+AS\s+(\S+))?", rest, re.IGNORECASE)
            if not found:
                raise Wrong(f"Dockerfile: not understood: {instruction}")
            stages.append(Stage(with_variables(found.group(1), variables), found.group(2) or ""))
        elif word in ("RUN", "COPY", "WORKDIR", "ARG", *DESCRIBING) and stages:
            stages[-1].steps.append((word, rest))
        else:
            raise Wrong(f"Dockerfile: not understood: {instruction}")
    return stages


def copy_context(target):
    """The files that an engine would be sent: all but those that .dockerignore names."""
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    ignored = {line.strip() for line in ignored if line.strip() and not line.startswith("#")}
    for name in ignored:
        if not re.fullmatch(r"[\w.-]+", name):
            raise Wrong(f".dockerignore: not understood: {name}")
    for entry in sorted(REPOSITORY.iterdir()):
        if entry.name not in ignored:
            copy(entry, target / entry.name)


def copy(source, target):
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, symlinks=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


# --- Stages


class Build:
    """The stages in folders below one: a stage's `/src` is DIR/<stage>/src."""

    def __init__(self, folder, package=None):
        self.folder = folder
        self.stages = read_dockerfile((REPOSITORY / "Dockerfile").read_text())
        self.roots = {}
        if package:
            copy(package, folder / "build/src/target/packages" / package.name)
            self.roots[id(self.named("build"))] = folder / "build"

    def named(self, name):
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise Wrong(f"Dockerfile: there is no stage '{name}'")

    def build(self, stage):
        """Its folder; made by its steps unless it was already."""
        if id(stage) in self.roots:
            return self.roots[id(stage)]
        if re.match(r"rust:[\d.]+-bookworm", stage.image):
            root = self.with_rust(stage)
        elif stage.image.startswith("debian:bookworm"):
            root = self.with_debian(stage)
        elif stage.image == "scratch":
            root = self.folder / stage.name
            root.mkdir()
            self.in_root(stage, root)
        elif any(other.name == stage.image for other in self.stages):
            root = self.folder / stage.name
            run(["cp", "--archive", "--reflink=auto", self.build(self.named(stage.image)), root])
            self.in_root(stage, root)
        else:
            raise Wrong(f"Dockerfile: the image {stage.image} is not known here")
        self.roots[id(stage)] = root
        return root

    def with_rust(self, stage):
        root = self.folder / stage.name
        root.mkdir()
        wanted = stage.image.removeprefix("rust:").split("-")[0]
        if not run(["cargo", "--version"], capture_output=True).startswith(f"cargo {wanted}."):
            print(f"image: this machine's Rust is another than {wanted}")
        directory, arguments = None, {}
        for word, rest in stage.steps:
            if word == "ARG" and "=" in rest:
                name, _, default = rest.partition("=")
                arguments[name] = ARGUMENTS.get(name, default)
            elif word == "WORKDIR" and rest.startswith("/"):
                directory = root / rest.lstrip("/")
                directory.mkdir(parents=True, exist_ok=True)
            elif word == "COPY" and directory:
                self.copy_into(rest, directory, directory)
            elif word == "RUN" and directory:
                if re.search(r"""(^|[\s'"=>:])/(?!dev/null\b)""", rest):
                    raise Wrong(f"Dockerfile: an absolute path in a step of the stage '{stage.name}': {rest}")
                # What cargo is told by this machine is no part of the image.
                mine = {name: value for name, value in os.environ.items() if name not in ("CARGO_TARGET_DIR", *ARGUMENTS)}
                with timed(f"{stage.name}: {rest[:70]}"):
                    run(["sh", "-c", rest], cwd=directory, env={**mine, **arguments})
            else:
                raise Wrong(f"Dockerfile: not understood in the stage '{stage.name}': {word} {rest}")
        return root

    def with_debian(self, stage):
        root = self.folder / stage.name
        sources = [path for path in Path("/etc/apt").glob("sources.list.d/*.sources") if "bookworm" in path.read_text()]
        options = run(["apt-config", "dump"], capture_output=True).splitlines()
        options = [line for line in options if re.match(r"Acquire::(.*Proxy|Check-|Retries)", line)]
        with timed(f"{stage.name}: a minimal Debian for {stage.image}"):
            run(
                ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"]
                + [f"--aptopt={line}" for line in options]
                + ["bookworm", root]
                + [str(path) for path in sources],
                capture_output=True,
            )
        self.in_root(stage, root)
        return root

    def in_root(self, stage, root):
        """The steps of a stage whose root is a whole system. What describes how it is run is not done but kept."""
        for word, rest in stage.steps:
            if word == "RUN":
                with timed(f"{stage.name or 'image'}: {rest[:70]}"):
                    run(["chroot", root, "/bin/sh", "-c", rest], env=in_image(DEBIAN_FRONTEND="noninteractive"), capture_output=True)
            elif word == "COPY":
                self.copy_into(rest, root, None)
            elif word not in ("ARG", *DESCRIBING):
                raise Wrong(f"Dockerfile: not understood in the stage '{stage.name}': {word} {rest}")

    def copy_into(self, rest, root, directory):
        found = re.fullmatch(r"(?:--from=(\S+)\s+)?([^-\s]\S*)\s+(\S+)", rest)
        if not found:
            raise Wrong(f"Dockerfile: not understood: COPY {rest}")
        stage, source, target = found.groups()
        if target.startswith("/"):
            target = root / target.lstrip("/")
        elif directory and target in (".", "./"):
            target = directory
        else:
            raise Wrong(f"Dockerfile: not understood: COPY {rest}")
        if stage:
            # Owners and rights are kept, which `shutil` does not do.
            source = self.build(self.named(stage)) / source.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            run(["cp", "--archive", "--no-target-directory", source, target])
        elif source == ".":
            copy_context(target)
        else:
            raise Wrong(f"Dockerfile: not understood: COPY {rest}")

    def described(self, stage):
        """How a stage is run and what it is, as an image's configuration has it."""
        config = {"Env": [], "Labels": {}, "ExposedPorts": {}, "Volumes": {}}
        arguments = {}
        for word, rest in stage.steps:
            if word == "ARG":
                name, _, default = rest.partition("=")
                arguments[name] = ARGUMENTS.get(name, default)
            elif word in ("USER", "ENTRYPOINT", "CMD"):
                name = {"USER": "User", "ENTRYPOINT": "Entrypoint", "CMD": "Cmd"}[word]
                config[name] = rest if word == "USER" else json.loads(rest)
            elif word == "ENV":
                config["Env"].append(rest)
            elif word == "LABEL":
                name, _, value = rest.partition("=")
                config["Labels"][name] = with_variables(value.strip('"'), arguments)
            elif word == "EXPOSE":
                config["ExposedPorts"][f"{rest}/tcp"] = {}
            elif word == "VOLUME":
                config["Volumes"].update({path: {} for path in json.loads(rest)})
            elif word == "HEALTHCHECK":
                options, _, command = rest.partition(" CMD ")
                options = {name: float(seconds) for name, seconds in re.findall(r"--([\w-]+)=(\d+)s", options)}
                config["Healthcheck"] = {
                    "Test": ["CMD", *json.loads(command)],
                    **{name: int(options[flag] * 1e9) for name, flag in
                       [("Interval", "interval"), ("Timeout", "timeout"), ("StartPeriod", "start-period")]},
                }
        return {name: value for name, value in config.items() if value}


def in_image(**more):
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **more}


# --- The compose file, as far as it says how a replica is run


def read_replica():
    """Command, environment and health check of a replica."""
    text = (REPOSITORY / "docker-compose.yml").read_text()
    block = re.search(r"^x-replica: &replica\n((?:  .*\n|\n)+)", text, re.MULTILINE)
    if not block:
        raise Wrong("docker-compose.yml: there is no x-replica")
    block = re.sub(r"^ *#.*\n", "", block.group(1), flags=re.MULTILINE)
    # The defaults of the variables: a desk's settings.
    block = re.sub(r"\$\{(\w+):-([^}]*)\}", r"\2", block)
    command = re.search(r"^  command: \[(.*)\]$", block, re.MULTILINE)
    check = re.search(r"^    test: \[CMD, (.*)\]$", block, re.MULTILINE)
    environment = re.search(r"^  environment:\n((?:    .*\n)+)", block, re.MULTILINE)
    if not (command and check and environment):
        raise Wrong("docker-compose.yml: command, environment or health check of x-replica are not understood")
    words = lambda found: [word.strip().strip('"') for word in found.group(1).split(",")]
    pairs = [line.strip().partition(": ") for line in environment.group(1).splitlines()]
    return words(command), {name: value.strip('"') for name, _, value in pairs}, words(check)


# --- The database


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def postgres(binaries, url):
    """A PostgreSQL with that URL's account and database on a free port of this machine; yields the URL that leads to it."""
    user, password, database = re.fullmatch(r"postgres://(\w+):(\w+)@postgres:5432/(\w+)", url).groups()
    folder = Path(tempfile.mkdtemp(prefix="cf-image-postgres-"))
    shutil.chown(folder, "postgres")
    as_postgres = ["runuser", "-u", "postgres", "--"]
    (folder / "password").write_text(password)
    (folder / "password").chmod(0o644)
    port, server = free_port(), None
    try:
        run([*as_postgres, binaries / "initdb", "-D", folder / "data", "-U", user, "--auth=scram-sha-256", "--pwfile", folder / "password",
             "--encoding=UTF8", "--no-locale", "--no-sync"], cwd="/", capture_output=True)
        server = subprocess.Popen(
            [*as_postgres, binaries / "postgres", "-D", folder / "data", "-p", str(port), "-k", "",
             "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"],
            cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        client = {**os.environ, "PGPASSWORD": password, "PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": user}
        is_ready = lambda: subprocess.run([binaries / "pg_isready", "-q"], env=client).returncode == 0
        wait_until("PostgreSQL is ready", is_ready, 30)
        run([binaries / "createdb", database], env=client, capture_output=True)
        yield f"postgres://{user}:{password}@127.0.0.1:{port}/{database}"
    finally:
        if server:
            os.killpg(server.pid, signal.SIGINT)
            server.wait(timeout=30)
        shutil.rmtree(folder)


def wait_until(what, holds, seconds):
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise Wrong(f"not within {seconds} s: {what}")
        time.sleep(0.1)


# --- The service in its image


# With what an engine mounts, on a root that cannot be written to.
ENTER = """
mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
if [ -n "$DATA" ]; then mount --bind "$DATA" "$ROOT/var/lib/client-failover"; fi
mount -o remount,bind,ro "$ROOT"
unset ROOT DATA
exec "$@"
"""


class Image:
    def __init__(self, build, stage, data=None):
        self.name, self.root, self.data = stage.name, build.build(stage), data
        self.config = build.described(stage)
        self.entry_point, self.default = self.config["Entrypoint"], self.config["Cmd"]
        if data:
            data.mkdir()
            os.chown(data, *map(int, self.config["User"].split(":")))

    def command(self, words):
        """As its user, without a capability or a way to get one. What is left is what `chroot` needs itself, and goes with root."""
        bare = ["setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all,+sys_chroot,+setuid,+setgid"]
        enter = ["chroot", f"--userspec={self.config['User']}", "--groups=", str(self.root)]
        return ["unshare", "--mount", "--propagation=private", "sh", "-euc", ENTER, "sh", *bare, *enter, *words]

    def environment(self, given):
        """The image's own, then what is given; and the path of this machine, where what enters it is."""
        own = dict(pair.split("=", 1) for pair in self.config["Env"])
        return {**own, "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **given,
                "ROOT": str(self.root), "DATA": str(self.data or "")}

    def run(self, words, environment):
        done = subprocess.run(self.command(words), env=self.environment(environment), stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr

    @contextlib.contextmanager
    def started(self, words, environment):
        """Runs until it is asked to end, which it has to do in order."""
        with tempfile.TemporaryFile("w+") as said:
            service = subprocess.Popen(self.command([*self.entry_point, *words]), env=self.environment(environment),
                                       stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            try:
                yield service
                service.send_signal(signal.SIGTERM)
                check(service.wait(timeout=30) == 0, f"it ended with {service.returncode}")
            except BaseException:
                service.kill()
                service.wait()
                said.seek(0)
                print(said.read()[-4000:])
                raise


def check(holds, otherwise):
    if not holds:
        raise Wrong(otherwise)


def try_bare_run(image):
    """A container that is given nothing says what it needs, in one line."""
    code, _, said = image.run([*image.entry_point, *image.default], {})
    check(code == 2 and len(said.splitlines()) == 1 and "DATABASE_URL" in said and "standalone" in said,
          f"started without a database: {code} {said}")


def try_service(image, binaries):
    command, environment, health = read_replica()
    port = free_port()
    with postgres(binaries, environment["DATABASE_URL"]) as url:
        # The containers' own addresses are this machine's here.
        environment = {**environment, "DATABASE_URL": url, "CLIENT_FAILOVER_LISTEN": f"127.0.0.1:{port}"}
        health = [word.replace("http://127.0.0.1:8080", f"http://127.0.0.1:{port}") for word in health]
        check(any(str(port) in word for word in health), f"the health check asks another address: {health}")
        with image.started(command, environment) as service:
            is_healthy = lambda: service.poll() is None and image.run(health, environment)[0] == 0
            wait_until("the health check succeeds", is_healthy, 30)
            try_commands(image, environment, f"http://127.0.0.1:{port}")


def try_standalone(image):
    """With nothing but a volume it serves, is healthy by its own health check, and finds its data again."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {"CLIENT_FAILOVER_LISTEN": f"127.0.0.1:{port}"}
    health = image.config["Healthcheck"]["Test"][1:]
    check(health == ["client-failover", "health"], f"another health check: {health}")
    place = ["--server", url, "--tenant", "plant", "--namespace", "line1"]
    for command in [["create", "pump", "--failover-timeout", "2s"], ["show", "pump"]]:
        began = time.monotonic()
        with image.started(image.default, environment) as service:
            is_healthy = lambda: service.poll() is None and image.run([*health, "--url", url], {})[0] == 0
            wait_until("the health check succeeds", is_healthy, 60)
            print(f"image: {image.name}: healthy {time.monotonic() - began:.1f} s after its start", flush=True)
            wait_until("it is ready", lambda: is_ready(port), 60)
            code, _, said = image.run(["client-failover", "groups", *command, *place], {})
            check(code == 0, f"groups {command[0]}: {code} {said}")
            socket_url = "postgres://client_failover@%2Fvar%2Flib%2Fclient-failover%2Frun:5432/client_failover"
            key = ["client-failover", "keys", "create", command[0], "--tenant", "*", "--role", "admin", "--database-url", socket_url]
            code, made, said = image.run(key, {})
            check(code == 0 and "cfk_" in made, f"no key can be made: {code} {made}{said}")


def is_ready(port):
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    return False


def try_commands(image, environment, url):
    """What the documents have one do in a container."""
    code, shown, said = image.run(["client-failover", "version", "--server", url], {})
    check(code == 0 and shown.count(ARGUMENTS["SOURCE_COMMIT"]) == 2, f"the commit is not told: {code} {shown}{said}")
    key = ["client-failover", "keys", "create", "prometheus", "--tenant", "*", "--role", "viewer"]
    code, made, said = image.run(key, environment)
    check(code == 0 and "cfk_" in made, f"no key can be made in the image: {code} {made}{said}")
    code, shown, said = image.run(["client-failover", "status", "--server", url], {})
    check(code == 0, f"a command in the image cannot ask the service: {code} {shown}{said}")
    # The authorities are there: what fails is the other side, which speaks no TLS.
    code, _, said = image.run(["client-failover", "status", "--server", url.replace("http:", "https:")], {})
    check(code != 0 and "authorit" not in said, f"https:// in the image: {code} {said}")


def find_postgres():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    return found[-1].parent if found else None


# --- Images as files


def write_archive(image, folder):
    """One layer, its configuration and an index, in a tar: OCI's layout. The same tree gives the same bytes."""
    epoch = int(ARGUMENTS["SOURCE_DATE_EPOCH"])
    plain = ["--sort=name", "--numeric-owner", f"--mtime=@{epoch}", "--format=gnu", "--create"]
    with tempfile.TemporaryDirectory(prefix="cf-image-archive-") as work:
        work = Path(work)
        layer = work / "layer.tar"
        # What an engine mounts, and what is of the machine that built it.
        left_out = ["./dev/*", "./proc/*", "./sys/*", "./run/*", "./var/cache/apt/*.bin", "./var/log/*", "./etc/resolv.conf", "./etc/hostname"]
        run(["tar", *plain, *[f"--exclude={path}" for path in left_out], "--file", layer, "--directory", image.root, "."])
        unpacked = hashlib.sha256(layer.read_bytes()).hexdigest()
        run(["gzip", "-9", "--no-name", layer])
        blobs = work / "layout/blobs/sha256"
        blobs.mkdir(parents=True)

        def blob(content, kind):
            digest = hashlib.sha256(content).hexdigest()
            (blobs / digest).write_bytes(content)
            return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

        packed = blob((work / "layer.tar.gz").read_bytes(), "layer.v1.tar+gzip")
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
        machine = run(["dpkg", "--print-architecture"], capture_output=True).strip()
        config = {"created": created, "architecture": machine, "os": "linux", "config": image.config,
                  "rootfs": {"type": "layers", "diff_ids": [f"sha256:{unpacked}"]},
                  "history": [{"created": created, "created_by": "Dockerfile"}]}
        as_json = lambda value: json.dumps(value, sort_keys=True).encode()
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "config": blob(as_json(config), "config.v1+json"), "layers": [packed]}
        version = image.config["Labels"]["org.opencontainers.image.version"]
        tag = version if image.name == "plain" else f"{version}-{image.name}"
        described = {**blob(as_json(manifest), "manifest.v1+json"),
                     "annotations": {"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": f"docker.io/library/client-failover:{tag}"}}
        (work / "layout/index.json").write_bytes(as_json({"schemaVersion": 2, "manifests": [described]}))
        (work / "layout/oci-layout").write_bytes(as_json({"imageLayoutVersion": "1.0.0"}))
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"client-failover-{tag}-image.tar"
        owners = ["--owner=0", "--group=0", "--mode=u=rwX,go=rX"]
        run(["tar", *plain, *owners, "--file", file.resolve(), "--directory", work / "layout", "blobs", "index.json", "oci-layout"])
        print(f"image: {file.name}: {packed['size'] / 1e6:.1f} MB compressed")


def options(words):
    found = {}
    while words:
        flag = words.pop(0)
        if flag not in ("--keep", "--package", "--archives") or not words:
            sys.exit("usage: tests/deploy/image.py [--keep DIR] [--package FILE] [--archives DIR]")
        found[flag] = Path(words.pop(0))
    return found


def main():
    given = options(sys.argv[1:])
    keep = given.get("--keep")
    folder = keep or Path(tempfile.mkdtemp(prefix="cf-image-"))
    if keep:
        folder.mkdir(parents=True)
    folder.chmod(0o755)
    try:
        build = Build(folder.resolve(), given.get("--package"))
        with timed("the build stage"):
            build.build(build.named("build"))
        binaries = find_postgres()
        missing = [what for what, is_there in [("root", os.geteuid() == 0), ("mmdebstrap", shutil.which("mmdebstrap")),
                                               ("PostgreSQL", binaries)] if not is_there]
        if missing:
            print(f"image: the images are skipped: they need {' and '.join(missing)}")
            return
        with timed("the stages of the images"):
            plain = Image(build, build.stages[-1])
            standalone = Image(build, build.named("standalone"), build.folder / "data")
        with timed("the service in its image"):
            try_bare_run(plain)
            try_service(plain, binaries)
        with timed("the service in its image with PostgreSQL"):
            try_standalone(standalone)
        if "--archives" in given:
            with timed("the images as archives"):
                write_archive(plain, given["--archives"])
                write_archive(standalone, given["--archives"])
        print("image: everything held")
    finally:
        # With --keep the roots go all the same: nobody needs further Debians.
        for path in [folder / name for name in ("base", "root", "standalone", "plain", "data")] if keep else [folder]:
            shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    try:
        main()
    except Wrong as wrong:
        sys.exit(f"image: FAIL: {wrong}")
