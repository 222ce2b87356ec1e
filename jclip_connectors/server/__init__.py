"""The model over HTTP, in the schemas of the hosted API and of other services whose clients exist."""

from jclip_connectors.errors import MissingDependencyError

try:
    from jclip_connectors.server.app import create_app
    from jclip_connectors.server.image_fetch import FetchLimits, ImageFetcher, ImageFetchError
    from jclip_connectors.server.limits import ServerLimits
    from jclip_connectors.server.serve import load_served_model, serve
    from jclip_connectors.server.service import LoadedModel
except ModuleNotFoundError as error:
    raise MissingDependencyError(str(error.name), extra="server") from error

__all__ = [
    "FetchLimits",
    "ImageFetchError",
    "ImageFetcher",
    "LoadedModel",
    "ServerLimits",
    "create_app",
    "load_served_model",
    "serve",
]
