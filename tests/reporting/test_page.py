"""The page of `xmnist report` in a real browser, from a file and without network: what its users do with it."""

import csv
import io
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.report import explained
from helpers import composed
from xmnist.config import resolution
from xmnist.runs import claims, store
from xmnist.runs.store import Run
from xmnist.stages import report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium on this machine: apt-get install chromium"
)

HOSTILE = "<script>alert(1)</script>"
CLASSES = [HOSTILE, "b", "c"]
MISTAKEN = f"c \N{RIGHTWARDS ARROW} {HOSTILE}"
"""What stands above an image of class c that is taken for another."""

NUMBERS = [4, 7, 11, 12, 20, 21]
"""The test images; those at places 2 and 5 are misclassified."""

OBSERVED = 40
AOPC = {"random": 0.2, "saliency": 0.1, "lrp": 0.7}


def resolved(stage: str, out: Path, *words: str) -> resolution.Settings:
    return resolution.resolve(composed("dataset=glyphs", f"out_dir={out}", *words, stage=stage), stage)


def noise(seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal((len(NUMBERS), 1, 8, 8)).astype(np.float32)


def constant(value: float) -> Any:
    return np.full((len(NUMBERS), 1, 8, 8), value, np.float32)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the page lies, as a browser says it: of a training, an evaluation, and explanations of two networks."""
    out = tmp_path_factory.mktemp("page") / "out"
    words = ("explainer=[lrp,refae,cladec]", "alpha=[0,0.25,0.99]")
    made = {f"cladec,alpha={alpha}": constant(value) for alpha, value in (("0", 0.0), ("0.25", 0.2), ("0.99", 1.0))}
    images = np.random.default_rng(0).random((len(NUMBERS), 1, 8, 8), np.float32)
    settings = resolved("explain", out, *words)
    explained(settings, {"lrp": noise(1), "refae": images, **made}, images, CLASSES, NUMBERS)
    fewer = resolved("explain", out, "explainer=lrp", "seed=1")  # of two images only; first by time and by name
    explained(fewer, {"lrp": noise(3)[:2]}, images[:2], ["x", "y", "z"], NUMBERS[:2])
    other = resolved("explain", out, "explainer=saliency", "seed=1")
    explained(other, {"saliency": noise(2)[:3]}, images[:3], ["x", "y", "z"], NUMBERS[:3])
    trained = Run("train", resolved("train", out, "model=classifier"))
    with claims.claim(trained, "xmnist train model=classifier dataset=glyphs"):
        trained.write_json("metrics.json", {"accuracy": 0.9, "loss": 0.3, "epochs": 3})
        trained.write_json(
            "data.json", {"shape": [1, 8, 8], "classes": CLASSES, "masks": True, "images": {"test": [4, 4, 4]}}
        )
        trained.write_csv("history.csv", [{"epoch": e, "train_loss": 1 / e, "val_loss": 2 / e} for e in (1, 2, 3)])
    measured = Run("evaluate", resolved("evaluate", out, "metric=[classification,aopc]"))
    with claims.claim(measured, "xmnist evaluate dataset=glyphs"):
        _measure(measured)
    page = resolution.resolve(composed(f"out_dir={out}", stage="report"), "report")
    report.main(page, "xmnist report")
    return Run("report", page).path.joinpath("index.html").as_uri()


LONG = ["Trousers & 50%_cotton\\wool", "Ankle boot of a {long} name", "c"]
"""Names of classes that are wider than an image, and hold what is no letter to LaTeX."""


@pytest.fixture(scope="module")
def unusual(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page of long class names, an image of one's own, a warning, and two trainings of one name."""
    folder = tmp_path_factory.mktemp("unusual")
    out = folder / "out"
    images = np.random.default_rng(0).random((len(NUMBERS), 1, 8, 8), np.float32)
    explained(resolved("explain", out, "explainer=lrp"), {"lrp": noise(1)}, images, LONG, NUMBERS)
    Image.fromarray((255 * images[1, 0]).astype(np.uint8)).save(folder / "a:1.png")
    mine = Run("explain", resolved("explain", out, "explainer=saliency", f"image.path='{folder / 'a:1.png'}'"))
    with claims.claim(mine, "xmnist explain image=a:1.png"):
        about = {"index": 0, "file": "a:1.png", "label": "", "class": "", "prediction": 0, "predicted_class": LONG[0]}
        mine.write_csv("selection.csv", [about | {"probability": 0.5}])
        with store.atomic(mine.path / "explanations.npz") as file:
            np.savez(file, images=images[1:2], saliency=noise(4)[:1], predictions=np.array([0]), indices=np.array([0]))
    for epochs in (2, 3):
        trained = Run("train", resolved("train", out, "model=classifier", f"trainer.epochs={epochs}"))
        with claims.claim(trained, "xmnist train"):
            trained.write_json("metrics.json", {"accuracy": 0.9})
            if epochs == 2:
                logging.getLogger("xmnist").warning("the classifier has learned nothing: " * 8, extra={"lasting": True})
    measured = Run("evaluate", resolved("evaluate", out, "metric=[classification,aopc]", "trainer.epochs=2"))
    with claims.claim(measured, "xmnist evaluate dataset=glyphs"):
        _measure(measured, LONG)
    page = resolution.resolve(composed(f"out_dir={out}", stage="report"), "report")
    report.main(page, "xmnist report")
    return Run("report", page).path.joinpath("index.html").as_uri()


def _measure(run: Run, names: Sequence[str] = CLASSES) -> None:
    draw = np.random.default_rng(0)
    run.write_csv("confusion.csv", [{"true": a, **{b: 3 * (a == b) + 1 for b in names}} for a in names])
    run.write_csv("classification.csv", [
        {"class": name, "precision": 0.5, "recall": 0.5 + place / 10, "f1": 0.5, "support": 6, "auc": 0.9, "ap": 0.8}
        for place, name in enumerate(names)
    ])  # fmt: skip
    run.write_csv("classification_curves.csv", [
        {"curve": curve, "class": name, "mean": name == "micro", "area": 0.9, "x": x, "y": y}
        for curve in ("roc", "precision_recall") for name in [*names, "micro"] for x, y in ((0, 0), (0, 0.9), (1, 1))
    ])  # fmt: skip
    run.write_csv("aopc.csv", [
        {"explainer": name, "patch": 4, "fill": "black", "image": image, "aopc": mean + 0.1 * draw.standard_normal(),
         "aopc_lerf": 0.0, "abpc": 0.0}
        for name, mean in AOPC.items() for image in range(OBSERVED)
    ])  # fmt: skip
    run.write_csv("aopc_curves.csv", [
        {"explainer": name, "patch": 4, "fill": "black", "order": order, "step": step, "f": 1 - mean * step / 5,
         "aopc": mean * step / 5}
        for name, mean in AOPC.items() for order in ("morf", "lerf") for step in range(6)
    ])  # fmt: skip
    run.write_csv("summary.csv", [
        {"kind": "explainer", "name": name, "aopc": mean, "aopc_low": mean - 0.05, "aopc_high": mean + 0.05,
         "aopc_p": "" if name == "random" else 0.01}
        for name, mean in AOPC.items()
    ])  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(address: str, browser: "Browser") -> "Iterator[Callable[..., Page]]":
    """`opened("#tables")`: the page there; no error may be logged, and nothing asked for, until the test ends."""
    wrong: list[str] = []
    contexts = []

    def go(fragment: str = "", at: str = address, script: str = "", **options: Any) -> "Page":
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or wrong.append(request.url))
        page.set_default_timeout(10_000)
        page.add_init_script(script)
        page.goto(at + fragment)
        page.wait_for_selector("html[data-ready]")
        return page

    yield go
    for context in contexts:
        context.close()
    assert wrong == []


