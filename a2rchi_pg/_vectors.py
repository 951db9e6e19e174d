"""Vectors between numpy and PostgreSQL: float32, binary, checked before anything is sent."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sized
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format

from a2rchi_pg._arguments import shown
from a2rchi_pg.errors import DimensionMismatch, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray
    from psycopg import BaseConnection
    from psycopg.abc import Buffer
    from psycopg.types import TypeInfo

Vector: TypeAlias = "NDArray[np.float32]"
MAX_DIMENSIONS = 16_000

# pgvector adds up products of two vectors, and squares of their differences, in float32. With these
# norms no sum passes (2e18)² = 4e36, of 3.4e38 that there are, and what 16,000 products can lose
# below the smallest float32, 1e-41, is a hundred-thousandth of the least square, 1e-36.
LEAST_NORM, GREATEST_NORM = 1e-18, 1e18
# Of float16, its least normal number and its largest: a smaller vector would be indexed as zero.
SMALLEST_HALF, LARGEST_HALF = 2.0**-14, 65_504
_REAL = "biuf"  # numpy's kinds of real numbers


class VectorArray:
    """An ``(n, dim) float32`` matrix sent as one ``vector[]`` parameter."""

    __slots__ = ("matrix",)

    def __init__(self, matrix: Vector) -> None:
        self.matrix = matrix


def as_vector(
    value: ArrayLike,
    dimensions: int | None = None,
    *,
    what: str = "embedding",
    halves: bool = False,
) -> Vector:
    """``value`` as a ``(dim,) float32`` array that can be stored and compared; see `as_matrix`."""
    if dimensions is None and not halves and _is_plain(value):
        return value
    vector: Vector = as_matrix([value], dimensions, what=what, halves=halves)[0]
    return vector


def _is_plain(value: object) -> TypeGuard[Vector]:
    """Whether one look tells that this is a vector of ordinary length: many a query's is."""
    if not isinstance(value, np.ndarray) or value.dtype != np.float32 or value.ndim != 1:
        return False
    square = np.vdot(value, value)  # unlike @, it doesn't warn of an overflow
    short = len(value) <= MAX_DIMENSIONS and value.flags.c_contiguous
    return bool(short and LEAST_NORM**2 < square < GREATEST_NORM**2)


def as_matrix(
    values: Sequence[ArrayLike] | Vector,
    dimensions: int | None = None,
    *,
    what: str = "embeddings",
    halves: bool = False,
) -> Vector:
    """``values`` as a C-ordered ``(n, dim) float32`` matrix of vectors that can be compared.

    Args:
        values: ``n`` vectors of one length.
        dimensions: The length they must have, where it is known.
        what: What they are, for messages.
        halves: Whether an index will hold them as float16.

    Raises:
        InvalidInput: If they aren't real numbers or differ in length, or if one holds NaN or
            infinity, or is too short or long for distances to be told.
        DimensionMismatch: If ``dimensions`` is given and differs.
    """
    matrix = _float32(_numbers(values, what))
    if matrix.ndim != 2 or not 0 < matrix.shape[1] <= MAX_DIMENSIONS:  # noqa: PLR2004 - a matrix
        raise InvalidInput(
            f"{what} must be one-dimensional with 1 to {MAX_DIMENSIONS} numbers each; "
            f"got an array of shape {matrix.shape}"
        )
    if dimensions is not None and matrix.shape[1] != dimensions:
        raise DimensionMismatch(
            f"the collection holds vectors of {dimensions} dimensions, got {matrix.shape[1]}",
            expected=dimensions,
            got=matrix.shape[1],
        )
    _check_norms(matrix, what)
    if halves:
        _check_halves(matrix, what)
    return matrix


def answered(answer: Any, count: int, model: str | None, *, halves: bool = False) -> Vector:
    """The ``(count, dim) float32`` matrix that a model answered so many texts with.

    Raises:
        InvalidInput: If it is anything else; names the model.
    """
    what = f"the vectors of embedding model {model!r}"
    array = _numbers(answer, what)
    if array.ndim and len(array) != count:
        raise InvalidInput(
            f"embedding model {model!r} returned {len(array)} vectors for {count} texts: "
            "it must return one for each"
        )
    return as_matrix(array, what=what, halves=halves)


def _numbers(values: Any, what: str) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):  # rows of several lengths
        array = np.empty(0, dtype=object)
    if array.dtype.kind in _REAL:
        return array
    lengths = sorted({len(v) for v in _listed(values) if isinstance(v, Sized)})
    got = f"lengths {lengths}" if len(lengths) > 1 else shown(values)
    raise InvalidInput(f"{what} must be lists of real numbers, all of one length; got {got}")


def _listed(values: object) -> Iterable[object]:
    return values if isinstance(values, Iterable) and not isinstance(values, str) else ()


def _float32(array: NDArray[Any]) -> Vector:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def _check_norms(matrix: Vector, what: str) -> None:
    norms = np.sqrt(np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64))
    fits = (norms == 0) | (norms >= LEAST_NORM) & (norms <= GREATEST_NORM)
    if fits.all():
        return
    at = int(np.argmin(fits))
    if not np.isfinite(norms[at]):
        raise InvalidInput(f"{what}: vector {at} holds NaN or infinity")
    raise InvalidInput(
        f"{what}: vector {at} has a norm of {norms[at]:.3g}. It must be 0 or between "
        f"{LEAST_NORM:g} and {GREATEST_NORM:g}, as distances are computed in float32"
    )


def _check_halves(matrix: Vector, what: str) -> None:
    largest = np.abs(matrix).max(axis=1, initial=0)
    fits = (largest == 0) | (largest >= SMALLEST_HALF) & (largest <= LARGEST_HALF)
    if not fits.all():
        at = int(np.argmin(fits))
        raise InvalidInput(
            f"{what}: the largest number of vector {at} is {largest[at]:g}. In a collection with "
            f"element='halfvec' it must be 0 or between {SMALLEST_HALF:.2g} and {LARGEST_HALF:,}: "
            "its index holds float16"
        )


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
