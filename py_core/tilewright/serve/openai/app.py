"""The application that ``tilewright serve`` runs: the OpenAI API, and the page beside it.

Natively only (Starlette).
"""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Mount

from ..chat import ChatModel
from ..http import create_app
from .routes import openai_routes
from .service import OpenAIService


def create_openai_app(
    model: ChatModel,
    *,
    name: str | None = None,
    api_key: str | None = None,
    cors: str | None = None,
    site: Path | None = None,
    models: Path | None = None,
) -> Starlette:
    """Return the application; the model stays the caller's.

    Args:
        model: answers the requests.
        name: how requests name it.
        api_key: wanted as a bearer token.
        cors: origin whose pages may call, or ``*``.
        site: folder of the page, served at ``/``.
        models: folder of model files for the page.

    """
    routes: list[BaseRoute] = list(
        openai_routes(OpenAIService(model, name=name), model, api_key=api_key)
    )
    if site is not None:
        routes.append(Mount("/", app=create_app(site, models)))
    middleware = []
    if cors is not None:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=[cors],
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
            )
        )
    return Starlette(routes=routes, middleware=middleware)