Opened = Callable[..., "Page"]
ROWS = ".gallery tr"


def heads(page: "Page") -> list[str]:
    """What stands above the images."""
    return [each.inner_text() for each in page.locator(f"{ROWS}:first-child th[scope=col]").all()]


def titles(page: "Page") -> list[str]:
    return [" ".join(each.inner_text().split()) for each in page.locator(f"{ROWS} th[scope=row]").all()]


def colour(page: "Page", down: int, across: int) -> list[int]:
    """The red, green and blue of the first pixel of a cell, once it is drawn."""
    page.wait_for_selector("html[data-drawn]")
    return list(page.evaluate(PIXEL, f"{down}:{across}")[:3])


def until(page: "Page", true: Callable[[], bool]) -> None:
    """Wait for what comes after a moment; the page forbids the code by which playwright would wait itself."""
    for _ in range(200):
        if true():
            return
        page.wait_for_timeout(25)
    pytest.fail("it did not come")


def fragment(page: "Page") -> str:
    """The part of the address that tells the state; the browser knows it before playwright's `page.url` does."""
    return str(page.evaluate("location.hash"))


def turn_to(page: "Page", view: str, by: str = "click") -> None:
    """Go to a view and wait until it shows: the browser answers for what is hidden with text that no reader sees."""
    getattr(page, by)(f"nav a[href^='#{view}']")
    page.wait_for_selector(f"#view-{view}", state="visible")


