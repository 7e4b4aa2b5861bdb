"""The report in a real browser: headless Chromium, without network."""

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_folders import write_run

from justrl_recipe.report import page as pages
from justrl_recipe.report import runs

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
MEASURE = "<script>parent.postMessage([innerWidth, document.documentElement.scrollWidth], '*')</script>"
QUIET = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@cache
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    missing = "no browser to look at the report with: apt-get install -y chromium"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def browse(page: Path, *options: str, at: str = "") -> subprocess.CompletedProcess:
    """Open a page, at a link into it; what it logs on its console is on standard error."""
    profile = page.parent / "profile"
    command = [chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *QUIET]
    command += [f"--user-data-dir={profile}", "--enable-logging=stderr", *options, page.absolute().as_uri() + at]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def in_frames(page: Path, widths: list[int], height: int) -> Path:
    """A page that shows another one at several widths, side by side; a window may not be as narrow as a phone."""
    outer = page.with_name(f"frames-{page.name}")
    style = f"border:0;height:{height}px;flex:none"
    frames = "".join(f'<iframe src="{page.name}" style="{style};width:{width}px"></iframe>' for width in widths)
    script = "<script>onmessage = event => document.body.append(`measured ${event.data}`)</script>"
    outer.write_text(f'<body style="margin:0;display:flex">{script}{frames}</body>')
    return outer


def console(result: subprocess.CompletedProcess) -> list[str]:
    return [line for line in result.stderr.splitlines() if ":CONSOLE" in line]


def visit(page: Path) -> tuple[list[str], list[str], str]:
    """The addresses that a page asked for, what it logged as wrong, and its content after its scripts have run.

    What the browser asks for by itself has no origin.
    """
    log = page.with_name("net.json")
    result = browse(page, f"--log-net-log={log}", "--dump-dom", "--virtual-time-budget=3000")
    found = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    asked = sorted(about["url"] for about in found if about.get("initiator", "not an origin") != "not an origin")
    return asked, console(result), result.stdout


@pytest.fixture(scope="module", params=["a log", "four arms at two seeds"])
def page(request, tmp_path_factory) -> Path:
    one = request.param == "a log"
    found = [RESULTS / "tiny" / "seed0.jsonl"] if one else sorted((RESULTS / "smollm2" / "arms").glob("*_?"))
    loaded = runs.with_labels([runs.load(path) for path in found])
    return pages.write(loaded, tmp_path_factory.mktemp("report"), None)


def test_nothing_is_loaded_and_nothing_is_wrong(page):
    asked, errors, content = visit(page)
    assert (asked, errors) == ([], []) and content.count("<svg") >= 10


INTRUDER = '<img src="http://127.0.0.1:9/a.png"><script>nothing.here()</script>'


