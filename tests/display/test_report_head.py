"""The head of the report: lanes of labels under each other, over the same steps."""

import re

from phasetrack.display.report_head import Told, head


def stretches(*parts):
    return [{"phase": name, "start": start, "end": end} for name, start, end in parts]


def test_lanes_are_aligned_whatever_their_records():
    told = {"applies": True, "phase": "RICH", "alerts": [], "meaning": ""}
    sparse = stretches(("LAZY", 40, 60), ("RICH", 80, 90))
    summary = {
        "phase": "FITTED",
        "timeline": stretches(("UNDETERMINED", 0, 49), ("FITTED", 50, 99)),
        "vocabularies": {"lazy-rich": told | {"timeline": sparse}},
    }
    lanes = re.findall(r'<span class="bar">(.*?)</div>', head([Told("run", {}, summary, 0, "")]))
    flexes = [[int(number) for number in re.findall(r"flex:(\d+)", lane)] for lane in lanes]
    # the second begins at step 40, its first label lasts until the record at 80, and its last record is 90
    assert flexes == [[50, 50], [40, 40, 11, 9]]
