"""The TensorBoard plugin "Phases": routes from the browser to the run store."""

from __future__ import annotations

import functools
import gzip
import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

from tensorboard.backend import http_util
from tensorboard.plugins import base_plugin
from werkzeug import Request, Response

from phasetrack.display.style import RUN_COLOURS
from phasetrack.errors import ExpectedError
from phasetrack.phases.thresholds import COUNTS, Thresholds

NAME = "phases"
# Static files that are served.
STATIC = (
    *("index.js", "app.js", "dom.js", "address.js", "loader.js", "sources.js", "scales.js"),
    *(
        "figure.js",
        "lanes.js",
        "theme.js",
        "runs.js",
        "thresholds.js",
        "neurons.js",
        "table.js",
        "keys.js",
    ),
    "style.css",
)
KINDS = {".js": "text/javascript", ".css": "text/css"}
PLOTLY = "plotly.min.js"
NO_LOGDIR = "TensorBoard runs without a log directory; start it with --logdir DIRECTORY."
PLOTLY_SECONDS = 24 * 3600  # for which a browser caches it
METHODS = ("GET", "HEAD")
LOCAL = ("localhost", "127.0.0.1", "::1")

Route = Callable[[dict[str, str]], Any]
log = logging.getLogger(__name__)


class PhasesPlugin(base_plugin.TBPlugin):  # type: ignore[misc]  # tensorboard ships no types
    """The "Phases" tab; found through the entry point group ``tensorboard_plugins``.

    Args:
        context: TensorBoard's context, which holds the log directory.
    """

    plugin_name = NAME

    def __init__(self, context: base_plugin.TBContext) -> None:
        super().__init__(context)
        self._store, self._problem = None, NO_LOGDIR
        if context.logdir:
            try:  # a tab that cannot be made must not stop TensorBoard
                from phasetrack.display.tensorboard.run_store import RunStore

                self._store = RunStore(Path(context.logdir))
            except Exception as error:
                log.exception("phases: the tab cannot read runs on this system")
                self._problem = f"phasetrack cannot read runs on this system ({error!r})."

    def get_plugin_apps(self) -> dict[str, Any]:
        """Return the application of each path under ``data/plugin/phases``."""
        data: dict[str, Route] = {
            "/runs": self._runs,
            "/about": lambda asked: self._run(asked).about(),
            "/series": self._series,
            "/labels": self._labels,
            "/neurons": lambda asked: self._run(asked).neurons(_integer(asked, "step")),
        }
        files = {f"/{name}": functools.partial(_serve_static, name) for name in STATIC}
        apps: dict[str, Any] = {path: functools.partial(_answer, r) for path, r in data.items()}
        apps |= {"/csv": self._serve_csv, f"/{PLOTLY}": _serve_plotly}
        return {path: functools.partial(_guarded, app) for path, app in (apps | files).items()}

    def is_active(self) -> bool:
        """Whether the log directory has a run, so that TensorBoard shows the tab at once."""
        return self._store is not None and self._store.any()

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """Return the page's first module and the tab's name."""
        return base_plugin.FrontendMetadata(
            es_module_path="/index.js", tab_name="Phases", disable_reload=True
        )

    def _runs(self, _: dict[str, str]) -> dict[str, Any]:
        if self._store is None:
            return {"runs": [], "problem": self._problem, "colours": RUN_COLOURS}
        return self._store.runs()

    def _run(self, asked: Mapping[str, str]) -> Any:
        if self._store is None:
            raise ExpectedError("run", self._problem)
        return self._store.open(asked.get("run", ""))

    def _series(self, asked: dict[str, str]) -> Any:
        return self._run(asked).series(
            columns=_integer(asked, "columns", 600),
            first=_number(asked, "first", -math.inf),
            last=_number(asked, "last", math.inf),
            log=asked.get("log") == "1",
            changes=_thresholds(asked),
        )

    def _labels(self, asked: dict[str, str]) -> Any:
        return self._run(asked).labels(_thresholds(asked))

    def _serve_csv(self, request: Request) -> Response:
        run = self._run(request.args)
        name = "".join(c if c.isascii() and c.isalnum() else "-" for c in run.name)[:80]
        headers = {
            "Content-Disposition": f'attachment; filename="{name}.csv"',
            "X-Content-Type-Options": "nosniff",
        }
        return Response(run.csv(), content_type="text/csv; charset=utf-8", headers=headers)


