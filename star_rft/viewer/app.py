"""The viewer's web application: a list, a page a problem, and a link to each trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft.report.markup import environment
from star_rft.viewer.access import Guard
from star_rft.viewer.pages import hits_of, problem_page, problem_rows, trace_rows
from star_rft.viewer.reload import Shelf
from star_rft.viewer.search import FILTERS, SORTS, Query, find, label, place, read

if TYPE_CHECKING:
    from jinja2 import Environment
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

TEMPLATES = Path(__file__).parent / "templates"
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><path fill="#00684f"'
    ' d="M8 1l2 5h5l-4 3.500L12.500 15 8 11.700 3.500 15 5 9.500 1 6h5z"/></svg>'
)


@dataclass(frozen=True, slots=True)
class Viewer:
    """The pages over a run of this name.

    `groups` is the title of its groups, and `own` the indices of the policy's samples; None where not known.
    """

    shelf: Shelf
    name: str
    groups: str | None = None
    own: range | None = None
    environment: Environment = field(default_factory=lambda: environment(TEMPLATES))

    def overview(self, request: Request) -> Response:
        """Return the list of problems or traces that an address asks for."""
        query = read(request.query_params.multi_items())
        index, has_grown = self.shelf.current()
        found = find(index, query, group_title=self.groups)
        page = min(query.page, found.pages(query))
        rows = trace_rows if query.by == "trace" else problem_rows
        return self._page(
            request,
            "overview.html",
            here=query.link() if has_grown else None,
            found=found,
            rows=rows(index, query, found, page),
            page=page,
            pages=found.pages(query),
            all_traces=index.traces.count,
            all_problems=len(index.problems.ids),
        )

    def problem(self, request: Request) -> Response:
        """Return the page of a problem with its traces, a column a round."""
        query = read(request.query_params.multi_items())
        index, has_grown = self.shelf.current()
        problem_id = request.path_params["id"]
        shown = problem_page(index, problem_id, own=self.own)
        if shown is None:
            return self.missing(request, f"problem {problem_id}")
        found = find(index, query, group_title=self.groups)
        return self._page(
            request,
            "problem.html",
            here=query.below(problem_id) if has_grown else None,
            problem=shown[0],
            columns=shown[1],
            hits=hits_of(index, found, problem_id) if query.is_filtered else set(),
            place=place(index, found, problem_id),
        )

    def trace(self, request: Request) -> Response:
        """Redirect to a trace on the page of its problem."""
        from starlette.responses import RedirectResponse

        index, _ = self.shelf.current()
        sample_id = request.path_params["id"]
        row = index.row_of(sample_id)
        if row is None:
            return self.missing(request, f"trace {sample_id}")
        problem_id = index.problems.ids[int(index.traces.problem_N[row])]
        query = read(request.query_params.multi_items())
        return RedirectResponse(f"{query.below(problem_id)}#t-{sample_id}", 307)

    def missing(self, request: Request, what: str) -> Response:
        """Return the page for an id that the index does not have."""
        return self._page(request, "missing.html", 404, what=what)

    def refused(self, request: Request, error: Any) -> Response:
        """Return the page for an HTTP error."""
        from starlette.responses import PlainTextResponse

        if error.status_code == 404:
            return self.missing(request, f"{request.url.path}")
        return PlainTextResponse(f"{error.status_code}: {error.detail}\n", error.status_code)

    def broken(self, request: Request, error: Exception) -> Response:
        """Return the page for a run folder that can no longer be read."""
        return self._page(request, "broken.html", 500, error=str(error), folder=self.shelf.run_dir)

    def _page(self, request: Request, template: str, status: int = 200, **shown: Any) -> Response:
        """Render a page; `here` is the address of this view if the run has grown since it was read."""
        from starlette.responses import HTMLResponse

        query = read(request.query_params.multi_items())
        about = {"name": self.name, "query": query, "nonce": request.scope["nonce"], "sorts": SORTS, "here": None}
        about["chips"] = _chips(query, self.groups)
        return HTMLResponse(self.environment.get_template(template).render(about | shown), status)


def application(viewer: Viewer, *, hosts: frozenset[str]) -> Starlette:
    """Return the application; `hosts` are the values of the header Host that it answers to."""
    import duckdb
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.responses import Response
    from starlette.routing import Route

    def icon(_request: Request) -> Response:
        return Response(ICON, media_type="image/svg+xml")

    handlers: Mapping[Any, Any] = {HTTPException: viewer.refused, duckdb.Error: viewer.broken, OSError: viewer.broken}
    return Starlette(
        routes=[
            Route("/", viewer.overview),
            Route("/problem/{id}", viewer.problem),
            Route("/trace/{id}", viewer.trace),
            Route("/icon.svg", icon),
        ],
        middleware=[Middleware(Guard, hosts=hosts)],
        exception_handlers=handlers,
    )


def _chips(query: Query, groups: str | None) -> list[tuple[str, str, str]]:
    """Return what narrows a view, each as (title, value in words, the link without it)."""
    titles = {found.name: found.title for found in FILTERS} | {"group": groups or "Group"}
    found = [("Search", query.text, query.but(text="").link())] if query.text else []
    return found + [
        (titles[name], label(name, value), query.choosing(name, None).link()) for name, value in query.chosen
    ]
