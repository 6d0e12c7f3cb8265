"""A real browser: Debian's Chromium, which has imported the pod's authority."""

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from podserve.commands import ROOT, run
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account

PICTURES = ROOT / "artefacts" / "pages"
WINDOWS = {"light": (1100, 800), "dark": (1100, 800), "phone": (390, 800)}


class Browser:
    """A browser that opens the pod's pages and reports their errors."""

    def __init__(self, driver: Chrome, domain: str, files: str) -> None:
        """Take a new driver, the site's name, and the name at which browsers see files and repositories."""
        self.driver, self.domain, self.files = driver, domain, files

    def open(self, path: str, account: Account | None = None) -> None:
        """Open a page of the pod, with the login of an account if one is given."""
        login = f"{quote(account.address)}:{quote(account.password)}@" if account else ""
        host = self.files if path.startswith(("/webdav", "/git", "/account")) else self.domain
        self.driver.get(f"https://{login}{host}{path}")

    def complaints(self) -> list[str]:
        """Return the errors of the console and the failed requests since the last call."""
        console = [entry["message"] for entry in self._log("browser") if entry["level"] == "SEVERE"]
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        answers = [event["params"]["response"] for event in events if event["method"] == "Network.responseReceived"]
        failed = [f"{answer['status']} {answer['url']}" for answer in answers if answer["status"] >= 400]
        lost = [str(event["params"]) for event in events if event["method"] == "Network.loadingFailed"]
        return console + failed + lost

    def _log(self, kind: str) -> list[dict[str, str]]:
        entries: list[dict[str, str]] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]
        return entries

    def text(self) -> str:
        """Return the text of the page."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def overflows(self) -> bool:
        """Return whether the page is wider than the window."""
        width: int = self.driver.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
        return width > 0

    def picture(self, name: str) -> None:
        """Save a screenshot as artefacts/pages/NAME.png."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(PICTURES / f"{name}.png"))

    def whole_picture(self, name: str) -> None:
        """Save a screenshot of the whole page, also of what the window does not show."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        (PICTURES / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))

    def become(self, window: str) -> None:
        """Get the size and the colour scheme of one of WINDOWS. Chromium's own window has at least 500 pixels."""
        width, height = WINDOWS[window]
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if window == "dark" else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


@contextmanager
def browser_of(test_pod: PodUnderTest, tmp_path: Path) -> Iterator[Browser]:
    """Yield a new browser with its own profile, in which the pod's authority is imported, as a user would do."""
    store = tmp_path / ".pki" / "nssdb"
    store.mkdir(parents=True)
    run(["certutil", "-N", "-d", f"sql:{store}", "--empty-password"])
    run(["certutil", "-A", "-d", f"sql:{store}", "-n", "pod", "-t", "C,,", "-i", str(test_pod.server.authority)])
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    # Chromium's sandbox does not work for root. Other options keep Chromium from connecting to Google's hosts.
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--host-resolver-rules=MAP *.sethlakowske.com {test_pod.server.host}",
    ):
        options.add_argument(word)
    # The default start page is Google's: its failed requests could be reported during any test.
    options.add_experimental_option("prefs", {"session.restore_on_startup": 4, "session.startup_urls": ["about:blank"]})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(
        options=options, service=Service("/usr/bin/chromedriver", env={**os.environ, "HOME": str(tmp_path)})
    )
    try:
        driver.set_page_load_timeout(30)
        yield Browser(driver, test_pod.server.domain, test_pod.settings.files_host)
    finally:
        driver.quit()
