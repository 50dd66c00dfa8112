#!/usr/bin/env python3
"""Whether the site of the documentation is whole: tests/deploy/site.py [--site FOLDER]

Makes the site with .ci/site, or takes one that is made, and looks at it in two ways. As files:
every page of the repository is there, every link and anchor leads to something, and no page names
anything elsewhere that a browser would load. In headless Chromium, once from the files and once
from a plain web server: every page loads without an error and asks for nothing that is not of the
site, and the search finds a word and leads to it.

Takes half a minute. Ends with 1 where something is wrong. Where mdBook or the browser is missing,
that is said, and fails where CI is set.
"""

import functools
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# Words, and a page that their search has to name.
WORDS, FOUND_ON = "fencing token", "docs/guarantees.html"


class Page(HTMLParser):
    """What a page links to, what it has a browser load, and its anchors."""

    LOADED = {
        ("img", "src"), ("script", "src"), ("iframe", "src"), ("source", "src"), ("video", "src"), ("audio", "src"),
        ("embed", "src"), ("object", "data"), ("link", "href"), ("form", "action"), ("use", "href"),
    }

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.anchors, self.text = [], [], set(), ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors.update(value for name in ("id", "name") if (value := given.get(name)))
        if tag == "a" and given.get("href") is not None:
            self.links.append(given["href"])
        self.loads += [value for name, value in attributes if (tag, name) in self.LOADED and value]
        if "srcset" in given or tag == "base":
            self.loads.append(f"{tag} is not known here")

    def handle_data(self, data):
        self.text += data


def is_elsewhere(target):
    parts = urllib.parse.urlsplit(target)
    return bool(parts.netloc) or parts.scheme not in ("", "data")


def faults_of_files(site):
    """What is wrong, and how many pages, links and anchors were looked at."""
    texts = {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    pages = {name: Page(text) for name, text in texts.items()}
    faults, links, anchors = [], 0, 0
    for name, page in sorted(pages.items()):
        for target in page.links + page.loads:
            if is_elsewhere(target):
                if target in page.loads or not target.startswith("https://"):
                    faults.append(f"{name}: {target} is elsewhere")
                continue
            if target.startswith("data:"):
                continue
            links += 1
            path, _, anchor = target.partition("#")
            path, anchor = urllib.parse.unquote(path.partition("?")[0]), urllib.parse.unquote(anchor)
            file = os.path.normpath(site / Path(name).parent / path) if path else str(site / name)
            if not file.startswith(f"{site}/") or not os.path.isfile(file):
                faults.append(f"{name}: {target} leads nowhere")
            elif anchor:
                anchors += 1
                other = Path(file).relative_to(site).as_posix()
                if other not in pages or anchor not in pages[other].anchors:
                    faults.append(f"{name}: {target}: there is no #{anchor}")
    for style in site.rglob("*.css"):
        for target in re.findall(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)", style.read_text(encoding="utf-8")):
            target = "".join(target)
            if is_elsewhere(target):
                faults.append(f"{style.name}: {target} is elsewhere")
            elif not target.startswith(("data:", "#")) and not (style.parent / target.partition("?")[0]).is_file():
                faults.append(f"{style.name}: {target} leads nowhere")
    return faults, pages, links, anchors


def expected_pages():
    """The page of the site for each page of the repository."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    of_the_site = re.compile(r"^(README|ARCHITECTURE|CONTRIBUTING|CHANGELOG|SECURITY)\.md$|^docs/|^examples/")
    names = [name for name in listed.split() if of_the_site.search(name)]
    return {re.sub(r"(^|/)README\.md$", r"\1index.md", name).removesuffix("md") + "html" for name in names}


class Browser:
    """Headless Chromium, by the few commands of WebDriver that are needed."""

    def __init__(self, folder):
        environment = {**os.environ, "TMPDIR": folder}
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        port = next(
            found[1] for line in self.driver.stdout if (found := re.search(r"started successfully on port (\d+)", line))
        )
        self.at = f"http://127.0.0.1:{port}/session"
        arguments = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,860"]
        arguments.append(f"--user-data-dir={folder}/profile")
        # No name leads anywhere but to this machine, so nothing outside is asked even by mistake.
        arguments.append("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        if os.geteuid() == 0:
            # Chromium refuses to be root with its sandbox on.
            arguments.append("--no-sandbox")
        wanted = {"goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self.ask("", {"capabilities": {"alwaysMatch": wanted}})
        self.at += f"/{made['sessionId']}"

    def ask(self, below, body, method="POST"):
        request = urllib.request.Request(
            self.at + below, json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def go(self, url):
        self.ask("/url", {"url": url})

    def value(self, expression):
        return self.ask("/execute/sync", {"script": f"return ({expression})", "args": []})

    def until(self, expression):
        for _ in range(600):
            if (value := self.value(expression)):
                return value
            time.sleep(0.05)
        raise SystemExit(f"site: it did not come true that {expression}")

    def log(self):
        return [line["message"] for line in self.ask("/se/log", {"type": "browser"})]

    def end(self):
        try:
            self.ask("", {}, "DELETE")
        finally:
            self.driver.terminate()
            self.driver.wait()


def faults_in_browser(browser, base, pages):
    """Each page as a browser has it, and the search."""
    faults = []
    for name in pages:
        browser.go(f"{base}/{name}")
        browser.until("document.readyState === 'complete' && document.querySelector('#mdbook-sidebar a') !== null")
        asked = browser.value("performance.getEntriesByType('resource').map((one) => one.name)")
        faults += [f"{name} asked for {url}" for url in asked if not url.startswith((base, "data:"))]
        broken = browser.value("[...document.images].filter((one) => one.naturalWidth === 0).map((one) => one.src)")
        faults += [f"{name}: {image} is no picture" for image in broken]
        faults += [f"{name}: {line}" for line in browser.log()]
    browser.go(f"{base}/index.html?search={urllib.parse.quote(WORDS)}")
    results = browser.until(
        "[...document.querySelectorAll('#mdbook-searchresults a')].map((one) => one.href)[0]"
        " && [...document.querySelectorAll('#mdbook-searchresults a')].map((one) => one.href)"
    )
    hits = [url for url in results if f"/{FOUND_ON}" in url]
    if not hits:
        faults.append(f"a search for '{WORDS}' finds {results}")
    else:
        browser.go(hits[0])
        browser.until("document.querySelector('main mark') !== null")
    faults += [f"the search: {line}" for line in browser.log()]
    return faults


def served(site):
    """The site on a plain web server of this machine: its address, and what stops it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}", server.shutdown


