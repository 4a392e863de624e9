"""The report page: all methods, what was measured, no other host, and in a real browser: search, filters, and no sideways scroll on a phone."""

import functools
import html
import http.server
import re
import shutil
import subprocess
import threading

import pytest

from ritz.catalogue import methods
from ritz.studies.report import write_site
from ritz.studies.run import Run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A page over one report with everything in it, awkward text included."""
    runs = tmp_path_factory.mktemp("runs")
    run = Run("fastrp", runs / "fastrp")
    run.report |= {"description": "What it measures.\n\nMore <b>about</b> it.", "environment": {"ritz": "0", "gpu": None}}
    run.table(
        "a <table>", [{"a long column name that asks for room": "x" * 120, "value": 0.123456, "flag": True, "nothing": None}], note="a note & more"
    )
    run.figure("curve", lambda axes: axes.plot([0, 1]), caption="a 'curve'")
    run.note("remember <this>")
    run.claim("error < 1", measured=0.5, holds=True, paper="0.4 & less")
    run.claim("error < 0.1", measured=0.5, holds=False)
    run.finish("finished")
    write_site(runs, runs / "report")
    return runs / "report"


def test_the_index_lists_every_method_and_the_verdict(site):
    index = (site / "index.html").read_text()
    assert index.count("<tr data-text") == 137
    row = re.search(r"<tr [^>]*data-verdict=\"fails\".*", index).group()
    assert 'href="methods/fastrp.html"' in row
    assert "1 of 2 hold" in row
    for method in methods(status="planned"):
        assert f'href="methods/{method.slug}.html"' not in index or (site / "methods" / f"{method.slug}.html").exists()


def test_a_method_page_tells_what_how_and_what_was_measured(site):
    page = (site / "methods" / "fastrp.html").read_text()
    for part in ("What it is for", "very sparse random projection", "from ritz", "FastRP(", "&gt;&gt;&gt; import networkx", "arXiv:1908.11512"):
        assert part in page
    for part in (
        "error &lt; 1",
        "0.4 &amp; less",
        "does not hold",
        "a &lt;table&gt;",
        "0.1235",
        "remember &lt;this&gt;",
        "src/ritz/graphs/fastrp.py",
    ):
        assert part in page
    assert (site / "methods" / "fastrp" / "curve.png").exists()
    assert "<b>about</b>" not in page


def test_nothing_is_loaded_from_another_host(site):
    for file in site.rglob("*.html"):
        loaded = re.findall(r'(?:src|srcset|action)="([^"]*)"|<link[^>]*href="([^"]*)"', file.read_text())
        assert not [address for pair in loaded for address in pair if "//" in address]
    assert "//" not in (site / "style.css").read_text().replace("/*", "")
    assert not re.search(r"https?:|fetch\(|import\(", (site / "search.js").read_text())


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="runs: there is no folder"):
        write_site(tmp_path / "nothing", tmp_path / "out")


@pytest.fixture(scope="module")
def address(site):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    handler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def browse(url, profile):
    """Return the document after its scripts have run."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", f"--user-data-dir={profile}", "--virtual-time-budget=4000", "--dump-dom"]
    return subprocess.run([CHROMIUM, *flags, url], capture_output=True, text=True, timeout=60, check=True).stdout


def visible(document):
    rows = re.findall(r"<tr data-text[^>]*>.*?</tr>", document, flags=re.DOTALL)
    return [re.search(r"<td[^>]*>\d+</td><td>(?:<a[^>]*>)?([^<]*)", row).group(1) for row in rows if " hidden" not in row.split(">")[0]]


@needs_browser
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", 137),
        ("?search=very+sparse", ["fastrp"]),
        ("?search=RANDOM+projection", 2),
        ("?room=graphs", 18),
        ("?verdict=fails", ["fastrp"]),
        ("?room=graphs&verdict=planned&search=fastrp", []),
    ],
)
def test_search_and_filters_in_a_browser(address, tmp_path, query, expected):
    document = browse(f"{address}/index.html{query}", tmp_path)
    shown = visible(document)
    assert (len(shown) if isinstance(expected, int) else shown) == expected
    assert f"{len(shown)} of 137 methods" in document


@needs_browser
def test_typing_filters_and_is_kept_in_the_address(site, address, tmp_path):
    script = """<iframe id="page" src="index.html"></iframe><pre id="result"></pre><script>
    page.onload = () => { const inner = page.contentDocument; const box = inner.querySelector("input[name=search]");
      box.value = "fastrp"; box.dispatchEvent(new Event("input", { bubbles: true }));
      result.textContent = inner.querySelector("#count").textContent + " | " + page.contentWindow.location.search; };</script>"""
    (site / "typing.html").write_text(script)
    assert "1 of 137 methods | ?search=fastrp" in browse(f"{address}/typing.html", tmp_path)


@needs_browser
@pytest.mark.parametrize("page", ["index.html", "methods/fastrp.html"])
def test_no_sideways_scroll_on_a_phone(site, address, tmp_path, page):
    script = f"""<iframe id="page" src="{page}" width="390" height="800"></iframe><pre id="result"></pre><script>
    page.onload = () => {{ const root = page.contentDocument.documentElement;
      result.textContent = root.scrollWidth + " of " + root.clientWidth; }};</script>"""
    (site / "phone.html").write_text(script)
    widths = re.search(r"(\d+) of (\d+)</pre>", html.unescape(browse(f"{address}/phone.html", tmp_path)))
    assert 0 < int(widths.group(1)) <= int(widths.group(2)) <= 390
