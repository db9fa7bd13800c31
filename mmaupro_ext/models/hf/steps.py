"""Steps over slots: one token of each reply, replayed as CUDA graphs where that is the same.

A step of a 7B model launches a thousand small kernels, which takes longer than running them. Captured once as
a graph, all of them are launched by one call. The buffers of slots stand still and shapes repeat
(`slots.BUCKET`), so that few graphs serve all steps. A graph is not believed: the step after its capture is
run both ways, and where the logits differ, or a model cannot be captured at all, steps run as they are.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mmaupro_ext.models.hf import batching
from mmaupro_ext.models.hf.batching import Inputs
from mmaupro_ext.models.hf.passes import Passes
from mmaupro_ext.models.hf.row import Row, kinds_of
from mmaupro_ext.models.hf.slots import Slots

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Graph:
    """One captured step.

    Parameters
    ----------
    graph : torch.cuda.CUDAGraph
        Reads `inputs` and writes `logits`.
    inputs : dict
        Tensors that stand still.
    logits : torch.Tensor
        Of the last replay; the next replay of any graph may write over it.
    trusted : bool
        Whether a replay gave what the model gives.
    """

    graph: torch.cuda.CUDAGraph
    inputs: Inputs
    logits: torch.Tensor
    trusted: bool = False

    def replay(self, inputs: Inputs) -> torch.Tensor:
        """Run the step on other inputs."""
        for name, value in inputs.items():
            self.inputs[name].copy_(value)
        self.graph.replay()
        return self.logits


class Steps:
    """Steps over slots, by graphs from the fourth of a shape on.

    Parameters
    ----------
    passes : Passes
        Of the model; says whether graphs are wanted.
    slots : Slots
        Stand where they are, for as long as this is used.
    """

    def __init__(self, passes: Passes, slots: Slots) -> None:
        self._passes, self._slots = passes, slots
        # A state that a step changes cannot be stepped twice, to look whether a graph does the same.
        self._captures = passes.captures and slots.can_move
        self._graphs: dict[Hashable, _Graph | None] = {}
        self._pool: Any = None

    def __call__(self, rows: Sequence[Row[Any] | None]) -> torch.Tensor:
        """Read the last token of each row.

        Parameters
        ----------
        rows : sequence of Row or None
            Of the first slots, None where one is free.

        Returns
        -------
        torch.Tensor
            The logits of the rows that are there, shape `(rows, vocabulary)`.
        """
        passes = self._passes
        mask = self._slots.begin_step([row.keys_held if row else 0 for row in rows])
        tokens = torch.tensor([[row.tokens[-1] if row else 0] for row in rows])
        positions = torch.tensor([[row.keys_held + row.delta if row else 0] for row in rows])
        positions = passes.on_axes(positions)
        inputs = {"input_ids": tokens, "attention_mask": mask, "position_ids": positions}
        there = [slot for slot, row in enumerate(rows) if row is not None]
        kinds = kinds_of([row for row in rows if row is not None])
        optimized = passes.model._optimize_model_for_decode()
        with passes.over(kinds), optimized, passes.part("decode"):
            logits = self._logits(passes.to_device(inputs), (kinds, mask.shape))
        passes.counts.steps += 1
        passes.counts.rows_in_steps += len(there)
        passes.counts.slots_in_steps += len(rows)
        passes.counts.shapes.add((len(rows), mask.shape[1]))
        return logits if len(there) == len(rows) else logits[there]

    def _logits(self, inputs: Inputs, key: Hashable) -> torch.Tensor:
        """Run one step; what else decides which kernels run is in its key."""
        if not self._captures:
            return self._run(inputs)
        if key not in self._graphs:  # kernels are chosen and loaded outside of graphs
            self._graphs[key] = None
            return self._run(inputs)
        captured = self._graphs[key]
        if captured is not None and captured.trusted:
            self._passes.counts.replayed_steps += 1
            return captured.replay(inputs)
        logits = self._run(inputs)
        try:
            if captured is None:
                self._graphs[key] = self._capture(inputs)
            else:  # the step writes the same keys once more
                captured.trusted = batching.close(captured.replay(inputs), logits)
                if not captured.trusted:
                    raise RuntimeError("a replayed step gives other logits")
        except Exception as error:  # whatever does not like to be captured runs as it is
            reason = str(error).strip().partition("\n")[0]
            logger.info("steps are not replayed as CUDA graphs: %s", reason)
            self._captures = False
            self._graphs.clear()
        return logits

    def _run(self, inputs: Inputs) -> torch.Tensor:
        output = self._passes.model(**inputs, past_key_values=self._slots.cache, use_cache=True)
        return output.logits[:, -1]

    def _capture(self, inputs: Inputs) -> _Graph:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        still = {name: value.clone() for name, value in inputs.items()}
        graph, device = torch.cuda.CUDAGraph(), self._passes.device
        # Other threads prepare items meanwhile, and may do as they like.
        with (
            torch.cuda.device(device),
            torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=torch.cuda.Stream(device),
                capture_error_mode="thread_local",
            ),
        ):
            logits = self._run(still)
        # A graph that writes nothing is not to look right by what stood here.
        return _Graph(graph, still, logits.fill_(math.nan))
