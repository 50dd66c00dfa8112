#!/usr/bin/env python3
"""The chart in deploy/helm, rendered by Helm.

    tests/deploy/chart.py check              what every value does, and what is refused
    tests/deploy/chart.py renew              makes deploy/kubernetes and the table of values anew
    tests/deploy/chart.py render [FILE…]     prints what these values make of it, as JSON

Every value has a case: what has to be there where it is set, and is not there where it is not. What
comes of each case is held against the schemas of Kubernetes, and against what is true of any pod of
ours.
"""

import functools
import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

TOOLS = Path(os.environ.get("API_TOOLS") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "client-failover/api-tools/bin"))
try:
    import kubernetes_validate
    import yaml
except ImportError as missing:
    python = TOOLS / "python3"
    if not python.exists() or Path(sys.prefix) == TOOLS.parent:
        sys.exit(f"{missing}: .ci/tools installs it")
    os.execv(python, [python, *sys.argv])

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/client-failover"
PLAIN = ROOT / "deploy/kubernetes"
PAGE = ROOT / "docs/kubernetes.md"
NAME, NAMESPACE = "client-failover", "client-failover"
# The oldest that the chart names, and the newest that is known here.
VERSIONS = ["1.27", "1.37"]
# Of these there are no schemas: they belong to the Prometheus Operator.
FOREIGN = {"ServiceMonitor", "PrometheusRule"}

faults = []
counts = {"renders": 0, "documents held against the schemas of Kubernetes": 0, "refusals": 0}


def fault(text):
    faults.append(text)


