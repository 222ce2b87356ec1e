"""Compile the repeated part of a tower, once there is enough work to pay for it.

Without a compiler, everything between the matrix products (norms, rotation, activation) reads and writes its values in
the GPU's memory several times; compiled, once. Compiling takes as long as some hundred large batches, so it starts when
as much has been computed: then a job never takes more than about twice the time of the better choice.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

_LOG = logging.getLogger(__package__)
BEFORE_COMPILING = 10_000_000  # tokens in large batches; 20-30 s of v2 on a GPU of 2023

Function = Callable[..., Any]
Compiler = str | Callable[..., Any]  # a backend of `torch.compile`
Result = TypeVar("Result")


class LongJobs:
    """Functions of a layer, eager at first and compiled for large batches later.

    Threads may share it: torch compiles under a lock of its own.
    """

    def __init__(
        self,
        functions: tuple[Function, ...],
        *,
        large_batch: int,
        backend: Compiler,
        before_compiling: int = BEFORE_COMPILING,
    ) -> None:
        """Compile nothing yet.

        Args:
            functions: of a module and tensors; the tensors that are as long as the first one may change this length.
            large_batch: tokens of the smallest batch that counts. Smaller ones are always eager: they take little time,
                and would be compiled again for their shapes.
            backend: of `torch.compile`.
            before_compiling: how many tokens are computed before.
        """
        self._eager = functions
        self._compiled: tuple[Function, ...] | None = None
        self._large_batch, self._backend, self._left = large_batch, backend, before_compiling
        self._failed = False

    def run(self, tokens: int, compute: Callable[[tuple[Function, ...]], Result]) -> Result:
        """Compute one batch with the functions, eager or compiled.

        A compiler that fails is told once, as a warning; this batch and all later ones are eager.
        """
        if tokens < self._large_batch or self._failed:
            return compute(self._eager)
        if self._left > 0:
            self._left -= tokens
            return compute(self._eager)
        from torch._dynamo.exc import TorchDynamoException  # loads the compiler, which takes seconds

        compiled = self._compiled or tuple(_compiled(function, self._backend) for function in self._eager)
        self._compiled = compiled
        try:
            return compute(compiled)
        except TorchDynamoException as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split("\n")[:2])
        if not self._failed:
            self._failed = True
            _LOG.warning(
                "torch.compile with backend %r failed, batches are computed without: %s", self._backend, reason
            )
        return compute(self._eager)


def _compiled(function: Function, backend: Compiler) -> Function:
    """`function`, compiled when it is first called, once for all layers and all lengths."""
    compiled = torch.compile(function, backend=backend)

    def call(module: object, x: Tensor, *others: object) -> object:
        for given in (x, *others):
            if isinstance(given, Tensor) and len(given) == len(x):
                torch._dynamo.maybe_mark_dynamic(given, 0)
        return compiled(module, x, *others)

    return call
