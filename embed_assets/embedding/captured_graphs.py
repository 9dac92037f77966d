"""Replay a forward pass as a captured CUDA graph: one launch instead of hundreds.

One graph per packed shape, captured when the shape first comes, all in one pool of memory. Where
capturing fails, the pass runs as it is, and a warning says so once.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from embed_assets.embedding.device_memory import out_of_memory_reason
from embed_assets.embedding.packing import PackedShape

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

# What libraries set up on their first calls must not happen while a graph is captured.
_WARM_UP_CALLS = 2


class CapturedGraphs:
    """A forward pass of inputs and their shape, called eagerly on a CPU and replayed on CUDA.

    The result is overwritten by the next call with the same shape, or another.
    """

    def __init__(self, forward: "Callable[[Tensor, PackedShape], Tensor]") -> None:
        self._forward = forward
        self._graphs: dict[PackedShape, _Graph] = {}
        self._pool: Any = None
        self._can_capture = True

    def __call__(self, inputs: "Tensor", shape: PackedShape) -> "Tensor":
        """The result for int32 inputs (shape.n_inputs,), not waited for."""
        if not (inputs.is_cuda and self._can_capture):
            return self._forward(inputs, shape)
        graph = self._graphs.get(shape) or self._captured(inputs, shape)
        return self._forward(inputs, shape) if graph is None else graph.replay(inputs)

    @property
    def n_graphs(self) -> int:
        """How many shapes were captured since the last `clear`."""
        return len(self._graphs)

    def clear(self) -> None:
        """Forget all graphs, which gives their memory back to the allocator."""
        self._graphs.clear()
        self._pool = None

    def _captured(self, inputs: "Tensor", shape: PackedShape) -> "_Graph | None":
        import torch

        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        try:
            graph = _Graph(self._forward, inputs, shape, self._pool)
        except RuntimeError as error:
            # Ending a capture that ran out of memory fails, too, and hides why.
            for failure in (error, error.__context__):
                if isinstance(failure, RuntimeError) and out_of_memory_reason(failure) is not None:
                    raise failure from None
            self._can_capture = False
            log.warning(
                "the model cannot run as a captured CUDA graph and runs without, slower for small "
                "models: %s",
                str(error).partition("\n")[0],
            )
            return None
        self._graphs[shape] = graph
        return graph


class _Graph:
    """One forward pass with inputs and a result at fixed addresses."""

    def __init__(
        self,
        forward: "Callable[[Tensor, PackedShape], Tensor]",
        inputs: "Tensor",
        shape: PackedShape,
        pool: Any,  # noqa: ANN401  torch's handle is opaque
    ) -> None:
        import torch

        # A real batch, not zeros: the warm-up then takes every path that the batches take.
        self._inputs = inputs.clone()
        stream = torch.cuda.current_stream()
        apart = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        apart.wait_stream(stream)
        with torch.cuda.stream(apart):
            for _ in range(_WARM_UP_CALLS):
                forward(self._inputs, shape)
        stream.wait_stream(apart)
        self._graph = torch.cuda.CUDAGraph()
        # "thread_local": another thread that uses the device does not spoil the capture.
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self._result = forward(self._inputs, shape)

    def replay(self, inputs: "Tensor") -> "Tensor":
        self._inputs.copy_(inputs)
        self._graph.replay()
        return self._result
