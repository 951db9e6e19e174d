"""Ready-made HTTP endpoints over the repositories, for a FastAPI application to mount.

>>> app = FastAPI()
>>> app.include_router(create_router(database, current_user=logged_in_user))

Who asks is what the host's ``current_user`` says, and nothing else: no header, no field of a body.
"""

try:
    import fastapi as _fastapi  # noqa: F401 - asked for first, so that its absence is said clearly
except ModuleNotFoundError as error:
    raise ImportError(
        "a2rchi_pg.api needs FastAPI: pip install 'a2rchi_pg[api]'", name="fastapi"
    ) from error

from a2rchi_pg.api._router import create_router

__all__ = ["create_router"]