PIXEL = """(where) => {
  const copy = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  copy.drawImage(document.querySelector(`[data-at='${where}'] canvas`), 0, 0, 1, 1, 0, 0, 1, 1);
  return [...copy.getImageData(0, 0, 1, 1).data];
}"""


def test_the_gallery_has_all_and_hostile_names_are_text(opened: Opened) -> None:
    page = opened("#gallery")
    assert page.locator("nav [aria-current=page]").inner_text() == "Gallery"
    assert heads(page) == [HOSTILE, "b", MISTAKEN, HOSTILE, "b", MISTAKEN]
    assert titles(page) == ["original", "LRP", "RefAE layer dense", "ClaDec layer dense, alpha 0"]
    assert (
        page.locator("#gallery-count").inner_text() == "6 of 6 images, 2 of them misclassified; 3 rows of explanations"
    )
    assert page.locator("body script:not([type])").count() == 1  # the page's own
    assert [page.locator(f"#gallery-controls [name=class] option >> nth={n}").inner_text() for n in range(4)] == [
        *("any", HOSTILE, "b", "c")
    ]


def test_the_overview_is_first_and_has_pictures(opened: Opened) -> None:
    page = opened()
    assert page.locator("nav [aria-current=page]").inner_text() == "Overview"
    view, strip = page.locator("#view-overview"), page.locator(".strip")
    assert view.locator(".networks tbody tr").inner_text().split("\t")[:5] == [
        *("classifier", "vgg_small", "glyphs", "0", "accuracy 0.9")
    ]
    assert "LRP, mean AOPC 0.700, significantly better than every other explainer" in view.inner_text()
    rows = [each.inner_text() for each in strip.locator(".row").all()]
    assert rows == ["", "original", "LRP", "ClaDec, alpha 0.25"]
    assert strip.locator("canvas").count() == 3 * 6 and MISTAKEN in strip.inner_text()
    first = """() => [...document.querySelectorAll(".strip canvas")].filter((each) => {
      const { data } = each.getContext("2d").getImageData(0, 0, each.width, each.height);
      return data.some((value, place) => place % 4 === 3 && value === 255);
    }).length"""
    until(page, lambda: page.evaluate(first) == 18)  # all of them are drawn
    assert page.locator("main img").count() == 0  # from the gallery's tiles, not embedded once more
    strip.click()
    until(page, lambda: page.locator("#view-gallery").is_visible())
    page.go_back()
    page.click("#view-overview li a")
    until(page, lambda: page.locator("#table-1").is_visible())


def test_the_strip_has_the_best_explainers_of_its_network(opened: Opened, address: str) -> None:
    page = opened()
    ranked = """(order) => strongest({ id: "a", rows: [
      ["x", "heatmap"], ["random", "heatmap", true], ["best", "heatmap"], ["y", "heatmap"], ["best", "heatmap"],
      ["refae", "image"],
      ["cladec", "image", false, 0], ["cladec", "image", false, 0.5],
    ].map(([name, kind, control, alpha = null]) => ({ name, kind, control, alpha })) }, { a: order })
      .map(({ name, alpha }) => [name, alpha])"""
    assert page.evaluate(ranked, ["best", "y"]) == [["best", None], ["y", None], ["cladec", 0.5]]
    assert page.evaluate(ranked, []) == [["x", None], ["best", None], ["cladec", 0.5]]


def test_rows_that_explain_none_of_the_images_are_hidden(opened: Opened) -> None:
    page = opened("#gallery")
    page.select_option("[name=net]", label="vgg_small on glyphs, seed 1")
    assert titles(page) == ["original", "LRP", "saliency"]
    page.select_option("[name=right]", "wrong")  # of that image there is no LRP
    assert titles(page) == ["original", "saliency"] and "; 1 row of" in page.locator("#gallery-count").inner_text()
    page.focus("[data-at='0:0']")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator("#enlarged-title").inner_text() == "saliency: image 11"
    page.keyboard.press("Escape")
    page.select_option("[name=right]", "")
    assert titles(page) == ["original", "LRP", "saliency"]


@pytest.mark.parametrize("width", [1280, 390])
def test_long_class_names_stand_whole_above_their_images(opened: Opened, unusual: str, width: int) -> None:
    page = opened("#gallery", at=unusual, viewport={"width": width, "height": 900})
    assert heads(page)[:3] == [*LONG[:2], f"{LONG[2]} \N{RIGHTWARDS ARROW} {LONG[0]}"]
    names = f"{ROWS}:first-child th[scope=col] span"
    for each in page.locator(names).all():
        assert each.evaluate(
            "(span) => span.scrollWidth <= span.clientWidth && getComputedStyle(span).overflow !== 'hidden'"
        )
        assert each.evaluate("(span) => span.clientWidth <= span.closest('th').querySelector('canvas').clientWidth")
    assert page.locator(f"{names} >> nth=0").evaluate("(span) => span.clientHeight") >= 32  # more than one line


