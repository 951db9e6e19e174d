"""A host application on a2rchi_pg's router, with a page: ``make assistant``."""
