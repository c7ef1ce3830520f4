"""TensorBoard's own dashboards on a run: scalars, custom scalars, timeline, hyperparameters, figure."""

import pytest
from selenium.webdriver.support.ui import WebDriverWait

# All text in TensorBoard's page, through its shadow roots, and the number of drawn curves.
DEEP = """
const texts = [];
let curves = 0;
const walk = (node) => {
  if (node.shadowRoot) walk(node.shadowRoot);
  if (node.nodeType === Node.TEXT_NODE) texts.push(node.textContent);
  if (node.matches && node.matches('path.line') && (node.getAttribute('d') || '').length > 50) curves += 1;
  node.childNodes.forEach(walk);
};
walk(document.body);
return [texts.join(' ').toLowerCase(), curves];
"""


@pytest.mark.parametrize(
    "tab, texts, curves",
    [
        ("scalars", ["loss", "heaviness", "boundary"], 2),
        # 7 charts of the layout, each with a curve of two runs
        ("custom_scalars", ["signal-heaviness", "clean margin of each cluster"], 14),
        ("text", ["timeline", "signal_heavy, onset"], 0),
        ("hparams", ["eta", "onset of signal-heaviness"], 0),
    ],
)
def test_dashboards_show_the_run(page, server, tab, texts, curves):
    page.open(f"{server}/#{tab}")

    def missing():
        shown, drawn = page.run(DEEP)
        lacking = [text for text in texts if text not in shown]
        return lacking or ([f"{drawn} of {curves} curves"] if drawn < curves else [])

    WebDriverWait(page.driver, 60).until(lambda _: not missing(), missing)
    page.picture(f"tensorboard-{tab}")