def test_own_images_have_a_file_and_no_true_class(opened: Opened, unusual: str) -> None:
    page = opened("#gallery", at=unusual)
    page.select_option("[name=seen]", LONG[0])
    mine = page.locator(f"{ROWS}:first-child th[title='a:1.png']")
    assert mine.inner_text() == LONG[0] and mine.locator(".wrong").count() == 0
    assert page.locator("[name=class] option").count() == 1 + len(LONG)  # any, and those of the test images
    mine.locator("button").click()
    facts = page.locator("#enlarged dl").inner_text()
    assert page.locator("#enlarged-title").inner_text() == "original: image a:1.png"
    assert "a:1.png" in facts and f"{LONG[0]}, probability 0.5000" in facts and "true class" not in facts
    again = opened(fragment(page), at=unusual)
    assert again.locator("#enlarged-title").inner_text() == "original: image a:1.png"
    page.keyboard.press("Escape")
    for right, count in (("right", 2), ("wrong", 2)):  # of those predicted so; nobody knows of one's own
        page.select_option("[name=right]", right)
        assert len(heads(page)) == count, right


PHONE = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}


def test_a_touch_screen_is_told_to_tap(opened: Opened) -> None:
    page = opened("#gallery", **PHONE)
    said = page.locator("#view-gallery").inner_text().lower()
    assert "tap an image" in said and "point at" not in said and "press enter" not in said
    page.tap("[data-at='1:0']")
    assert page.locator("#enlarged .value").inner_text() == "tap a pixel for its value"
    page.tap("#enlarged canvas >> nth=1")
    until(page, lambda: page.locator("#enlarged .value").inner_text().startswith("LRP: row "))
    page.tap("#enlarged [aria-label=close]")
    turn_to(page, "curves", by="tap")
    said = page.locator("#view-curves").inner_text().lower()
    assert "tap a panel" in said and "point at" not in said and "drag" not in said
    page.tap(".panel > svg >> nth=0")
    until(page, lambda: page.locator(".tip >> nth=0").is_visible())
    page.wait_for_timeout(100)
    assert page.locator(".tip >> nth=0").is_visible()  # and stays
    mouse = opened("#gallery")
    said = mouse.locator("#view-gallery").inner_text().lower()
    assert "point at an image" in said and "tap" not in said
    mouse.click("[data-at='1:0']")
    assert mouse.locator("#enlarged .value").inner_text() == "point at a pixel for its value"


BOOKTABS = r"""\begin{tabular}{lr}
\toprule
explainer & aopc \\
\midrule
random & 0.200 [0.150, 0.250] \\
saliency & 0.100 [0.050, 0.150] \\
LRP & \textbf{0.700 [0.650, 0.750]} \\
\bottomrule
\end{tabular}
"""


def test_tables_are_copied_as_csv_and_latex(opened: Opened, unusual: str) -> None:
    page = opened("#tables", at=unusual, permissions=["clipboard-read", "clipboard-write"])

    def copied(table: str, kind: str) -> str:
        button = page.locator(f"[data-of^='{table}'][data-as={kind}]")
        usual = button.inner_text()
        button.click()
        until(page, lambda: button.inner_text() == "copied")
        assert page.locator("#said").text_content() == "copied"
        button.click()  # once more, before it says again what it does
        until(page, lambda: button.inner_text() == usual)
        return str(page.evaluate("navigator.clipboard.readText()"))

    assert copied("table-1", "latex") == BOOKTABS
    assert copied("table-1", "csv").splitlines() == ["explainer,aopc", "random,0.2", "saliency,0.1", "LRP,0.7"]
    turn_to(page, "cards")
    rows = list(csv.reader(io.StringIO(copied("classes", "csv"))))
    assert rows[0][:3] == ["class", "precision", "recall"] and [row[0] for row in rows[1:]] == LONG
    assert list(csv.reader(io.StringIO(copied("confusion", "csv"))))[1:] == [
        [name, *("4" if name == other else "1" for other in LONG)] for name in LONG
    ]
    latex = copied("classes", "latex")
    assert r"Trousers \& 50\%\_cotton\textbackslash{}wool & 0.5000" in latex and r"a \{long\} name &" in latex
    turn_to(page, "overview")
    assert "warning" not in copied("networks", "csv")
    tables = page.locator("main table:not(.gallery)").count()
    assert page.locator(".copies").count() == tables == 4


