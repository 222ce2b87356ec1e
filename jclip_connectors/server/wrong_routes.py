"""What is said to a request whose path or method is wrong: the routes that there are, and the nearest of them."""

import difflib
import re
from collections.abc import Sequence

from starlette.routing import Match, Route
from starlette.types import Scope

from jclip_connectors.server.requests import RequestError

_LISTED = 24  # routes in a message
_NEAR = 0.7  # of `difflib`'s ratio, from 0 to 1


class WrongRoutes:
    """Writes the errors for paths and methods that the routes do not have; it never repeats the client's path."""

    def __init__(self, routes: Sequence[Route]) -> None:
        """Know the routes."""
        self._routes = routes
        self._posts = sorted({route.path for route in routes if _takes(route, "POST")})
        self._gets = sorted({route.path for route in routes if _takes(route, "GET")})

    def not_found(self, path: str) -> RequestError:
        """The error for a path that is no route: 404, with the nearest route and a list of all."""
        near = self._nearest(re.sub(r"/+", "/", path).lower())
        advice = "" if near is None else f" Did you mean {near}?"
        posts = ", ".join(self._posts[:_LISTED])
        gets = ", ".join(route for route in self._gets if "{" not in route and ".well-known" not in route)
        return RequestError(
            f"there is no such route.{advice} POST: {posts}. GET: {gets}", status=404, code="RESOURCE_NOT_FOUND"
        )

    def not_allowed(self, scope: Scope) -> RequestError:
        """The error for a method that the route does not take: 405, with the methods that it takes."""
        found = (route for route in self._routes if route.matches(scope)[0] is not Match.NONE)
        methods = sorted({method for route in found for method in route.methods or ()})
        return RequestError(
            f"this route takes {' and '.join(methods)} only",
            status=405,
            code="REQUEST_INVALID",
            more_headers={"Allow": ", ".join(methods)},
        )

    def _nearest(self, path: str) -> str | None:
        """The route that a client most likely meant: with a part too few or too many, or nearly of the same letters."""
        routes = [(method, route) for method, all_ in (("POST", self._posts), ("GET", self._gets)) for route in all_]
        routes = [(method, route) for method, route in routes if route != "/"]
        longest_first = sorted(routes, key=lambda each: -len(each[1]))
        for method, route in longest_first:
            if path.endswith(route) or (len(path) > 1 and route.endswith(path)):
                return f"{method} {route}"
        names = difflib.get_close_matches(path[:200], [route for _, route in routes], n=1, cutoff=_NEAR)
        return next((f"{method} {route}" for method, route in routes if [route] == names), None)


def _takes(route: Route, method: str) -> bool:
    return route.methods is not None and method in route.methods
