"""A decoder's weights: what a checkpoint fills, and how many bytes they take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from torch import Tensor, nn

from orcinus.runtime.models.embedding import Embedding
from orcinus.runtime.models.layer import Layer, Norm
from orcinus.runtime.models.linear import Linear, Piece, PlainWeight
from orcinus.runtime.models.mixture import Mixture
from orcinus.runtime.models.mlp import MLP
from orcinus.runtime.models.spec import DecoderSpec


class DecoderWeights(nn.Module):
    """A rank's part of a decoder's weights.

    The first stage has an embedding, the last one norm and head.
    """

    spec: DecoderSpec
    embed: Embedding | None
    positions: Embedding | None
    layers: nn.ModuleDict
    head: Linear | None

    def mlps(self) -> Iterator[MLP | Mixture]:
        """The MLP or the mixture of every layer of the stage."""
        for layer in self.layers.values():
            assert isinstance(layer, Layer)
            yield layer.mlp

    @property
    def _shares_embedding(self) -> bool:
        """Whether the head's matrix is the embedding's own.

        On the last of several stages a tied head is a copy.
        """
        return self.spec.tied and self.embed is not None and self.head is not None

    def linears(self) -> dict[str, Linear]:
        """Linear layers by name, except a head that is the embedding."""
        named = {name: module for name, module in self.named_modules() if isinstance(module, Linear)}
        return {name: linear for name, linear in named.items() if not (self._shares_embedding and linear is self.head)}

    @property
    def num_parameters(self) -> int:
        others = sum(p.numel() for p in self.parameters())
        others += sum(table.num_parameters - table.weight.numel() for table in self._stored_tables)
        return others + sum(linear.num_parameters for linear in self.linears().values())

    @property
    def tables(self) -> list[Embedding]:
        """The tables whose rows are looked up."""
        return [each for each in (self.embed, self.positions) if each is not None]

    @property
    def _stored_tables(self) -> list[Embedding]:
        """Tables in a file's blocks; those of transformers' modules are plain."""
        return [table for table in self.tables if isinstance(table, Embedding) and table.stored is not None]

    def num_bytes(self, *, prepacked: bool) -> int:
        """Bytes of the weights; a prepacked or quantised model holds a plain embedding that is its head twice."""
        packed = self.head is not None and (prepacked or type(self.head.weight) is not PlainWeight)
        head = self.head.weight.num_bytes if self.head is not None and packed and self._shares_embedding else 0
        return self._norm_bytes + self._table_bytes + sum(linear.num_bytes for linear in self.linears().values()) + head

    def decode_bytes(self, requests: int) -> int:
        """Bytes of the weights that an iteration of so many decodes reads: all but embeddings.

        Of experts it reads those that a router without preferences chooses, on average.
        """
        linears = {*self.linears().values()} | ({self.head} if self.head is not None else set())
        unread = sum(mlp.num_bytes * mlp.unread(requests) for mlp in self.mlps() if isinstance(mlp, Mixture))
        return self._norm_bytes + sum(linear.num_bytes for linear in linears) - round(unread)

    @property
    def _norm_bytes(self) -> int:
        """Bytes of all parameters but tables."""
        return sum(parameter.nbytes for parameter in self.parameters()) - sum(table.weight.nbytes for table in self.tables)

    @property
    def _table_bytes(self) -> int:
        """Bytes of the tables; an embedding that is stored in blocks is read from the head that it is."""
        shared = self._stored_tables if self._shares_embedding else []
        return sum(table.weight.nbytes for table in self.tables if table not in shared)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors that a checkpoint fills, by name."""
        found: dict[str, Tensor] = {}
        linears = self.linears()
        for name, module in self.named_modules():
            own = linears[name].tensors() if name in linears else dict(module.named_parameters(recurse=False))
            found |= {f"{name}.{kind}": tensor.data for kind, tensor in own.items()}
        return found

    def part(self, name: str, part: int | None) -> Tensor:
        """A tensor's view of one part of a fused layer; None: all."""
        owner, _, kind = name.rpartition(".")
        module = self.get_submodule(owner)
        found: Tensor = module.part(kind, part) if isinstance(module, Linear) else getattr(module, kind).data
        return found

    def pieces(self, name: str, part: int | None = None) -> list[Piece]:
        """The regions of a parameter that this rank holds, with targets.

        The parameter is one of the whole model, or a part of it; [] if none of it is here.
        """
        owner, kind = self._owner(name), name.rpartition(".")[2]
        try:
            module = self.get_submodule(owner)
        except AttributeError:  # it is another stage's
            return []
        if isinstance(module, Linear):
            return module.pieces(kind, part)
        if isinstance(module, Norm):
            return module.pieces(kind)
        region = module.region if isinstance(module, Embedding) else ()
        return [Piece(getattr(module, kind).data, region)]

    def _owner(self, name: str) -> str:
        """The module that holds a parameter of the whole model: on the last of several stages a tied head has the embedding."""
        owner = name.rpartition(".")[0]
        return "head" if owner == "embed" and self.embed is None and self.spec.tied else owner

    def num_parts(self, name: str) -> int:
        """Parts of a fused layer in a tensor; 1 for other layers."""
        module = self.get_submodule(name.rpartition(".")[0])
        return len(module.weight.split.parts) if isinstance(module, Linear) else 1

    def process_when_filled(
        self, names: Iterable[str], complete: Callable[[str, Linear], None] = lambda name, linear: None
    ) -> Callable[[str], None]:
        """A callback for each of these tensors, as it is filled.

        After its last tensor a linear layer is `complete` and gets its final form, so that few plain weights take memory at a
        time.
        """
        linears, left = self.linears(), Counter(map(self._owner, names))

        def filled(name: str) -> None:
            owner = self._owner(name)
            left[owner] -= 1
            if not left[owner] and owner in linears:
                complete(owner, linears[owner])
                linears[owner].process_after_loading()

        return filled