class Strict(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """As Kubernetes reads it: a key twice is an error."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"twice: {twice}{node.start_mark}")
        return super().construct_mapping(node, deep)


def merged(base, over):
    """As Helm lays values over others: maps together, all else instead."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}


def at(path, value):
    """The value at a path with dots."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


class Refused(Exception):
    """Helm did not do it, and said why."""


def run(program, *arguments, folder=ROOT, values=None):
    """What a program prints. It finds no cluster, and needs none."""
    path = TOOLS / program
    command = [str(path) if path.exists() else program, *map(str, arguments)]
    given = None if values is None else json.dumps(values)
    done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=folder, env={**os.environ, "KUBECONFIG": os.devnull})
    if done.returncode != 0:
        raise Refused(done.stderr)
    return done.stdout


@functools.cache
def text_of(values, name=NAME, namespace=NAMESPACE, helm="helm"):
    """What Helm makes of values, which are JSON: the manifests."""
    counts["renders"] += 1
    return run(helm, "template", name, CHART, "--namespace", namespace, "--values", "-", values=json.loads(values))


@functools.cache
def parsed(text):
    """The documents of a manifest, which many values leave as they are. Nobody changes them."""
    return [document for part in re.split(r"^---$", text, flags=re.M) for document in documents_of(part)]


@functools.cache
def documents_of(text):
    return [document for document in yaml.load_all(text, Strict) if document]


class Made:
    """What came of values."""

    def __init__(self, values, **place):
        self.values = values
        self.documents = parsed(text_of(json.dumps(values), **place))

    @functools.cached_property
    def notes(self):
        """What Helm tells whoever installs it."""
        arguments = "install", NAME, CHART, "--namespace", NAMESPACE, "--dry-run=client", "--output", "json", "--values", "-"
        return json.loads(run("helm", *arguments, values=self.values))["info"]["notes"]

    def all(self, kind):
        return [document for document in self.documents if document["kind"] == kind]

    def one(self, kind):
        found = self.all(kind)
        return found[0] if len(found) == 1 else {}

    def get(self, kind, path, default=None):
        """What is there, by a path with dots."""
        found = self.one(kind)
        for key in path.split("."):
            try:
                found = found[int(key) if isinstance(found, list) else key]
            except (KeyError, IndexError, TypeError):
                return default
        return found

    def pod(self, path, default=None):
        return self.get("Deployment", f"spec.template.spec.{path}", default)

    def container(self, path, default=None):
        return self.pod(f"containers.0.{path}", default)

    def env(self, name, kind="Deployment"):
        for variable in self.get(kind, "spec.template.spec.containers.0.env", []):
            if variable["name"] == name:
                return variable.get("value", variable.get("valueFrom"))
        return None

    def volume(self, name, kind="Deployment"):
        volumes = self.get(kind, "spec.template.spec.volumes", [])
        return next((volume for volume in volumes if volume["name"] == name), None)

    def mount(self, name, kind="Deployment"):
        mounts = self.get(kind, "spec.template.spec.containers.0.volumeMounts", [])
        return next((mount["mountPath"] for mount in mounts if mount["name"] == name), None)

    def from_whom(self):
        return self.get("NetworkPolicy", "spec.ingress.0.from", [])

    def egress_ports(self):
        rules = self.get("NetworkPolicy", "spec.egress", [])
        return [port["port"] for rule in rules for port in rule.get("ports", [])]


def settings_of_the_page():
    """From the name of each setting to its variable."""
    lines = (ROOT / "docs/settings.md").read_text()
    return dict(re.findall(r"^\| `--([a-z-]+)` \| `([A-Z_]+)` \|", lines, re.M))


SETTINGS = settings_of_the_page()
# As the standard "restricted" wants a container.
CLOSED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
# Of libpq, which count for what the URL does not say.
OF_LIBPQ = {"PGSSLMODE", "PGSSLROOTCERT"}


@functools.cache
def against_the_schema(document, version):
    """What Kubernetes would say against a document, which many values leave as it is."""
    counts["documents held against the schemas of Kubernetes"] += 1
    try:
        kubernetes_validate.validate(json.loads(document), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return error.message


def hold(what, made):
    """What is true of everything that the chart makes."""

    def must(holds, words):
        if not holds:
            fault(f"{what}: {words}")

    named = [(document["kind"], document["metadata"]["name"]) for document in made.documents]
    must(len(set(named)) == len(named), f"a name twice: {named}")
    for document in made.documents:
        kind = document["kind"]
        must(document["metadata"].get("namespace"), f"{kind} has no namespace")
        if kind in FOREIGN:
            continue
        for version in VERSIONS:
            wrong = against_the_schema(json.dumps(document, sort_keys=True), version)
            must(wrong is None, f"{kind} for {version}: {wrong}")
    service = made.one("Service")
    selector = service["spec"]["selector"].items()
    for document in made.all("Deployment") + made.all("Job"):
        kind, template = document["kind"], document["spec"]["template"]
        pod, labels = template["spec"], template["metadata"]["labels"]
        must(pod["automountServiceAccountToken"] is False, f"{kind}: a token in the pod")
        must(pod["enableServiceLinks"] is False, f"{kind}: variables of other Services in the pod")
        security = pod["securityContext"]
        must(security["runAsNonRoot"] is True and security["seccompProfile"] == {"type": "RuntimeDefault"}, f"{kind}: {security}")
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        must(len(volumes) == len(pod.get("volumes", [])), f"{kind}: a volume twice")
        for volume in volumes.values():
            # 0440: the service warns of secrets that every account can read.
            mode = volume.get("secret", volume.get("configMap", {})).get("defaultMode")
            must(mode == 0o440 or volume["name"].startswith("extra"), f"{kind}: mode of {volume['name']}: {mode}")
        # The policy lets out what migrates, and the Service sends nothing there.
        policy = made.get("NetworkPolicy", "spec.podSelector.matchLabels", {})
        must(policy.items() <= labels.items(), f"{kind}: the NetworkPolicy is not for it")
        must((selector <= labels.items()) == (kind == "Deployment"), f"{kind}: {labels}")
        for container in pod["containers"]:
            security = container["securityContext"]
            must(security == CLOSED, f"{kind}: {security}")
            mounts = container.get("volumeMounts", [])
            must({mount["name"] for mount in mounts} == set(volumes), f"{kind}: {mounts} and {set(volumes)}")
            names = [variable["name"] for variable in container["env"]]
            must(len(set(names)) == len(names), f"{kind}: a variable twice: {names}")
            for variable in container["env"]:
                name, value = variable["name"], variable.get("value")
                must(name in SETTINGS.values() or name in OF_LIBPQ or name.startswith("EXTRA"), f"{kind}: {name} is no setting")
                must(value is None or isinstance(value, str), f"{kind}: {name} is no text")
                path = value if value and value.startswith("/etc/client-failover/") else None
                must(path is None or any(path.startswith(mount["mountPath"] + "/") for mount in mounts), f"{kind}: {path} is not mounted")
    deployment = made.one("Deployment")
    template = deployment["spec"]["template"]
    must(deployment["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items(), "the selector")
    drain = int(made.env("CLIENT_FAILOVER_DRAIN").removesuffix("s"))
    # 5 s for what is under way and 1 s for the connections, and something to spare.
    must(made.pod("terminationGracePeriodSeconds") >= drain + 10, "it is killed while it stops")
    port = made.container("ports.0.containerPort")
    must(made.env("CLIENT_FAILOVER_LISTEN").endswith(f":{port}"), "it listens elsewhere")
    must(service["spec"]["ports"][0]["targetPort"] == port, "the Service leads elsewhere")
    for probe, path in ("startupProbe", "/health/live"), ("livenessProbe", "/health/live"), ("readinessProbe", "/health/ready"):
        asked = made.container(f"{probe}.httpGet")
        scheme = "HTTPS" if made.env("CLIENT_FAILOVER_TLS_CERTIFICATE") else "HTTP"
        must(asked == {"path": path, "port": port, "scheme": scheme}, f"{probe}: {asked}")
    must(made.env("CLIENT_FAILOVER_AUTH"), "nobody says how callers are recognised")
    for kind in "PodDisruptionBudget", "NetworkPolicy":
        labels = made.get(kind, "spec.selector.matchLabels", made.get(kind, "spec.podSelector.matchLabels", {}))
        must(labels.items() <= template["metadata"]["labels"].items(), f"{kind}: {labels}")
    for policy in made.all("NetworkPolicy"):
        for rule in policy["spec"]["ingress"]:
            must(rule["ports"] == [{"port": port}], f"open ports: {rule}")
        must(policy["spec"]["policyTypes"] == ["Ingress", "Egress"], "the policy is not for both directions")
    for spread in made.pod("topologySpreadConstraints", []):
        must(spread["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items(), f"{spread}")
    for monitor in made.all("ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        must(wanted.items() <= service["metadata"]["labels"].items(), f"the ServiceMonitor finds no Service: {wanted}")
        must(monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"], "it asks another port")


BASE = {"auth": ["api-key"], "database": {"url": "postgres://failover@db.example/failover"}}
OF_SECRET = {"auth": ["api-key"], "database": {"urlSecret": {"name": "db"}}}
INGRESS = {"ingress": {"enabled": True, "hosts": ["failover.example"], "tlsSecret": "web"}, "networkPolicy": {"ingressNamespace": "ingress-nginx"}}
MONITOR = {"monitoring": {"serviceMonitor": {"enabled": True, "keySecret": {"name": "prometheus"}}}}
RULE = {"monitoring": {"prometheusRule": {"enabled": True}}}
JOB = {"migrations": "job"}


def namespace_peer(name):
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def of_spread(made, key):
    return next((s["whenUnsatisfiable"] for s in made.pod("topologySpreadConstraints", []) if s["topologyKey"] == key), None)


# The value, what it is set to, what has to be true then and is not without it; and what else is set
# both times.
CASES = [
    ("auth", ["oidc", "api-key"], lambda m: m.env("CLIENT_FAILOVER_AUTH") == "oidc,api-key",
     {"settings": {"oidc-issuer": "https://login.example/", "oidc-audience": ["failover"]}}),
    ("database.url", "postgresql://f@a:5433,b,[::1]:6000/d?target_session_attrs=read-write",
     lambda m: m.env("DATABASE_URL").startswith("postgresql://f@a:5433,b,[::1]:6000/d?") and m.egress_ports() == [53, 53, 5433, 5432, 6000], {}),
    ("database.passwordSecret.name", "pw",
     lambda m: m.volume("database-password")["secret"]["secretName"] == "pw" and m.mount("database-password")
     and m.env("CLIENT_FAILOVER_DATABASE_PASSWORD_FILE") == m.mount("database-password") + "/password", {}),
    ("database.passwordSecret.key", "pass",
     lambda m: m.env("CLIENT_FAILOVER_DATABASE_PASSWORD_FILE") == m.mount("database-password") + "/pass"
     and m.volume("database-password")["secret"]["items"] == [{"key": "pass", "path": "pass"}],
     {"database": {"passwordSecret": {"name": "pw"}}}),
    ("database.urlSecret.name", "db",
     lambda m: m.env("DATABASE_URL") == {"secretKeyRef": {"name": "db", "key": "url"}} and 5432 in m.egress_ports(), {"database": {"url": ""}}),
    ("database.urlSecret.key", "uri", lambda m: m.env("DATABASE_URL")["secretKeyRef"]["key"] == "uri",
     {"database": {"url": "", "urlSecret": {"name": "db"}}}),
    ("database.directUrl", "postgres://f@direct:5544/d",
     lambda m: m.env("CLIENT_FAILOVER_DATABASE_DIRECT_URL") == "postgres://f@direct:5544/d" and 5544 in m.egress_ports(), {}),
    ("database.caSecret.name", "ca",
     lambda m: m.env("PGSSLMODE") == "verify-full" and m.env("PGSSLROOTCERT") == m.mount("database-ca") + "/ca.crt"
     and m.volume("database-ca")["secret"]["secretName"] == "ca" and "not verified" not in m.notes, {}),
    ("database.caSecret.key", "root.pem", lambda m: m.env("PGSSLROOTCERT").endswith("/root.pem"), {"database": {"caSecret": {"name": "ca"}}}),
    ("settings", {"handover": "prompt", "group-limit": 2_000_000, "trace-ratio": 0.05, "docs": False, "oidc-algorithms": ["RS256", "ES256"]},
     lambda m: [m.env(f"CLIENT_FAILOVER_{name}") for name in ("HANDOVER", "GROUP_LIMIT", "TRACE_RATIO", "DOCS", "OIDC_ALGORITHMS")]
     == ["prompt", "2000000", "0.05", "false", "RS256,ES256"], {}),
    ("settings", {"oidc-issuer": "https://login.example:8444/realms/plant", "webhook-url": "http://hook.example/x", "otlp-endpoint": "https://[::1]/v1"},
     lambda m: {8444, 80, 443} <= set(m.egress_ports()), {}),
    ("settings", {"log": "debug", "operation-timeout": "2s", "trusted-proxies": ["10.0.0.0/8"]},
     lambda m: m.env("CLIENT_FAILOVER_LOG") == m.env("CLIENT_FAILOVER_LOG", "Job") == "debug"
     and m.env("CLIENT_FAILOVER_OPERATION_TIMEOUT", "Job") == "2s" and m.env("CLIENT_FAILOVER_TRUSTED_PROXIES", "Job") is None
     and m.env("CLIENT_FAILOVER_TRUSTED_PROXIES") == "10.0.0.0/8" and "trusted-proxies" not in m.notes, merged(JOB, INGRESS)),
    ("files", {"users-file": {"secret": "users", "key": "users.toml"}, "oidc-keys": {"configMap": "keys", "key": "jwks.json"}},
     lambda m: m.env("CLIENT_FAILOVER_USERS_FILE") == m.mount("users-file") + "/users.toml"
     and m.volume("users-file")["secret"]["secretName"] == "users" and m.volume("oidc-keys")["configMap"]["name"] == "keys"
     and m.env("CLIENT_FAILOVER_OIDC_KEYS") == m.mount("oidc-keys") + "/jwks.json", {}),
    ("tls.secret", "cert",
     lambda m: m.env("CLIENT_FAILOVER_TLS_KEY") == m.mount("tls") + "/tls.key" and m.env("CLIENT_FAILOVER_TLS_CERTIFICATE") == m.mount("tls") + "/tls.crt"
     and m.volume("tls")["secret"]["secretName"] == "cert" and m.container("readinessProbe.httpGet.scheme") == "HTTPS"
     and m.get("Service", "spec.ports.0.name") == "https" and "https://client-failover" in m.notes, {}),
    ("tls.secret", "cert",
     lambda m: m.get("ServiceMonitor", "spec.endpoints.0.scheme") == "https" and m.get("ServiceMonitor", "spec.endpoints.0.port") == "https"
     and m.get("ServiceMonitor", "spec.endpoints.0.tlsConfig.serverName") == "client-failover.client-failover.svc", MONITOR),
    ("image.repository", "registry.example/failover", lambda m: m.container("image") == "registry.example/failover:0.1.0", {}),
    ("image.tag", "edge", lambda m: m.container("image") == m.get("Job", "spec.template.spec.containers.0.image") == "client-failover:edge", JOB),
    ("image.digest", "sha256:" + "a" * 64, lambda m: m.container("image") == "client-failover@sha256:" + "a" * 64, {}),
    ("image.pullPolicy", "Always", lambda m: m.container("imagePullPolicy") == "Always", {}),
    ("image.pullSecrets", ["registry"],
     lambda m: m.pod("imagePullSecrets") == m.get("Job", "spec.template.spec.imagePullSecrets") == [{"name": "registry"}], JOB),
    ("replicaCount", 3, lambda m: m.get("Deployment", "spec.replicas") == 3 and "3 replicas" in m.notes, {}),
    ("drainSeconds", 30, lambda m: m.env("CLIENT_FAILOVER_DRAIN") == "30s" and m.pod("terminationGracePeriodSeconds") == 45, {}),
    ("migrations", "job",
     lambda m: m.env("CLIENT_FAILOVER_MIGRATE") == "false" and m.get("Job", "spec.template.spec.containers.0.args") == ["migrate"]
     and m.one("Job")["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
     and m.env("CLIENT_FAILOVER_DATABASE_PASSWORD_FILE", "Job") == m.mount("database-password", "Job") + "/password"
     and m.volume("database-ca", "Job") and m.env("CLIENT_FAILOVER_AUTH", "Job") is None and m.mount("users-file", "Job") is None
     # The account of the release is made after this.
     and m.get("Job", "spec.template.spec.serviceAccountName") == "default",
     {"database": {"passwordSecret": {"name": "pw"}, "caSecret": {"name": "ca"}}, "files": {"users-file": {"secret": "u", "key": "k"}}}),
    ("podDisruptionBudget.enabled", False, lambda m: not m.all("PodDisruptionBudget"), {}),
    ("podDisruptionBudget.maxUnavailable", "50%", lambda m: m.get("PodDisruptionBudget", "spec.maxUnavailable") == "50%", {}),
    ("spread.node", "DoNotSchedule", lambda m: of_spread(m, "kubernetes.io/hostname") == "DoNotSchedule", {}),
    ("spread.zone", "", lambda m: of_spread(m, "topology.kubernetes.io/zone") is None and of_spread(m, "kubernetes.io/hostname"), {}),
    ("resources", {"limits": {"memory": "1Gi"}}, lambda m: m.container("resources.limits.memory") == "1Gi" and m.container("resources.requests.memory") == "64Mi", {}),
    ("probes.startup", {"failureThreshold": 7}, lambda m: m.container("startupProbe.failureThreshold") == 7 and m.container("startupProbe.periodSeconds") == 1, {}),
    ("probes.liveness", {"periodSeconds": 7}, lambda m: m.container("livenessProbe.periodSeconds") == 7, {}),
    ("probes.readiness", {"timeoutSeconds": 7}, lambda m: m.container("readinessProbe.timeoutSeconds") == 7, {}),
    ("service.type", "LoadBalancer",
     lambda m: m.get("Service", "spec.type") == "LoadBalancer" and "from" not in m.get("NetworkPolicy", "spec.ingress.0"), {"tls": {"secret": "cert"}}),
    ("service.port", 80,
     lambda m: m.get("Service", "spec.ports.0.port") == m.get("Ingress", "spec.rules.0.http.paths.0.backend.service.port.number") == 80
     and "svc:80\n" in m.notes and " 8080:80\n" in m.notes, INGRESS),
    ("service.annotations", {"a/b": "c"}, lambda m: m.get("Service", "metadata.annotations") == {"a/b": "c"}, {}),
    ("ingress.enabled", True,
     lambda m: m.get("Ingress", "spec.rules.0.host") == "failover.example" and m.get("Ingress", "spec.tls.0.hosts") == ["failover.example"]
     and "https://failover.example" in m.notes and "trusted-proxies" in m.notes, merged(INGRESS, at("ingress.enabled", False))),
    ("ingress.className", "nginx", lambda m: m.get("Ingress", "spec.ingressClassName") == "nginx", INGRESS),
    ("ingress.hosts", ["a.example", "b.example"],
     lambda m: [rule["host"] for rule in m.get("Ingress", "spec.rules")] == m.get("Ingress", "spec.tls.0.hosts") == ["a.example", "b.example"], INGRESS),
    ("ingress.tlsSecret", "other", lambda m: m.get("Ingress", "spec.tls.0.secretName") == "other", INGRESS),
    ("ingress.annotations", {"cert-manager.io/issuer": "x"}, lambda m: m.get("Ingress", "metadata.annotations") == {"cert-manager.io/issuer": "x"}, INGRESS),
    ("networkPolicy.enabled", False, lambda m: not m.all("NetworkPolicy"), {}),
    ("networkPolicy.sameNamespace", False, lambda m: m.get("NetworkPolicy", "spec.ingress") == [], {}),
    ("networkPolicy.clientNamespaces", ["lines", "tanks"],
     lambda m: m.from_whom() == [{"podSelector": {}}, namespace_peer("lines"), namespace_peer("tanks")], {}),
    ("networkPolicy.ingressNamespace", "traefik", lambda m: namespace_peer("traefik") in m.from_whom(), INGRESS),
    ("networkPolicy.metricsNamespace", "monitoring", lambda m: m.from_whom() == [namespace_peer("monitoring")], {"networkPolicy": {"sameNamespace": False}}),
    ("networkPolicy.from", [{"ipBlock": {"cidr": "10.0.0.0/8"}}], lambda m: {"ipBlock": {"cidr": "10.0.0.0/8"}} in m.from_whom(), {}),
    ("networkPolicy.databasePorts", [6432], lambda m: m.egress_ports() == [53, 53, 6432], {}),
    ("networkPolicy.egress", [{"ports": [{"port": 999}]}], lambda m: 999 in m.egress_ports(), {}),
    ("monitoring.serviceMonitor.enabled", True,
     lambda m: m.get("ServiceMonitor", "spec.endpoints.0.authorization.credentials") == {"name": "prometheus", "key": "key"}
     # By these the alerts find it, and keep the namespaces of the groups apart.
     and m.get("ServiceMonitor", "spec.endpoints.0.relabelings") == [{"targetLabel": "job", "replacement": "client-failover"}]
     and m.get("ServiceMonitor", "spec.endpoints.0.honorLabels") is True, merged(MONITOR, at("monitoring.serviceMonitor.enabled", False))),
    ("monitoring.serviceMonitor.enabled", True,
     lambda m: m.get("ServiceMonitor", "spec.endpoints.0.path") == "/metrics" and not m.get("ServiceMonitor", "spec.endpoints.0.authorization"), {"auth": ["none"]}),
    ("monitoring.serviceMonitor.interval", "7s", lambda m: m.get("ServiceMonitor", "spec.endpoints.0.interval") == "7s", MONITOR),
    ("monitoring.serviceMonitor.labels", {"release": "prom"}, lambda m: m.one("ServiceMonitor")["metadata"]["labels"].get("release") == "prom", MONITOR),
    ("monitoring.serviceMonitor.keySecret.name", "other", lambda m: m.get("ServiceMonitor", "spec.endpoints.0.authorization.credentials.name") == "other", MONITOR),
    ("monitoring.serviceMonitor.keySecret.key", "cfk", lambda m: m.get("ServiceMonitor", "spec.endpoints.0.authorization.credentials.key") == "cfk", MONITOR),
    ("monitoring.prometheusRule.enabled", True,
     lambda m: m.get("PrometheusRule", "spec") == yaml.safe_load((ROOT / "deploy/monitoring/alerts.yml").read_text()), {}),
    ("monitoring.prometheusRule.labels", {"release": "prom"}, lambda m: m.one("PrometheusRule")["metadata"]["labels"].get("release") == "prom", RULE),
    ("serviceAccount.create", False, lambda m: not m.all("ServiceAccount") and m.pod("serviceAccountName") == "default", {}),
    ("serviceAccount.name", "mine", lambda m: m.pod("serviceAccountName") == m.one("ServiceAccount")["metadata"]["name"] == "mine", {}),
    ("serviceAccount.annotations", {"a/b": "c"}, lambda m: m.get("ServiceAccount", "metadata.annotations") == {"a/b": "c"}, {}),
    ("userId", None, lambda m: set(m.pod("securityContext")) == {"runAsNonRoot", "seccompProfile"}, {}),
    ("userId", 1_000_650_000, lambda m: [m.pod(f"securityContext.{who}") for who in ("runAsUser", "runAsGroup", "fsGroup")] == [1_000_650_000] * 3, {}),
    ("listenAddress", "::", lambda m: m.env("CLIENT_FAILOVER_LISTEN") == "[::]:8080", {}),
    ("extraEnv", [{"name": "EXTRA", "value": "1"}], lambda m: m.env("EXTRA") == m.env("EXTRA", "Job") == "1", JOB),
    ("extraVolumes", [{"name": "extra", "emptyDir": {}}], lambda m: m.volume("extra") == m.volume("extra", "Job") == {"name": "extra", "emptyDir": {}},
     merged(JOB, {"extraVolumeMounts": [{"name": "extra", "mountPath": "/extra"}]})),
    ("extraVolumeMounts", [{"name": "extra", "mountPath": "/extra"}], lambda m: m.mount("extra") == m.mount("extra", "Job") == "/extra",
     merged(JOB, {"extraVolumes": [{"name": "extra", "emptyDir": {}}]})),
    ("podLabels", {"team": "plant"}, lambda m: m.get("Deployment", "spec.template.metadata.labels.team") == "plant", {}),
    ("podAnnotations", {"a/b": "c"}, lambda m: m.get("Deployment", "spec.template.metadata.annotations") == {"a/b": "c"}, {}),
    ("priorityClassName", "high", lambda m: m.pod("priorityClassName") == "high", {}),
    ("nodeSelector", {"disk": "ssd"}, lambda m: m.pod("nodeSelector") == m.get("Job", "spec.template.spec.nodeSelector") == {"disk": "ssd"}, JOB),
    ("tolerations", [{"operator": "Exists"}], lambda m: m.pod("tolerations") == m.get("Job", "spec.template.spec.tolerations") == [{"operator": "Exists"}], JOB),
    ("affinity", {"nodeAffinity": {}}, lambda m: m.pod("affinity") == {"nodeAffinity": {}}, {}),
    ("fullnameOverride", "failover",
     lambda m: {document["metadata"]["name"] for document in m.documents} == {"failover", "failover-migrate"} and "deployment/failover" in m.notes, JOB),
    ("allowPlainHttp", True, lambda m: m.get("Service", "spec.type") == "NodePort", at("service.type", "NodePort")),
]
# A volume that is not mounted is a fault, and so is a mount of none: each is left out with the
# other.
HALVES = {"extraVolumes", "extraVolumeMounts"}
# Without these the rest of their cases is refused.
NEEDED = {"allowPlainHttp", "database.urlSecret.name"}

# What is refused, and the words that say why.
REFUSED = [
    ({"auth": []}, "auth is not set", {}),
    ({"auth": ["none", "api-key"]}, "auth has none and another method", {}),
    ({"auth": ["oidc"]}, "set settings.oidc-issuer and settings.oidc-audience", {}),
    ({"auth": ["basic"]}, "set files.users-file", {}),
    ({"auth": ["certificate"]}, "set tls.secret, files.tls-client-ca and files.subjects-file", {}),
    ({"auth": ["password"]}, "auth", {}),
    (at("database.url", ""), "the database is not set", {}),
    (at("database.url", "mysql://x"), "database/url", {}),
    (at("database.urlSecret.name", "db"), "both set", {}),
    (merged(at("database.url", ""), at("database.passwordSecret.name", "pw")), "set without database.url", {"database": {"urlSecret": {"name": "db"}}}),
    (at("database.url", "postgres://f:secret@db/f"), "database.url holds a password", {}),
    (at("database.url", "postgres://f@db/f?password=x"), "database.url holds a password", {}),
    (at("database.directUrl", "postgres://f:@db/f"), "database.directUrl holds a password", {}),
    (at("ingress.hosts", []), "ingress.enabled is set without ingress.hosts", INGRESS),
    (at("networkPolicy.ingressNamespace", ""), "set networkPolicy.ingressNamespace", INGRESS),
    (at("ingress.tlsSecret", ""), "the Ingress has no TLS", INGRESS),
    (at("service.type", "LoadBalancer"), "a Service of type LoadBalancer", {}),
    (at("service.type", "NodePort"), "a Service of type NodePort", {}),
    (at("monitoring.serviceMonitor.keySecret.name", ""), "keys create prometheus --role metrics", MONITOR),
    ({"auth": ["basic"], "files": {"users-file": {"secret": "u", "key": "k"}}}, "add api-key to auth", MONITOR),
    (at("settings", {"allowed-hosts": ["x"]}), "is no allowed host", MONITOR),
    # By the schema.
    ({"replicas": 3}, "replicas", {}),
    (at("settings", {"handovr": "prompt"}), "handovr", {}),
    (at("settings", {"listen": "0.0.0.0:80"}), "listen", {}),
    (at("settings", {"users-file": "/x"}), "users-file", {}),
    (at("files", {"users-file": {"key": "x"}}), "users-file", {}),
    (at("files", {"nothing": {"secret": "x", "key": "x"}}), "nothing", {}),
    ({"replicaCount": 0}, "replicaCount", {}),
    ({"drainSeconds": "5s"}, "drainSeconds", {}),
    ({"migrations": "never"}, "migrations", {}),
    (at("spread.node", "Always"), "spread", {}),
    (at("service.port", 70_000), "port", {}),
    (at("image.digest", "latest"), "digest", {}),
]


def check_cases():
    for path, value, holds, also in CASES:
        base = merged(BASE, also)
        changed = merged(base, at(path, value))
        what = f"{path} = {json.dumps(value)}"
        if path in HALVES:
            base = merged(BASE, JOB)
        try:
            made = Made(changed)
            hold(what, made)
            if not holds(made):
                fault(f"{what}: what has to be there is not")
            if path in NEEDED:
                if not is_refused(base):
                    fault(f"{what}: without it nothing is refused")
            elif holds_safely(holds, Made(base)):
                fault(f"{what}: the same is true without it")
        except (Refused, yaml.YAMLError) as error:
            fault(f"{what}: {error}")


def is_refused(values):
    try:
        Made(values)
        return False
    except Refused:
        return True


def holds_safely(holds, made):
    """What is asked for may not be there to be looked into."""
    try:
        return holds(made)
    except (TypeError, KeyError, IndexError, AttributeError):
        return False


def check_refusals():
    for values, words, also in REFUSED:
        base = merged(BASE, also) if "urlSecret" not in also.get("database", {}) else OF_SECRET
        counts["refusals"] += 1
        # What is refused is this value and nothing beside it.
        Made(base)
        try:
            Made(merged(base, values))
            fault(f"{values} is not refused")
        except Refused as error:
            if words not in str(error):
                fault(f"{values}: {error}, without the words '{words}'")


def leaves(values, path=""):
    """The values as the table has them: maps are gone into where their keys have comments."""
    for key, value in values.items():
        here = f"{path}.{key}".lstrip(".")
        if isinstance(value, dict) and value and f"{here}." in described():
            yield from leaves(value, here)
        else:
            yield here, value


def described():
    """The comment above each value; and, with a dot at its end, what has commented values below."""
    found, path, comment = {}, [], []
    for line in (CHART / "values.yaml").read_text().splitlines():
        text = line.strip()
        if text.startswith("#"):
            comment.append(text[1:].strip())
            continue
        key = re.match(r"( *)([A-Za-z]+):", line)
        if key:
            path[len(key[1]) // 2 :] = [key[2]]
            if comment:
                found[".".join(path)] = " ".join(comment)
                for depth in range(1, len(path)):
                    found[".".join(path[:depth]) + "."] = ""
        # A comment with an empty line below it is about what follows.
        comment = []
    return found


MARK = "<!-- made by tests/deploy/chart.py renew -->"


def readme():
    """The chart's README with the table of values as it has to be."""
    words = described()
    values = yaml.load((CHART / "values.yaml").read_text(), Strict)
    rows = ["| value | default | |", "|---|---|---|"]
    for path, value in leaves(values):
        if path not in words:
            fault(f"values.yaml: {path} has no comment")
        cells = f"`{path}`", f"`{json.dumps(value)}`", words.get(path, "")
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    before, _, _ = (CHART / "README.md").read_text().partition(MARK)
    return before + MARK + "\n\n" + "\n".join(rows) + "\n"


def plain():
    """The manifests for those who have no Helm, as they have to be."""
    text = text_of(json.dumps(yaml.load((PLAIN / "values.yaml").read_text(), Strict)))
    # Helm does not manage them here.
    text = re.sub(r"^( +(app\.kubernetes\.io/managed-by|helm\.sh/chart):|# Source:).*\n", "", text, flags=re.M)
    return "# Made by tests/deploy/chart.py renew, from the chart in deploy/helm and values.yaml beside this.\n" + text


MADE = {CHART / "README.md": readme, PLAIN / "client-failover.yaml": plain}


def check_made():
    for path, make in MADE.items():
        if path.read_text() != make():
            fault(f"{path.relative_to(ROOT)} is out of date: tests/deploy/chart.py renew")
    made = [document for document in yaml.load_all(plain(), Strict) if document]
    kinds = [document["kind"] for document in made]
    for kind in "Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget", "ServiceAccount":
        if kinds.count(kind) != 1:
            fault(f"deploy/kubernetes has {kinds.count(kind)} of {kind}")


def check_chart():
    for program in "helm", "helm3":
        said = run(program, "lint", "--strict", CHART, "--values", "-", values=BASE)
        # An icon is what it misses.
        if [line for line in said.splitlines() if line.startswith("[") and "icon is recommended" not in line]:
            fault(f"{program} lint: {said}")
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    chart = yaml.load((CHART / "Chart.yaml").read_text(), Strict)
    if {chart["version"], chart["appVersion"]} != {version}:
        fault(f"the chart is of another version than Cargo.toml: {version}")
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
    values = yaml.load((CHART / "values.yaml").read_text(), Strict)
    without_case = {path for path, _ in leaves(values)} - {path for path, *_ in CASES}
    if without_case:
        fault(f"values without a case: {sorted(without_case)}")
    # The schema knows every value, and every setting that the chart does not make itself.
    def keys(found, properties, path=""):
        for key in found:
            here = properties.get(key)
            if here is None:
                fault(f"values.schema.json does not know {path}{key}")
            elif isinstance(found[key], dict) and "properties" in here:
                keys(found[key], here["properties"], f"{path}{key}.")
    keys(values, schema)
    known = [set(schema[of]["propertyNames"]["enum"]) for of in ("settings", "files")]
    own = {"config", "listen", "database-url", "database-direct-url", "database-password-file", "data-dir", "postgres-bin-dir",
           "migrate", "auth", "tls-certificate", "tls-key", "run-as", "drain"}
    if known[0] | known[1] | own != set(SETTINGS) or known[0] & known[1] or own & (known[0] | known[1]):
        fault(f"values.schema.json and docs/settings.md: {set(SETTINGS) ^ (known[0] | known[1] | own)}")
    with tempfile.TemporaryDirectory() as folder:
        run("helm", "package", CHART, "--destination", folder)
        archive = tarfile.open(Path(folder, f"client-failover-{version}.tgz"))
        alerts = archive.extractfile("client-failover/files/alerts.yml").read()
        if alerts != (ROOT / "deploy/monitoring/alerts.yml").read_bytes():
            fault("the packaged chart has other alerts")
    # Other names: of a release, and one that is too long.
    for name in "plant", "a" * 53:
        made = Made(BASE, name=name)
        hold(name, made)
        if made.one("Service")["metadata"]["name"] != f"{name}-client-failover"[:63].rstrip("-"):
            fault(f"the release {name} is called {made.one('Service')['metadata']['name']}")


def blocks(language):
    return re.findall(rf"^<!-- (?:run|read) by tests/deploy/chart\.py -->\n```{language}\n(.*?)^```", PAGE.read_text(), re.M | re.S)


def secrets_of(made):
    """The Secrets that the pods refer to, each with the keys that they need."""
    found = {}
    pod = made.one("Deployment")["spec"]["template"]["spec"]
    for volume in pod.get("volumes", []):
        secret = volume.get("secret", {})
        found.setdefault(secret.get("secretName"), set()).update(item["key"] for item in secret.get("items", []))
    return found


def check_page():
    """The commands of docs/kubernetes.md: each of `helm` renders, and where they make Secrets these
    are the ones that the pods refer to."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "deploy").symlink_to(ROOT / "deploy")
        (folder / "postgres-password").write_text("secret\n")
        for text in blocks("yaml"):
            name = re.match(r"# (\S+\.yaml)\n", text)[1]
            (folder / name).write_text(text)
            hold(f"docs/kubernetes.md: {name}", Made(yaml.load(text, Strict)))
        commands = 0
        for block in blocks("sh"):
            made, wanted = {}, {}
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                try:
                    match words:
                        case ["kubectl", "create", *rest]:
                            document = json.loads(run("kubectl", "create", *rest, "--dry-run=client", "--output=json", folder=folder))
                            if document["kind"] == "Secret":
                                made[document["metadata"]["name"]] = set(document["data"])
                        case ["kubectl", "apply", "--filename", file]:
                            of_file = Made(BASE)
                            of_file.documents = parsed((ROOT / file).read_text())
                            wanted.update(secrets_of(of_file))
                        case ["helm", "install" | "upgrade", *rest]:
                            result = Made(BASE)
                            result.documents = parsed(run("helm", "template", *rest, folder=folder))
                            hold(f"docs/kubernetes.md: {line}", result)
                            wanted.update(secrets_of(result))
                    commands += 1
                except Refused as error:
                    fault(f"docs/kubernetes.md: {line}: {error}")
            for name, keys in wanted.items() if made else []:
                if not keys <= made.get(name, set()):
                    fault(f"docs/kubernetes.md: {keys} of {name} are not in {made}")
        if commands < 8:
            fault(f"docs/kubernetes.md has {commands} commands")


def check_older():
    """Helm 3 makes the same."""
    everything = functools.reduce(merged, [at(path, value) for path, value, *_ in CASES if path not in NEEDED | {"auth"}], BASE)
    everything = merged(everything, merged(MONITOR, at("tls.secret", "cert")))
    for values in BASE, OF_SECRET, merged(BASE, JOB), everything:
        both = [parsed(text_of(json.dumps(values), helm=helm)) for helm in ("helm", "helm3")]
        sorted_both = [sorted(json.dumps(document, sort_keys=True) for document in documents) for documents in both]
        if sorted_both[0] != sorted_both[1]:
            fault(f"Helm 3 makes something else of {values}")


def check_example():
    """The pods of the agent's example are closed as ours are."""
    for document in yaml.load_all((ROOT / "examples/agent/kubernetes.yaml").read_text(), Strict):
        name, pod = document["metadata"]["name"], document["spec"]["template"]["spec"]
        for version in VERSIONS:
            wrong = against_the_schema(json.dumps(document, sort_keys=True), version)
            if wrong:
                fault(f"examples/agent/kubernetes.yaml: {name} for {version}: {wrong}")
        containers = pod["containers"] + pod.get("initContainers", [])
        if any(container["securityContext"] != CLOSED for container in containers) or not pod["securityContext"]["runAsNonRoot"]:
            fault(f"examples/agent/kubernetes.yaml: {name} is open")
        mounted = {mount["name"] for container in containers for mount in container["volumeMounts"]}
        if mounted != {volume["name"] for volume in pod["volumes"]} or pod["enableServiceLinks"]:
            fault(f"examples/agent/kubernetes.yaml: {name} mounts {mounted}")


def check():
    for part in check_chart, check_cases, check_refusals, check_made, check_page, check_older, check_example:
        part()
    for text in faults:
        print(text, file=sys.stderr)
    said = ", ".join(f"{count} {what}" for what, count in counts.items())
    print(f"{len(CASES)} cases, {said}, {len(faults)} faults")
    sys.exit(bool(faults))


def main(arguments):
    match arguments:
        case ["check"]:
            check()
        case ["renew"]:
            for path, make in MADE.items():
                path.write_text(make())
            sys.exit("\n".join(faults) or None)
        case ["render", *files]:
            values = {}
            for file in files:
                values = merged(values, yaml.load(Path(file).read_text(), Strict))
            json.dump(Made(values).documents, sys.stdout)
        case _:
            sys.exit(__doc__)


main(sys.argv[1:])
