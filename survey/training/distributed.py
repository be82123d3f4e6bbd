"""The workers of a training and what they say to each other; a crew of one needs nobody."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from survey.models.network import Dropout, Network


@dataclass(frozen=True)
class Crew:
    """This worker's place among all; for more than one, `torch.distributed` has been set up by whoever started them."""

    rank: int = 0
    size: int = 1
    network: tuple[tuple[str, str | int], ...] = ()
    """How workers find each other where a library wants to be told."""

    @property
    def leads(self) -> bool:
        """Whether this worker writes what the run keeps."""
        return self.rank == 0

    def summed(self, values: Tensor) -> Tensor:
        """The sum over all workers, in every worker."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def agreed(self, value: float) -> float:
        """The leader's number, in every worker."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        shared = shared.cuda() if dist.get_backend() == "nccl" else shared
        dist.broadcast(shared, 0)
        return float(shared.item())

    def wait(self) -> None:
        """Until all workers are here."""
        if self.size > 1:
            dist.barrier()

    def shared(self, net: Network, device: torch.device) -> nn.Module:
        """The network with gradients averaged over the workers and dropout that does not depend on their number."""
        for part in net.modules():
            if isinstance(part, Dropout):
                part.share = (self.rank, self.size)
        if self.size == 1:
            return net
        if device.type == "cuda":
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]  # there is none for a CPU, where each worker normalises by its own share
        return nn.parallel.DistributedDataParallel(
            net, device_ids=[device] if device.type == "cuda" else None
        )
