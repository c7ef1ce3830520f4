"""Write docs/vocabularies/, a page per file of phasetrack/phases/vocabularies, and the guide beside it."""

from pathlib import Path

from phasetrack.phases.vocabularies import kind, names
from phasetrack.tracking.probes.reference import metric_of

FOLDER = Path(__file__).parent / "vocabularies"
PAGE = FOLDER.with_suffix(".md")
HEAD = '''# Vocabularies

A vocabulary is one published definition of phases: the readings it needs, levels with hysteresis, labels, boundaries and
alerts. Several vocabularies label the same run, independently of each other.

- [docs/vocabularies/](vocabularies/) has a page for each vocabulary: source, readings, labels, boundaries and alerts. Most readings
  come from a probe that a run asks for, such as `attach(probes=[*default_probes(), probes.OverlapProbe(directions)])`;
  the page of the vocabulary names it, and the probe's docstring says what it costs.
- [The bench](bench.md) says how often each is right on runs whose true boundaries are known.
- `attach(phases="auto")`, the default, uses every vocabulary whose readings are recorded. The others cost
  nothing and say which probe they need: `tracker.phases["grokking"].missing`.
- `attach(phases=["lazy-rich"])` names them; `attach(phases=["auto", LazyRich(rich_drift=0.5)])` sets levels. The paper's,
  `finds-then-tunes`, stands first and is always there; its levels are `thresholds=`.
- `tracker.phases[name]` has `label`, `reason` (of UNDETERMINED), `boundaries`, `alerts` and `applies`. `tracker.phase`,
  `tracker.boundaries` and `tracker.alerts` are those of the paper's. Callbacks get the changes and alerts of all, with
  `.vocabulary`.
- The column `phase/<name>` of the history holds the label's number: 0 is UNDETERMINED, the others follow in the order of the
  vocabulary's page.
- `summary.json` has `vocabularies`, `config.json` their sources and levels. `read_run(path).phases` labels a
  recorded run again under these, `run.label_by(...)` under others.

## One of your own

Derive a frozen dataclass from `Vocabulary`. Its fields are the levels. A `Watch` is a condition with hysteresis: it begins to
hold at the inner level and ends at the outer one, which also dates the onset; `noise=` says how far beyond a level a noisy
quantity has to be. The rest is names and sentences:

```python
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

import phasetrack
from phasetrack.phases.vocabulary import Seen, Vocabulary, Watch
from phasetrack.phases.words import AlertWords


@dataclass(frozen=True)
class HalfLoss(Vocabulary):
    """Early until the loss is half of its first value, late from then on."""

    half: float = 0.5
    back: float = 0.6

    name: ClassVar = "half-loss"
    source: ClassVar = "an example"
    needs: ClassVar = {"loss/train": "loss= of attach()"}
    labels: ClassVar = {"EARLY": "The loss is above half.", "LATE": "The loss has halved."}
    boundaries: ClassVar = {"late": "the loss came under 0.6 of its first value on its way to half"}
    alerts: ClassVar = {
        "WORSE": AlertWords(
            "the loss has doubled",
            "it is {loss}",
            "a large learning rate",
            "lower the learning rate",
        )
    }

    def watches(self) -> Mapping[str, Watch]:
        return {
            "late": Watch(
                lambda seen: seen.of_start("loss/train"), self.half, self.back, rising=False
            )
        }

    def label(self, seen: Seen) -> tuple[str, str]:
        return ("LATE" if seen.holds["late"] else "EARLY"), ""

    def evidence(self, seen: Seen) -> Mapping[str, Mapping[str, float]]:
        loss = seen.latest("loss/train")
        return {"WORSE": {"loss": loss}} if loss > 2 * seen.first["loss/train"] else {}


task, loss = phasetrack.tasks.XOR(d=16), phasetrack.LogisticLoss()
net = phasetrack.TwoLayerNet(d=16, width=32)
optimizer = torch.optim.SGD(net.parameters(), lr=0.4 * 32)
with phasetrack.attach(
    net, optimizer, loss=loss, geometry=task.geometry, phases=["auto", HalfLoss()], logdir="run"
) as tracker:
    for step in range(60):
        x, y = task.sample(256, seed=0, step=step)
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()

print(tracker.phases["half-loss"].label, tracker.phases["half-loss"].boundaries)
assert tracker.phases["half-loss"].label == "LATE"
again = phasetrack.read_run("run").label_by(HalfLoss(half=0.3, back=0.4))
assert again["half-loss"].boundaries[0].onset > tracker.phases["half-loss"].boundaries[0].onset
```

A vocabulary that raises an exception is switched off with a warning, and training goes on. A definition with a memory that
watches cannot express overrides `begin()` and returns a reader of its own (`update`, `state_dict`, `load_state_dict`), as the
paper's does.
'''


def section(name: str) -> str:
    """Return the page of one vocabulary."""
    one = kind(name)
    rows = [(label, meaning) for label, meaning in one.labels.items()]
    rows += [(f"boundary `{key}`", meaning) for key, meaning in one.boundaries.items()]
    rows += [(f"alert {key}", words.title) for key, words in one.alerts.items()]
    needs = "\n".join(f"- `{metric}`: {giver}" for metric, giver in one.needs.items())
    table = "\n".join(f"| {key} | {meaning} |" for key, meaning in rows)
    read = [metric for metric in map(metric_of, sorted(one().metrics)) if metric is not None]
    readings = "\n".join(
        f"| `{metric.name}` | {metric.unit} | {metric.section} | {metric.line} |" for metric in read
    )
    return (
        f"# {name}\n\n{one.__doc__.splitlines()[0]}\n\nSource: {one.source}.\n\n"
        f"It needs\n\n{needs}\n\n"
        f"| Label, boundary or alert | Meaning |\n| --- | --- |\n{table}\n\n"
        "Readings, with their section of [the theory](../theory.md):\n\n"
        f"| Metric | Unit | Section | Meaning |\n| --- | --- | --- | --- |\n{readings}\n"
    )


def pages() -> dict[Path, str]:
    """Return every page by its file."""
    return {PAGE: HEAD, **{FOLDER / f"{name}.md": section(name) for name in names()}}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
