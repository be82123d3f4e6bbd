"""The workers of a training and what they exchange. A training in one process has one worker and exchanges
nothing.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from survey.models.network import DrawingModule, Network


@dataclass(frozen=True)
class Ranks:
    """The rank of this worker and the number of workers.

    For more than one, whoever started the workers has set up `torch.distributed`, or the library of a
    baseline.
    """

    rank: int = 0
    size: int = 1
    connection: tuple[tuple[str, str | int], ...] = ()
    """How the workers reach each other, for libraries that need to be told."""

    @property
    def is_leader(self) -> bool:
        """Whether this worker writes what the run keeps."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all workers, in every worker."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def from_leader(self, value: float) -> float:
        """The leader's number, in every worker."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        shared = shared.cuda() if dist.get_backend() == "nccl" else shared
        dist.broadcast(shared, 0)
        return float(shared.item())

    def wait(self) -> None:
        """Wait until all workers are here."""
        if self.size > 1:
            dist.barrier()

    def distribute(self, net: Network, device: torch.device) -> nn.Module:
        """The network, with gradients averaged over the workers, and random numbers that do not depend on how
        many they are.
        """
        for layer in net.modules():
            if isinstance(layer, DrawingModule):
                layer.rank, layer.world_size = self.rank, self.size
        if self.size == 1:
            return net
        if device.type == "cuda":  # on CPUs each worker normalises by its own spectra
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
        return nn.parallel.DistributedDataParallel(
            net, device_ids=[device] if device.type == "cuda" else None
        )
