"""TensorBoard's own dashboards on a run: scalars, timeline, hyperparameters, figure."""

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
        ("scalars", ["loss", "heaviness", "phase_boundary"], 2),
        ("text", ["timeline", "signal_heavy, onset"], 0),
        ("hparams", ["eta", "onset of signal-heaviness", "alerts"], 0),
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