def test_latex_is_no_more_than_the_text_of_the_cells(opened: Opened) -> None:
    page = opened()
    table = """(cells) => { const table = document.createElement("table");
      for (const text of cells) table.insertRow().insertCell().textContent = text; return latex(table); }"""
    lines = page.evaluate(table, ["head", "[a] *", "*b", "-1 [-2, 3-4]", "~^#$<≈"]).splitlines()
    assert lines[4:8] == [
        *(r"{[}a] * \\", r"{*}b \\", r"$-$1 [$-$2, 3-4] \\"),
        r"\textasciitilde{}\textasciicircum{}\#\$\textless{}$\approx$ \\",
    ]


def test_a_page_without_a_clipboard_copies_all_the_same(opened: Opened) -> None:
    without = "Object.defineProperty(navigator, 'clipboard', { value: undefined });"
    page = opened("#tables", script=without)
    page.click("[data-of=table-1][data-as=csv]")
    until(page, lambda: page.locator("[data-of=table-1][data-as=csv]").inner_text() == "copied")
    assert page.evaluate("document.activeElement.dataset.as") == "csv" and page.locator("textarea").count() == 0
    turn_to(page, "runs")
    page.focus("[name=find]")
    page.keyboard.press("Control+V")
    assert page.input_value("[name=find]").split()[0].startswith("explainer,aopc")
    refused = opened("#tables", script=f"{without} document.execCommand = () => false;")
    refused.click("[data-of=table-1][data-as=csv]")
    until(refused, lambda: refused.locator("[data-of=table-1][data-as=csv]").inner_text() == "not allowed")


def test_warnings_are_read_and_not_only_seen(opened: Opened, unusual: str) -> None:
    page = opened("", at=unusual)
    for view in ("overview", "runs", "cards"):
        turn_to(page, view)
        warning = page.locator(f"#view-{view} .warning:visible >> nth=0")
        until(page, warning.is_visible)
        assert "warning" in warning.inner_text()
    turn_to(page, "runs")
    page.fill("[name=find]", "warning")
    assert page.locator(".run:visible").count() == 1


def test_filters_choose_the_images_and_stand_in_the_address(opened: Opened) -> None:
    page = opened("#gallery")
    page.select_option("[name=right]", "wrong")
    assert heads(page) == [MISTAKEN] * 2 and "right=wrong" in fragment(page)
    page.select_option("[name=class]", "b")
    assert heads(page) == [] and page.locator("#gallery-count").inner_text() == "No image is like that."
    page.select_option("[name=right]", "")
    assert heads(page) == ["b", "b"]
    page.select_option("[name=class]", "")
    page.select_option("[name=seen]", HOSTILE)
    assert heads(page) == [HOSTILE, MISTAKEN] * 2
    page.click("text=explainers")
    page.uncheck("fieldset >> text=LRP")
    assert titles(page)[1] == "RefAE layer dense"
    again = opened(fragment(page))
    assert heads(again) == heads(page) and titles(again) == titles(page)


def test_the_slider_moves_through_the_trained_alphas(opened: Opened) -> None:
    page = opened("#gallery")
    slider = page.locator("[name=alpha]")
    assert slider.get_attribute("max") == "2" and colour(page, 3, 0) == [0, 0, 0]
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert titles(page)[-1] == "ClaDec layer dense, alpha 0.25" and slider.get_attribute("aria-valuetext") == "0.25"
    until(page, lambda: colour(page, 3, 0) != [0, 0, 0])
    assert colour(page, 3, 0) == [51, 51, 51] and "alpha=0.25" in fragment(page)
    page.keyboard.press("End")
    assert titles(page)[-1] == "ClaDec layer dense, alpha 0.99"
    page.check("[name=all]")
    assert titles(page)[3:] == [f"ClaDec layer dense, alpha {alpha}" for alpha in ("0", "0.25", "0.99")]


def test_another_network_has_its_own_filters(opened: Opened) -> None:
    page = opened("#gallery?alpha=0.99")
    page.select_option("[name=net]", label="vgg_small on glyphs, seed 1")
    assert heads(page) == ["x", "y", "z \N{RIGHTWARDS ARROW} x"] and titles(page) == ["original", "LRP", "saliency"]
    assert page.locator("[name=alpha]").is_disabled() and page.locator("[name=class] option").count() == 4
    again = opened(fragment(page))
    assert heads(again) == ["x", "y", "z \N{RIGHTWARDS ARROW} x"]


