"""A report opened from the disk, in a browser without a network."""

import pytest

from phasetrack import read_run
from phasetrack.display.html_report import write_report

FIGURE = "document.getElementById('figure')"


@pytest.fixture
def report(page, made, tmp_path):
    file = tmp_path / "report.html"
    write_report([made / "first", made / "second"], file)
    page.driver.set_network_conditions(offline=True, latency=0, throughput=0)
    page.open(file.as_uri())
    page.until(f"{FIGURE}.data && {FIGURE}.layout")
    yield page
    page.driver.delete_network_conditions()


def test_all_runs_are_drawn_with_their_boundaries(report, made):
    onsets = report.run(
        f"return {FIGURE}.layout.shapes.filter(s => s.name === 'onset:fitted').map(s => s.x0)"
    )
    expected = [
        read_run(made / name).summary["boundaries"][-1]["onset"] for name in ("first", "second")
    ]
    assert sorted(onsets) == sorted(expected)
    report.picture("report")


def test_neurons_and_zoom_work_and_there_are_no_dead_thresholds(report):
    report.until("document.getElementById('neuron-figure').data")
    report.run(
        "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: '+', bubbles: true}))"
    )
    report.until(f"{FIGURE}.layout.xaxis.range[0] > 1")
    assert report.run("return document.getElementById('thresholds')") is None


def test_head_is_read_before_the_charts(report, made):
    text = report.run("return document.getElementById('head').innerText")
    assert "first" in text and "second" in text and "theta" in text
    assert report.run(
        "return document.getElementById('head').getBoundingClientRect().bottom"
        f" <= {FIGURE}.getBoundingClientRect().top"
    )
