"""Vectors between numpy and PostgreSQL: float32, binary, checked before anything is sent."""

from __future__ import annotations

import struct
from collections.abc import Sized
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format

from a2rchi_pg.errors import DimensionMismatch, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray
    from psycopg import BaseConnection
    from psycopg.abc import Buffer
    from psycopg.types import TypeInfo

Vector: TypeAlias = "NDArray[np.float32]"
MAX_DIMENSIONS = 16_000


class VectorArray:
    """An ``(n, dim) float32`` matrix sent as one ``vector[]`` parameter."""

    __slots__ = ("matrix",)

    def __init__(self, matrix: Vector) -> None:
        self.matrix = matrix


def as_vector(value: ArrayLike, dimensions: int | None = None) -> Vector:
    """``value`` as a finite ``(dim,) float32`` array.

    Raises:
        InvalidInput: If it isn't one-dimensional, is empty or holds NaN or infinity.
        DimensionMismatch: If ``dimensions`` is given and differs.
    """
    vector: Vector = as_matrix([value], dimensions)[0]
    return vector


def as_matrix(values: Sequence[ArrayLike] | Vector, dimensions: int | None = None) -> Vector:
    """``values`` as a finite, C-ordered ``(n, dim) float32`` matrix.

    Args:
        values: ``n`` vectors of one length.
        dimensions: The length they must have, where it is known.

    Raises:
        InvalidInput: If lengths differ, or a value is missing, NaN or infinite in float32.
        DimensionMismatch: If ``dimensions`` is given and differs.
    """
    try:
        with np.errstate(over="ignore"):
            matrix = np.ascontiguousarray(values, dtype=np.float32)
    except (TypeError, ValueError):
        raise InvalidInput(_why_not_a_matrix(values)) from None
    if matrix.ndim != 2 or not 0 < matrix.shape[1] <= MAX_DIMENSIONS:  # noqa: PLR2004 - a matrix
        raise InvalidInput(
            f"vectors must be one-dimensional with 1 to {MAX_DIMENSIONS} numbers each; "
            f"got an array of shape {matrix.shape}"
        )
    if dimensions is not None and matrix.shape[1] != dimensions:
        raise DimensionMismatch(
            f"the collection holds vectors of {dimensions} dimensions, got {matrix.shape[1]}",
            expected=dimensions,
            got=matrix.shape[1],
        )
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        raise InvalidInput(f"vector {int(np.argmin(finite))} holds NaN or infinity")
    return matrix


def _why_not_a_matrix(values: Sequence[ArrayLike] | Vector) -> str:
    lengths = sorted({len(v) for v in values if isinstance(v, Sized)})
    if len(lengths) > 1:
        return f"vectors must have one length; got lengths {lengths}"
    return "vectors must be sequences of numbers"


class _VectorBinaryDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Vector) -> Buffer:
        return struct.pack(">HH", obj.shape[0], 0) + obj.astype(">f4").tobytes()


class _VectorArrayBinaryDumper(Dumper):
    format = Format.BINARY
    element_oid = 0

    def dump(self, obj: VectorArray) -> Buffer:
        """The whole array in one numpy assignment: header, then per row length, dim and floats."""
        count, dim = obj.matrix.shape
        rows = np.empty(
            count, dtype=[("length", ">i4"), ("dim", ">u2"), ("unused", ">u2"), ("v", ">f4", dim)]
        )
        rows["length"], rows["dim"], rows["unused"] = 4 + 4 * dim, dim, 0
        rows["v"] = obj.matrix
        return struct.pack(">iiIii", 1, 0, self.element_oid, count, 1) + rows.tobytes()


class _VectorBinaryLoader(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> Vector:
        return np.frombuffer(data, dtype=">f4", offset=4).astype(np.float32)


class _VectorTextLoader(Loader):
    def load(self, data: Buffer) -> Vector:
        return np.fromstring(bytes(data)[1:-1].decode(), dtype=np.float32, sep=",")


def register(connection: BaseConnection[Any], info: TypeInfo) -> None:
    """Teach ``connection`` to send numpy arrays as ``vector`` and ``vector[]``, and to read them.

    pgvector's own registration asks the server for four types on every new connection and reads
    vectors into a class of its own; this asks for one, and reads into numpy.
    """
    adapters = connection.adapters
    info.register(connection)
    adapters.register_dumper(
        np.ndarray, type("VectorBinaryDumper", (_VectorBinaryDumper,), {"oid": info.oid})
    )
    adapters.register_dumper(
        VectorArray,
        type(
            "VectorArrayBinaryDumper",
            (_VectorArrayBinaryDumper,),
            {"oid": info.array_oid, "element_oid": info.oid},
        ),
    )
    adapters.register_loader(info.oid, _VectorBinaryLoader)
    adapters.register_loader(info.oid, _VectorTextLoader)