def test_what_is_pointed_at_is_told(opened: Opened) -> None:
    page = opened("#gallery")
    page.hover("[data-at='2:2'] canvas", position={"x": 1, "y": 1})
    first, second = page.locator("#readout > span").all()
    image = np.random.default_rng(0).random((len(NUMBERS), 1, 8, 8), np.float32)[2, 0, 0, 0]
    until(page, lambda: second.inner_text().startswith("row 0, column 0"))
    about = f"image 11, true class c, predicted class {HOSTILE} (0.750), of the reconstruction {HOSTILE}"
    assert first.inner_text() == f"RefAE, layer dense, {about}"
    assert float(second.inner_text().split(": ")[1]) == pytest.approx(float(image), abs=0.003)
    page.hover("[data-at='1:0'] canvas", position={"x": 1, "y": 1})
    until(page, lambda: first.inner_text().startswith("LRP"))
    value = float(second.inner_text().split(": ")[1])
    assert value == pytest.approx(float(noise(1)[0, 0, 0, 0]), abs=0.02 * float(np.abs(noise(1)[0]).max()))


def test_a_picture_is_enlarged_by_mouse_and_keyboard(opened: Opened) -> None:
    page = opened("#gallery")
    page.click("[data-at='1:2']")
    title = page.locator("#enlarged-title")
    assert title.inner_text() == "LRP: image 11" and "open=11" in fragment(page)
    facts = page.locator("#enlarged dl").inner_text()
    assert f"{HOSTILE}, probability 0.7500" in facts and "largest value" in facts
    page.keyboard.press("ArrowRight")
    assert title.inner_text() == "LRP: image 12"
    page.keyboard.press("ArrowDown")
    assert title.inner_text() == "RefAE, layer dense: image 12"
    page.click("text=← image")
    assert title.inner_text() == "RefAE, layer dense: image 11"
    again = opened(fragment(page))
    assert again.locator("#enlarged-title").inner_text() == "RefAE, layer dense: image 11"
    page.keyboard.press("Escape")
    until(page, lambda: not title.is_visible() and "open=" not in fragment(page))
    assert page.evaluate("document.activeElement.dataset.at") == "2:2"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    assert title.inner_text() == "LRP: image 4"


def test_images_without_an_explanation_are_stepped_over(opened: Opened) -> None:
    page = opened("#gallery")
    page.select_option("[name=net]", label="vgg_small on glyphs, seed 1")
    page.focus("[data-at='2:0']")
    for key, place in (("End", "2:2"), ("ArrowUp", "0:2"), ("ArrowDown", "2:2"), ("Home", "2:0"), ("ArrowUp", "1:0"),
                       ("ArrowRight", "1:1"), ("ArrowRight", "1:1")):  # fmt: skip
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.dataset.at") == place, key
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    assert "there is none of this image" in page.locator("#enlarged dl").inner_text()
    page.keyboard.press("Escape")
    until(
        page, lambda: page.evaluate("document.activeElement.dataset.at") == "0:2"
    )  # a dialog gives it back in a moment
    assert page.evaluate("document.activeElement.dataset.at") == "0:2"
    page.select_option("[name=right]", "wrong")
    assert page.locator(".gallery [tabindex='0']").count() == 1


