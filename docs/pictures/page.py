"""Draws `page.png`, the README's first picture: the page of a server under load, in headless Chromium.

orcinus serve --simulate llama-7b --device a100-80g --pp 2 --max-batch-size 12 --num-blocks 600 &
.venv-clients/browser/bin/python docs/pictures/page.py http://127.0.0.1:8000

`.venv-clients/browser` is made by `make conformance`, or by pip from tests/clients/requirements-browser.txt.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
PICTURE = Path(__file__).with_name("page.png")

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 1440, "height": 1010}, color_scheme="dark", device_scale_factor=1.25)
    page.goto(sys.argv[1])
    page.get_by_text("live", exact=True).wait_for()
    page.get_by_role("spinbutton", name="Requests").fill("160")
    page.get_by_role("button", name="Send requests").click()
    page.wait_for_timeout(5000)
    page.screenshot(path=PICTURE)
    browser.close()
