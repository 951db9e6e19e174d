"""What is wrong with a database, and the command that mends it: ``python -m a2rchi_pg.doctor``."""

from a2rchi_pg.doctor._examination import examine
from a2rchi_pg.doctor._finding import Finding, Severity

__all__ = ["Finding", "Severity", "examine"]
