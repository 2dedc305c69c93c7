"""The report page as a reader sees it, in headless Chromium."""

import json
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,2000",
)


@pytest.fixture(scope="module")
def page(demo, tmp_path_factory):
    """A browser that has opened the report of the demo run."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium and chromedriver here; install Debian's chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.get((demo / "report/index.html").as_uri())
    yield browser
    browser.quit()


def test_no_console_errors_and_no_outside_requests(page, demo):
    assert page.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    requests = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    own = (demo / "report/index.html").as_uri()
    assert own in requests
    # The browser's own start page is no request of the report.
    others = [url for url in requests if not url.startswith((own, "data:", "chrome:"))]
    assert others == []


def test_tables_and_figures_are_shown(page):
    titles = [heading.text for heading in page.find_elements(By.TAG_NAME, "h2")]
    for title in (
        "Models",
        "Perturbation tests",
        "Localisation",
        "Audit of the data",
        "Cost of jobs",
    ):
        assert title in titles
    assert all(
        len(t.find_elements(By.TAG_NAME, "tr")) > 1
        for t in page.find_elements(By.TAG_NAME, "table")
    )
    images = page.find_elements(By.TAG_NAME, "img")
    assert len(images) == 9
    assert all(int(image.get_property("naturalWidth")) > 300 for image in images)


def test_a_click_sorts_by_value(page):
    table = page.find_elements(By.TAG_NAME, "table")[-1]
    names = [cell.text for cell in table.find_elements(By.TAG_NAME, "th")]
    column = names.index("seconds")

    def values():
        rows = table.find_elements(By.CSS_SELECTOR, "tbody tr")
        return [float(row.find_elements(By.TAG_NAME, "td")[column].text) for row in rows]

    head = table.find_elements(By.TAG_NAME, "th")[column]
    head.click()
    assert values() == sorted(values())
    head.click()
    assert values() == sorted(values(), reverse=True)
