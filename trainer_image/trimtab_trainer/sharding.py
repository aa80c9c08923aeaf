"""Full fine-tuning on several processes: each holds a share of every weight, of its gradient and of its moments.

torch's FSDP2 (`fully_shard`; Zhao et al., 2023, arXiv:2304.11277) gathers the weights of a layer just before it computes, and
sums its gradients into shares just after. What the loop moves are the shares, as plain tensors: whatever works number by
number (AdamW, averages, springs, copies of weights) is the same code as on one process. What needs whole weights (measuring,
generating, publishing) runs on a second set of the same modules, which has them for that time only.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from trimtab_trainer import logs
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.distributed import gather_rows, losing_a_peer, rows_of_rank
from trimtab_trainer.methods.layers import is_in_layer, is_stack
from trimtab_trainer.model_facts import ModelFacts
from trimtab_trainer.optimizer import parse_extra_arguments

METHODS = ("full", "partial")
"""They hold gradients and moments of a large part of the model; what adapters and heads train is small."""
OBJECTIVES = ("supervised", "continuedPretraining", "reward", "orpo")
"""One forward and one backward pass for each micro batch, whatever is in it: all processes go through the layers together."""
TASKS = ("causalLanguageModeling", "sequenceClassification", "tokenClassification", "questionAnswering")


def shard_count(config: RunConfig, facts: ModelFacts, *, device_type: str, world_size: int) -> int:
    """Over how many processes the weights are spread; 1: every process holds all of them."""
    wanted = parse_extra_arguments(config.training).shard_weights
    if wanted is None:
        wanted = device_type == "cuda"
    has_single_numbers = not all(facts.shapes.values())  # fully_shard takes no tensor without dimensions
    return world_size if wanted and not why_whole(config) and not has_single_numbers else 1


def why_whole(config: RunConfig) -> str:
    """What keeps such a job's weights whole on every process; empty where they can be spread."""
    for field, chosen, known in (
        ("method", config.method.kind, METHODS),
        ("objective", config.objective.kind, OBJECTIVES),
        ("task", config.task.kind, TASKS),
    ):
        if chosen not in known:
            return f"`{field}.{chosen}` keeps all weights on every process; only {', '.join(known)} spread them"
    return ""


@dataclass(frozen=True)
class Share:
    """This process' rows of a tensor that has a row on some process each."""

    rows: Tensor
    shape: torch.Size
    """Of the whole tensor."""

    @property
    def dtype(self) -> torch.dtype:
        """As all of its rows."""
        return self.rows.dtype

    @property
    def device(self) -> torch.device:
        """Where the rows lie."""
        return self.rows.device

    @property
    def is_cuda(self) -> bool:
        """They lie on a GPU."""
        return self.rows.is_cuda

    def collect(self) -> Tensor | None:
        """The whole tensor on the main process, None on the others; all call it, in the same order."""
        return gather_rows(self.rows, self.shape)


class Shards:
    """A model whose weights are spread over all processes."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        """Spread a module that every process has whole; it keeps its names, and its parameters become shares."""
        # Imported here: it takes two seconds, and most runs do not need it.
        from torch.distributed.fsdp import fully_shard  # noqa: PLC0415

        _complete_cpu_streams()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        self.device = device
        self.whole = hollow(module)
        mesh = init_device_mesh(device.type, (dist.get_world_size(),))
        layers = [fully_shard(layer, mesh=mesh) for layer in layers_of(module)]
        self._root: Any = fully_shard(_Compute(module), mesh=mesh)
        self._parts: list[Any] = [self._root, *layers]
        self._prefetches = True
        self._divisor = _mean_divisor(fully_shard, mesh, device)
        with torch.no_grad():
            self._root(lambda: torch.zeros((), device=device))  # FSDP2 lays its shares out at the first pass
        self._root.reshard()
        self._parameters: Mapping[str, Any] = dict(module.named_parameters())
        self.shares: Mapping[str, nn.Parameter] = {
            name: nn.Parameter(parameter.to_local().detach())
            for name, parameter in self._parameters.items()
            if parameter.requires_grad
        }
        """The rows of each trained weight that this process moves: the memory that FSDP2 gathers from."""
        logs.fact(
            "weights_sharded",
            processes=dist.get_world_size(),
            parameters=sum(parameter.numel() for parameter in self._parameters.values()),
            own_parameters=sum(parameter.to_local().numel() for parameter in self._parameters.values()),
        )

    def compute(self, loss: Callable[[], Tensor]) -> Tensor:
        """A forward pass; all processes make one, and each makes its backward pass before the next."""
        self._follow_freezing()
        with _saving_without_versions(self.device):
            found: Tensor = self._root(loss)
        return found

    def _follow_freezing(self) -> None:
        """What moves is a matter of the shares; a backward pass that ends early gathers no layer ahead of its turn."""
        for name, share in self.shares.items():
            if self._parameters[name].requires_grad != share.requires_grad:
                self._parameters[name].requires_grad_(share.requires_grad)
        reaches_all = all(parameter.requires_grad for parameter in self._parameters.values())
        if self._prefetches != reaches_all:
            self._prefetches = reaches_all
            for part in self._parts:  # an empty list means: the layer below; a part that is there already costs nothing
                part.set_modules_to_backward_prefetch([] if reaches_all else [part])

    @torch.no_grad()
    def take_gradients(self) -> None:
        """The sums over all processes, as gradients of the shares; zero where a weight was not used."""
        for name, share in self.shares.items():
            found, self._parameters[name].grad = self._parameters[name].grad, None
            if not share.requires_grad:
                share.grad = None
            elif found is None:
                share.grad = torch.zeros_like(share)
            else:
                share.grad = found.to_local().mul_(self._divisor)

    def shape(self, name: str) -> torch.Size:
        """Of a trained weight as a whole."""
        shape: torch.Size = self._parameters[name].shape
        return shape

    def own(self, name: str, whole: Tensor) -> Tensor:
        """This process' rows of a tensor in the shape of a trained weight; of any other tensor all of it."""
        return rows_of_rank(whole).clone() if name in self.shares else whole

    @torch.no_grad()
    def fill(self) -> nn.Module:
        """The second set of modules, with whole weights. All processes call it."""
        with losing_a_peer("gathering weights"):
            for target, parameter in zip(self.whole.parameters(), self._parameters.values(), strict=True):
                target.data = parameter.full_tensor()
        return self.whole

    def empty(self) -> None:
        """Free what `fill` took."""
        for parameter in self.whole.parameters():
            parameter.data = torch.empty(0, dtype=parameter.dtype, device=parameter.device)


