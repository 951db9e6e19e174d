"""Bring a database's schema up to date; ``python -m a2rchi_pg.migrate`` from a shell."""

from a2rchi_pg._schema import Applied, Migration, migrate, migrations, status

__all__ = ["Applied", "Migration", "migrate", "migrations", "status"]
