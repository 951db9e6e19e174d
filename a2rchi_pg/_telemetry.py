"""A span per operation when OpenTelemetry's API is installed; nothing at all when it isn't."""

from __future__ import annotations

from contextlib import nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_NO_SPAN: AbstractContextManager[Any] = nullcontext()

if find_spec("opentelemetry") is not None:
    from opentelemetry import trace

    _tracer = trace.get_tracer("a2rchi_pg")

    def span(operation: str) -> AbstractContextManager[Any]:
        """A client span named after the operation; parameters never become attributes."""
        # A span that nobody records costs as much as reading ten documents' metadata.
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            return _NO_SPAN
        started: AbstractContextManager[Any] = _tracer.start_as_current_span(
            f"a2rchi_pg {operation}",
            kind=trace.SpanKind.CLIENT,
            attributes={"db.system.name": "postgresql", "db.operation.name": operation},
            # It would record the chain of causes, and with it the values in psycopg's DETAIL.
            record_exception=False,
        )
        return started

else:

    def span(operation: str) -> AbstractContextManager[Any]:  # noqa: ARG001 - same signature
        """No tracer is installed."""
        return _NO_SPAN
