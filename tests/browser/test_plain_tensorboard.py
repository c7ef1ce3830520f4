"""TensorBoard's own pages on a run: scalars, the layout of custom scalars, the timeline, hyperparameters."""

import pytest
from selenium.webdriver.support.ui import WebDriverWait

DEEP = """
const found = [];
const walk = (node) => {
  if (node.shadowRoot) walk(node.shadowRoot);
  if (node.nodeType === Node.TEXT_NODE) found.push(node.textContent);
  node.childNodes.forEach(walk);
};
walk(document.body);
return found.join(' ');
"""


@pytest.mark.parametrize(
    "tab, texts",
    [
        ("scalars", ["loss", "heaviness", "boundary"]),
        ("custom_scalars", ["heaviness", "margins"]),
        ("text", ["timeline", "signal_heavy, onset"]),
        ("hparams", ["eta", "onset of signal-heaviness"]),
        ("images", ["run"]),
    ],
)
def test_pages(page, server, tab, texts):
    page.open(f"{server}/#{tab}")

    def missing():
        shown = page.run(DEEP).lower()
        return [text for text in texts if text.lower() not in shown]

    WebDriverWait(page.driver, 60).until(lambda _: not missing(), missing)
    page.picture(f"tensorboard-{tab}")
