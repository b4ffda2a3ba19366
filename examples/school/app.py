"""The app: `uvicorn --factory examples.school.app:create_app`."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI

from examples.school import access, admin, lessons, students
from tenantry import Config, Router
from tenantry.integrations.fastapi import TenantMiddleware, error_handlers, health, lifespan

CONFIG = Path(__file__).parent / "tenantry.yaml"


def create_app(config: Config | str | Path = CONFIG, *, router: Router | None = None) -> FastAPI:
    """The whole product.

    Args:
        router: one that is open already, as tests have it; None: one is opened with the app.
    """
    app = FastAPI(
        title="School",
        lifespan=None if router is not None else lifespan(config),
        exception_handlers=dict(error_handlers()),
    )
    app.add_middleware(
        TenantMiddleware,
        resolve=access.centre(),
        router=router,
        public=("/readyz", "/admin", "/docs", "/openapi.json"),
    )
    app.add_route("/readyz", health(router))
    app.include_router(students.routes)
    app.include_router(lessons.routes)
    app.include_router(lessons.devices)
    app.include_router(admin.routes)
    return app