def _answer(route: Route, request: Request) -> Response:
    content = json.dumps(route(dict(request.args)), allow_nan=False)
    return _respond(request, content, "application/json")


def _serve_static(name: str, request: Request) -> Response:
    content = (resources.files(__package__) / "static" / name).read_text(encoding="utf-8")
    return _respond(request, content, KINDS[Path(name).suffix])


def _serve_plotly(request: Request) -> Response:
    packed = {"content_encoding": "gzip", "expires": PLOTLY_SECONDS}
    return _respond(request, _packed_plotly(), "text/javascript", **packed)


@functools.cache
def _packed_plotly() -> bytes:
    """Return plotly's script, compressed once per process at its first request."""
    script = resources.files("plotly") / "package_data" / PLOTLY
    return gzip.compress(script.read_bytes(), compresslevel=1, mtime=0)


def _respond(request: Request, content: str | bytes, kind: str, **more: Any) -> Response:
    response: Response = http_util.Respond(request, content, kind, **more)
    return response


def _guarded(app: Callable[[Request], Response], environ: Any, start: Any) -> Any:
    """Answer a request, with an error message where `app` fails, so that the server survives."""
    request = Request(environ)
    try:
        refusal = _refused(request)
        response = app(request) if refusal is None else refusal
    except ExpectedError as error:
        response = _respond(
            request, json.dumps({"error": str(error)}), "application/json", code=400
        )
    except Exception as error:
        log.exception("phases: %s failed", request.path)
        message = f"The server failed to answer ({type(error).__name__}: {error})."
        response = _respond(request, json.dumps({"error": message}), "application/json", code=500)
    return response(environ, start)


def _refused(request: Request) -> Response | None:
    """Return the answer to a request that the tab does not serve; None to one that it does.

    A page of somebody else's can make the browser ask this server under a name of its own that leads here
    (DNS rebinding), and would then read the answer.
    """
    if request.method not in METHODS:
        headers = {"Allow": ", ".join(METHODS)}
        return Response("The tab answers GET and HEAD.", status=405, headers=headers)
    server = str(request.environ.get("SERVER_NAME", ""))
    if not _is_local(server) or _is_local(request.host):
        return None  # a server that its user bound to a network is asked under any name
    text = (
        f"The tab answers under {', '.join(LOCAL)}, not under {request.host[:80]!r}. Start TensorBoard with "
        "--bind_all to serve it under other names."
    )
    return _respond(request, json.dumps({"error": text}), "application/json", code=403)


def _is_local(host: str) -> bool:
    """Whether a host's name, with or without a port, is one of this machine alone."""
    name = host.lower()
    if name.count(":") > 1:  # an address of version 6
        name = name[1 : name.index("]")] if name.startswith("[") and "]" in name else name
    else:
        name = name.partition(":")[0]
    return name in LOCAL or name.endswith(".localhost") or name.startswith("127.")


def _thresholds(asked: Mapping[str, str]) -> dict[str, float]:
    """Return the thresholds in a request."""
    names = {field.name for field in fields(Thresholds)}
    return {
        name: _integer(asked, name) if name in COUNTS else _number(asked, name)
        for name in sorted(names & asked.keys())
    }


def _number(asked: Mapping[str, str], name: str, default: float = math.nan) -> float:
    text = asked.get(name, "")
    if not text and not math.isnan(default):
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ExpectedError(name, f"{text[:80]!r} is not a finite number.")
    return value


def _integer(asked: Mapping[str, str], name: str, default: int | None = None) -> int:
    value = _number(asked, name, math.nan if default is None else default)
    if value != int(value) or not 0 <= value < 2**63:
        raise ExpectedError(name, f"{asked.get(name, '')[:80]!r} is not an integer >= 0.")
    return int(value)