def test_this_test_would_see_a_request_and_an_error(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(INTRUDER)
    asked, errors, _ = visit(page)
    assert asked == ["http://127.0.0.1:9/a.png"] and "nothing is not defined" in "".join(errors)


def test_the_policy_forbids_what_the_page_does_not_need(page):
    intruder = page.with_name("intruder.html")
    intruder.write_text(page.read_text().replace("</body>", f"{INTRUDER}</body>"))
    asked, errors, _ = visit(intruder)
    assert asked == [] and "nothing is not defined" not in "".join(errors)


def test_a_page_never_scrolls_sideways(page):
    copy = page.with_name("measured.html")
    source, count = POLICY.subn("", page.read_text())
    assert count == 1
    source = source.replace("<details", "<details open")
    copy.write_text(source.replace("</body>", f"{MEASURE}</body>"))
    widths = [360, 390, 1280]
    result = browse(in_frames(copy, widths, 800), "--dump-dom", "--virtual-time-budget=3000")
    measured = re.findall(r"measured (\d+),(\d+)", result.stdout)
    assert sorted(measured) == [(str(width), str(width)) for width in sorted(widths, key=str)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_screenshot_shows_curves(page, scheme):
    picture = page.with_name(f"{scheme}.png")
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    browse(in_frames(page, [390, 1280], 3_000), *dark, f"--screenshot={picture}", "--window-size=1670,3000")
    both = np.asarray(Image.open(picture).convert("RGB"))
    for shown in (both[:, :390], both[:, 390:]):
        pixels = shown.reshape(-1, 3)
        assert (pixels == (0x00, 0x72, 0xB2)).all(axis=1).sum() > 200  # the first curve's colour
        corner = pixels[0].mean()
        assert corner < 60 if scheme == "dark" else corner > 200


def test_the_first_screen_has_the_title_the_verdict_and_the_first_curves(page):
    copy = page.with_name("first.html")
    shown = "['h1', '.lead', '.figures'].map(name => document.querySelector(name).getBoundingClientRect().bottom)"
    script = f"<script>document.body.append(`ends ${{{shown}}}`)</script>"
    copy.write_text(POLICY.sub("", page.read_text()).replace("</body>", f"{script}</body>"))
    content = browse(copy, "--dump-dom", "--window-size=1280,800").stdout
    title, verdict, curves = map(float, re.search(r"ends ([\d.]+),([\d.]+),([\d.]+)", content).groups())
    assert 0 < title < verdict < 110 and 300 < curves < 800  # the verdict is one line


def test_it_prints(page):
    pdf = page.with_name("page.pdf")
    browse(page, f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", content)) in range(2, 12)


PLANTED = [
    "<script>console.error('planted 1')</script>",
    "<img src=http://127.0.0.1:9/planted onerror=\"console.error('planted 2')\">",
    "</style></div></section></body><style>body { background: url(http://127.0.0.1:9/planted) } .moment { all: unset",
    "<svg/onload=console.error('planted 3')>",
    "<a href=\"javascript:console.error('planted 4')\">x</a><base href=http://127.0.0.1:9/>",
    "<details open ontoggle=console.error('planted 5')><iframe srcdoc='<script>parent.planted</script>'>",
    "{{ planted }} {% include 'planted' %} &lt;script&gt;",
    "endless" * 300,
    "\u202eright to left\u202c \u2066\u200f \x1b[31mred\x1b[0m \x00 null \ud800",
    "\\boxed{<script>console.error('planted 6')</script>}",
]


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    """The page of a run whose model, prompts and reward function wrote what a browser would act on."""
    run = write_run(tmp_path_factory.mktemp("planted") / "run")
    groups = [
        {
            **{"step": step, "batch": batch, "data_source": hostile, "prompt": hostile, "ground_truth": hostile},
            "responses": [
                {
                    "text": f"{hostile} \\boxed{{{hostile}}}",
                    "reason": hostile,
                    "tokens": 3,
                    "reward": 1.0,
                    "acc": 1.0,
                },
                {"text": hostile * 20, "reason": hostile, "tokens": 3, "reward": -1.0, "acc": 0.0, "cut": True},
            ],
        }
        for step in (1, 7)
        for batch in ("training", "validation")
        for hostile in PLANTED
    ]
    (run / "responses.jsonl").write_text("".join(json.dumps(group) + "\n" for group in groups))
    return pages.write(runs.with_labels([runs.load(run)]), run, None)


def test_nothing_that_a_model_wrote_runs_or_is_loaded_even_without_the_policy(planted):
    bare = planted.with_name("bare.html")
    source, count = POLICY.subn("", planted.read_text())
    assert count == 1 and "planted 1" in source
    bare.write_text(source)
    for page in (planted, bare):
        asked, errors, content = visit(page)
        assert (asked, errors) == ([], [])
        assert content.count("<script") == content.count("<iframe") == content.count("<base") == 0
        assert content.count("</section>") == source.count("</section>") and content.count("<style>") == 1
    assert not set("\u202e\u202c\u2066\u200f\x1b\x00") & set(source)


SOON = ["--virtual-time-budget=3000"]
SEEN = """<script>setTimeout(() => {
const shown = [...document.querySelectorAll(".moment")].filter(one => one.checkVisibility())
console.error(`shown ${shown.map(one => one.querySelector("h4").textContent.split(":")[0])}`)
console.error(`width ${innerWidth} ${document.documentElement.scrollWidth}`)
}, 500)</script>"""


@pytest.mark.parametrize(
    ("chosen", "shown"),
    [
        ("", "Step 7, training"),
        ("#r0-training-1-3", "Step 1, training"),
        ("#r0-validation-7-0", "Step 7, validation"),
    ],
)
def test_a_link_shows_the_responses_of_its_step_alone(planted, chosen, shown):
    page = planted.with_name("seen.html")
    page.write_text(
        POLICY.sub("", planted.read_text()).replace("<details", "<details open").replace("</body>", f"{SEEN}</body>")
    )
    assert not chosen or f'<a href="{chosen[:-1]}0">' in page.read_text()
    said = "".join(console(browse(page, "--dump-dom", *SOON, "--window-size=500,800", at=chosen)))
    assert f'shown {shown}"' in "".join(said) and 'width 500 500"' in "".join(said)


def test_responses_print(planted):
    pdf = planted.with_name("responses.pdf")
    browse(planted, f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) in range(3, 40)