class _Compute(nn.Module):
    """The root that FSDP2 hooks into: tasks call parts of a model (trunk, head) as well as the whole."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, compute: Callable[[], Tensor]) -> Tensor:
        """What is computed inside may use every weight."""
        return compute()


def layers_of(module: nn.Module) -> Iterator[nn.Module]:
    """What is gathered at once: each layer of each stack."""
    for name, part in module.named_modules():
        if isinstance(part, nn.ModuleList) and is_stack(name):
            yield from part


def gathered_parameters(facts: ModelFacts) -> int:
    """Weights that are whole at one time while training: all outside of the layers, one layer, and the next one on its way."""
    outside = sum(math.prod(shape) for name, shape in facts.shapes.items() if not is_in_layer(name))
    return outside + 2 * (facts.parameters - outside) // max(1, facts.layers)


def hollow(module: nn.Module) -> nn.Module:
    """The same modules around parameters without memory. Buffers, settings and the owners of hooks are shared."""
    shared: list[Any] = list(module.buffers())
    for part in module.modules():
        shared.append(getattr(part, "config", None))
        hooks = [*part._forward_hooks.values(), *part._forward_pre_hooks.values()]  # noqa: SLF001 - no other way to ask
        shared += [hook.__self__ for hook in hooks if not isinstance(getattr(hook, "__self__", module), nn.Module)]
    known: dict[int, Any] = {id(one): one for one in shared if one is not None}
    for parameter in module.parameters():
        nothing = torch.empty(0, dtype=parameter.dtype, device=parameter.device)
        known[id(parameter)] = nn.Parameter(nothing, requires_grad=parameter.requires_grad)
    return copy.deepcopy(module, known)


def _mean_divisor(fully_shard: Any, mesh: Any, device: torch.device) -> float:
    """By what FSDP2 divides sums of gradients: the world size; 1 with the gloo of torch 2.6, which adds where it is asked for a mean."""
    probe = fully_shard(nn.Linear(1, dist.get_world_size(), bias=False, device=device), mesh=mesh)
    with _saving_without_versions(device):
        total = probe(torch.ones(1, 1, device=device)).sum()
    total.backward()
    return dist.get_world_size() / float(probe.weight.grad.to_local())


def _complete_cpu_streams() -> None:
    """Torch 2.6's stand-in for streams on CPUs lacks two methods that FSDP2 calls and that later versions have; they do nothing."""
    stream: Any = torch.cpu.Stream
    if not hasattr(stream, "record_event"):
        stream.record_event = lambda _self, event=None: event or torch.cpu.Event()
        stream.wait_event = lambda _self, _event: None


def _saving_without_versions(device: torch.device) -> Any:
    """With torch 2.6 on CPUs, weights that FSDP2 gathers anew for the backward pass count as changed; what hooks save is not checked."""
    if device.type == "cuda":
        return nullcontext()
    return torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor.detach(), lambda tensor: tensor)