def main():
    arguments = sys.argv[1:]
    if arguments and (len(arguments) != 2 or arguments[0] != "--site"):
        sys.exit("usage: tests/deploy/site.py [--site FOLDER]")
    skipped = functools.partial(print, "site: skipped:", file=sys.stderr)
    if not (shutil.which("chromedriver") and shutil.which("chromium")):
        skipped("there is no chromedriver or chromium (Debian: chromium-driver, chromium)")
        sys.exit(1 if os.environ.get("CI") else 0)
    with tempfile.TemporaryDirectory() as folder:
        site = Path(arguments[1] if arguments else f"{folder}/site").absolute()
        if not arguments:
            made = subprocess.run([ROOT / ".ci/site", site], capture_output=True, text=True)
            if made.returncode != 0 or not site.exists():
                print(made.stderr.strip(), file=sys.stderr)
                sys.exit(made.returncode)
        faults, pages, links, anchors = faults_of_files(site)
        faults += [f"there is no {name}" for name in sorted(expected_pages() - set(pages))]
        if links < 1000 or anchors < 100:
            faults.append(f"only {links} links and {anchors} anchors were found: is this the site?")
        # The frame of the navigation for browsers without scripts is no page.
        names = sorted(set(pages) - {"toc.html"})
        browser = Browser(folder)
        base, stop = served(site)
        try:
            faults += faults_in_browser(browser, f"file://{urllib.parse.quote(str(site))}", names)
            faults += faults_in_browser(browser, base, names)
        finally:
            browser.end()
            stop()
    if faults:
        sys.exit("\n".join(["site:", *faults]))
    print(f"site: {len(names)} pages, {links} links, {anchors} of them to anchors; the search finds what it should")


main()