def test_what_has_the_focus_is_not_covered(opened: Opened) -> None:
    page = opened("#gallery", viewport={"width": 420, "height": 500})
    page.focus("[data-at='3:5']")
    for key in ("ArrowUp", "ArrowUp", "ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
        covered = page.evaluate("""() => {
          const box = document.activeElement.getBoundingClientRect();
          return document.elementFromPoint(box.left + 8, box.top + 8)?.closest("button") !== document.activeElement;
        }""")
        assert not covered, (key, page.evaluate("document.activeElement.dataset.at"))


def test_back_leaves_an_enlarged_picture(opened: Opened) -> None:
    page = opened("#runs")
    turn_to(page, "gallery")
    page.click("[data-at='0:1']")
    assert page.locator("#enlarged-title").inner_text() == "original: image 7"
    assert opened(fragment(page)).locator("#enlarged-title").inner_text() == "original: image 7"
    page.go_back()
    until(page, lambda: page.locator("#view-runs").is_visible())
    page.click(".run >> nth=0")  # nothing lies over it
    assert page.locator(".run[open]").count() == 1 and "#runs" in fragment(page)


def test_the_skip_link_leads_to_the_content_of_the_view(opened: Opened) -> None:
    page = opened("#tables?sort=table-1:1:up")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main" and page.locator("#table-1").is_visible()
    assert "#tables?sort" in fragment(page)


def test_tables_are_sorted_and_the_address_says_how(opened: Opened) -> None:
    page = opened("#tables")
    table = page.locator("#table-1")

    def names(of: Any) -> list[str]:
        return [each.inner_text() for each in of.locator("tbody th").all()]

    assert names(table) == ["random", "saliency", "LRP"] and not page.locator("#view-gallery").is_visible()
    table.locator("thead button >> nth=1").click()
    assert names(table) == ["LRP", "random", "saliency"] and "sort=table-1%3A1%3Adown" in fragment(page)
    table.locator("thead button >> nth=1").click()
    assert names(table) == ["saliency", "random", "LRP"]
    assert table.locator("[aria-sort]").get_attribute("aria-sort") == "ascending"
    table.locator("thead button >> nth=0").click()
    assert names(table) == ["LRP", "random", "saliency"]
    assert table.locator("td.best").inner_text().startswith("0.700 [0.650, 0.750]")
    again = opened("#tables?sort=table-1:1:up")
    assert names(again.locator("#table-1")) == ["saliency", "random", "LRP"]


def test_curves_are_read_hidden_and_enlarged(opened: Opened) -> None:
    page = opened("#curves")
    kinds = [each.get_attribute("label") for each in page.locator("[name=chart] optgroup").all()]
    assert sorted(map(str, kinds)) == ["AOPC", "ROC and PR", "Training"]
    page.select_option("[name=chart]", label="AOPC: AOPC(L), most relevant patches first: vgg_small on glyphs, seed 0")
    panel = page.locator(".panel > svg")
    assert page.locator(".panel").count() == 1 and panel.locator("path").count() == 3
    assert "LRP 0.700" in str(panel.get_attribute("aria-label"))
    panel.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    told = page.locator(".tip").inner_text()
    assert (
        told.splitlines()[0] == "patches covered 2" and "0.280 LRP" in told and told.index("LRP") < told.index("random")
    )
    assert page.locator("#chart-said").text_content() == ", ".join(told.splitlines())  # for who does not see it
    page.focus(".lines button >> text=random")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "random"
    assert panel.locator("path").count() == 2 and "hide=random" in fragment(page)
    ticks = panel.locator(".tick").all_text_contents()
    box = panel.bounding_box()
    assert box
    page.mouse.move(box["x"] + 100, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 220, box["y"] + 120)
    page.mouse.up()
    assert panel.locator(".tick").all_text_contents() != ticks
    page.click("text=whole range")
    assert panel.locator(".tick").all_text_contents() == ticks
    again = opened(fragment(page))
    assert again.locator(".panel > svg path").count() == 2
    page.select_option("[name=chart]", label="ROC and PR: vgg_small on glyphs, seed 0")
    assert page.locator(".panel").count() == 2 and page.locator(".panel > svg >> nth=0").locator("path").count() == 4
    page.select_option("[name=chart]", label="Training: Classifier: vgg_small on glyphs, seed 0")
    ticks = panel.locator(".tick").all_text_contents()
    page.check("[name=log]")
    assert panel.locator(".tick").all_text_contents() != ticks


def test_runs_are_found_and_their_commands_copied(opened: Opened) -> None:
    page = opened("#runs", permissions=["clipboard-read", "clipboard-write"])
    assert page.locator(".run:visible").count() == 5 and page.locator("[name=found]").inner_text() == "5 runs"
    page.fill("[name=find]", "train classifier")
    assert page.locator(".run:visible").count() == 1 and page.locator("[name=found]").inner_text() == "1 of 5 runs"
    page.click(".run:visible summary")
    page.click(".run[open] .copy")
    until(page, lambda: page.locator(".run[open] .copy").inner_text() == "copied")
    command = "xmnist train model=classifier dataset=glyphs"
    assert page.evaluate("navigator.clipboard.readText()") == command
    assert "name: vgg_small" in page.locator(".run[open] pre").inner_text()
    until(page, lambda: "run=" in fragment(page))
    again = opened(fragment(page))
    assert again.locator(".run[open] .command code").inner_text() == command


def test_a_link_in_a_table_leads_to_its_run_and_back(opened: Opened) -> None:
    page = opened("#tables?sort=table-1:1:up")
    for _ in range(2):  # also when it is open already
        page.click("#view-tables h2 a >> nth=0")
        until(page, lambda: page.locator(".run[open] summary b").is_visible())
        assert page.locator(".run[open] summary b").inner_text() == "evaluate"
        assert page.evaluate("document.querySelector('.run[open]').getBoundingClientRect().top < innerHeight / 2")
        turn_to(page, "tables")
        until(page, lambda: page.locator("#table-1").is_visible())
    page.go_back()
    until(page, lambda: page.locator(".run[open]").is_visible())
    page.go_back()
    until(page, lambda: page.locator("#table-1").is_visible())
    assert [each.inner_text() for each in page.locator("#table-1 tbody th").all()] == ["saliency", "random", "LRP"]


def test_a_card_has_the_confusion_matrix_and_the_limits(opened: Opened) -> None:
    page = opened("#cards")
    card = page.locator("article")
    assert card.locator("h2").inner_text().startswith("Classifier: vgg_small on glyphs, seed 0 run ")
    assert card.locator(".confusion tbody tr >> nth=0").inner_text().split("\t") == [HOSTILE, "4", "1", "1"]
    arrow = "\N{RIGHTWARDS ARROW}"
    mistake = f"Among its most frequent mistakes: {HOSTILE} {arrow} b (true {arrow} predicted), 1 of 6 times."
    assert mistake in card.inner_text()
    card.locator(".sortable thead button >> text=recall").click()
    assert [each.inner_text() for each in card.locator(".sortable tbody th").all()] == ["c", "b", HOSTILE]


def test_an_address_of_nothing_shows_a_view(opened: Opened) -> None:
    for fragment in (
        "#nowhere",
        "#gallery?net=none&class=none&alpha=none&open=1:2:3&hide=all",
        "#gallery?open=:",
        "#tables?sort=x:y:z",
        "#tables?sort=main:1:down",
        "#cards?sort=table-1:99:up",
        "#curves?chart=x&hide=y",
    ):
        page = opened(fragment)
        assert page.locator("main > section:visible").count() == 1
    assert opened("#nowhere").locator("#view-overview").is_visible()
    assert len(heads(opened("#gallery?net=none&class=none"))) == 6


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("of", ["address", "unusual"])
def test_every_view_fits_and_can_be_read(
    opened: Opened, width: int, scheme: str, of: str, request: pytest.FixtureRequest
) -> None:
    options: dict[str, Any] = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    page = opened("", at=request.getfixturevalue(of), **options)
    for view in ("overview", "gallery", "tables", "curves", "runs", "cards"):
        turn_to(page, view)
        assert page.locator("main > section:visible").get_attribute("id") == f"view-{view}"
        for summary in page.locator("main > section:visible summary").all():
            summary.click()
        page.evaluate("scrollTo(0, 0)")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # nothing is cut off, or moves
        faint = page.evaluate(CONTRAST)
        assert faint == [], faint
        assert page.evaluate(NAMELESS) == []


CONTRAST = """() => {
  const linear = (part) => (part /= 255) <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const colour = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (element) => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) {
      const own = colour(getComputedStyle(each).backgroundColor);
      if ((own[3] ?? 1) > 0) layers.push(own);
      if ((own[3] ?? 1) === 1) break;
    }
    const base = layers.pop() ?? colour(getComputedStyle(document.body).backgroundColor);
    return layers.reduceRight((below, [r, g, b, a]) => [r, g, b].map((part, i) => a * part + (1 - a) * below[i]), base);
  };
  const out = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest("option, script, noscript, :disabled")) continue;
    const style = getComputedStyle(element), text = colour(element instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(text), light(behind(element))].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) out.push(`${element.tagName} ${element.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return out;
}"""
"""The elements whose text has less than the contrast of 4.5 that WCAG 2 (AA) asks for."""

NAMELESS = """() => [...document.querySelectorAll("button, input, select, img, canvas, svg[role=img], table")]
  .filter((each) => each.checkVisibility() && !each.closest("[aria-hidden]"))
  .filter((each) => !["aria-label", "aria-labelledby", "alt"].some((name) => each.getAttribute(name)) &&
    !(each.labels?.length || each.textContent.trim() || each.closest("button[aria-label]") || each.caption))
  .map((each) => each.outerHTML.slice(0, 120))"""
"""What a screen reader would have no name for."""


SHIFT = """new PerformanceObserver((list) => {
  window.shift = (window.shift ?? 0) + list.getEntries().reduce((sum, each) => sum + each.value, 0);
}).observe({ type: "layout-shift", buffered: true });"""


def test_nothing_moves_while_the_page_loads(address: str, browser: "Browser") -> None:
    page = browser.new_page()
    page.add_init_script(SHIFT)
    slow = page.context.new_cdp_session(page)
    slow.send("Emulation.setCPUThrottlingRate", {"rate": 6})  # so that it is seen before its script has run
    for view in ("", "#gallery", "#curves"):
        page.goto("about:blank")
        page.goto(address + view)
        page.wait_for_selector("html[data-ready]")
        page.wait_for_timeout(300)
        assert page.evaluate("window.shift ?? 0") < 0.02
    page.close()


def test_without_javascript_there_are_tables_runs_and_cards(address: str, browser: "Browser") -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("#table-1").is_visible() and page.locator("article").is_visible()
    assert page.locator(".run").count() == 5 and not page.locator("#view-gallery").is_visible()
    context.close()
