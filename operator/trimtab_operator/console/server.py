"""`/console` on the metrics port: read-only, no scripts, nothing from elsewhere."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from aiohttp import web

from trimtab_operator.cluster.store import Store
from trimtab_operator.console.history import History
from trimtab_operator.console.pages import Pages

_LOOK_SECONDS = 3.0
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Console:
    """The pages, and what has to be noted for them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._history = History()
        self._pages = Pages(store, self._history)

    async def watch(self) -> None:
        """Note losses and weights, for ever."""
        while True:
            self._history.look(self._store, now=datetime.now(UTC))
            await asyncio.sleep(_LOOK_SECONDS)

    def add_to(self, application: web.Application) -> None:
        """Serve below `/console`."""
        pages = self._pages
        router = application.router
        router.add_get("/console", _page(lambda _, now: pages.overview(now=now)))
        router.add_get("/console/style.css", self._style)
        router.add_get("/console/jobs/{namespace}/{name}", _page(lambda where, now: pages.job(**where, now=now)))
        router.add_get(
            "/console/versions/{namespace}/{name}", _page(lambda where, now: pages.version(**where, now=now))
        )
        router.add_get(
            "/console/rollouts/{namespace}/{name}", _page(lambda where, now: pages.rollout(**where, now=now))
        )

    async def _style(self, _: web.Request) -> web.Response:
        return web.Response(text=self._pages.style(), content_type="text/css", headers=HEADERS)


def _page(render: Callable[[dict[str, str], datetime], str | None]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        text = render(dict(request.match_info), datetime.now(UTC))
        if text is None:
            return web.Response(status=404, text="There is no such object.", headers=HEADERS)
        return web.Response(text=text, content_type="text/html", headers=HEADERS)

    return answer
