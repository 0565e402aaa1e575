"""The analytic cost model: seconds of an iteration, from data sheets."""

from __future__ import annotations

from collections.abc import Callable

from orcinus.cost.architecture import BYTES, Architecture
from orcinus.cost.attention import prefill_flops, waves
from orcinus.cost.cluster import Cluster
from orcinus.cost.collectives import all_reduce_seconds, send_recv_seconds, sends_between_stages
from orcinus.cost.linear import elementwise_seconds, linear_seconds
from orcinus.cost.work import IterationWork


class TransformerCost:
    """The analytic cost model of a transformer on a cluster.

    Seconds = layers x (linears + elementwise + all-reduces + attention) + overheads.

    Everything that depends on the number of tokens alone is computed once for each number, and what depends on none of them
    once. `linears` replaces the four linear layers by a measured curve: tokens -> their seconds in one iteration.
    """

    def __init__(self, model: Architecture, cluster: Cluster, linears: Callable[[int], float] | None = None) -> None:
        cluster.parallel.check(model)
        self.model, self.cluster = model, cluster
        self.num_stages = cluster.parallel.pp
        self._linears = linears
        self._layers = cluster.parallel.layers(model)
        self._sends = sends_between_stages(cluster.parallel, cluster.network)
        tp, software, bandwidth = cluster.parallel.tp, cluster.software, cluster.device.bandwidth
        self._token_bytes = model.layer_kv_bytes(tp)
        self._read = bandwidth * software.decode_attention  # bytes of keys and values a second
        self._query_read = None if software.query_reads is None else bandwidth * software.query_reads
        self._group = model.heads // tp // max(1, model.kv_heads // tp)  # query heads that share keys and values
        self._of_tokens: dict[int, float] = {}
        self._handed: dict[int, list[float]] = {}
        self._of_samples: dict[int, float] = {}

    def stages(self, work: IterationWork) -> list[float]:
        software = self.cluster.software
        layer = self.layer_seconds(work.tokens) + self.attention_seconds(work)
        layer += software.layer + software.request_layer * work.requests
        besides = software.iteration + software.request * work.requests
        times = [count * layer + besides for count in self._layers]
        times[-1] += self._output_seconds(work.samples)
        if self._sends:
            for stage, sent in enumerate(self._sent_seconds(work.tokens), 1):
                times[stage] = times[stage] + sent + software.hand_over
        return times

    def _sent_seconds(self, tokens: int) -> list[float]:
        """Seconds from each stage to the next, in which devices send their parts of the hidden states."""
        sent = self._handed.get(tokens)
        if sent is None:
            size = tokens * self.model.hidden * BYTES // self.cluster.parallel.tp
            kinds = {kind: send_recv_seconds(self.cluster.network, size, *kind) for kind in set(self._sends)}
            sent = self._handed[tokens] = [kinds[kind] for kind in self._sends]
        return sent

    def layer_seconds(self, tokens: int) -> float:
        """Seconds of one layer without attention, on one of its devices."""
        seconds = self._of_tokens.get(tokens)
        if seconds is None:
            linears = self.linear_seconds(tokens) if self._linears is None else self._linears(tokens) / self.model.layers
            seconds = linears + self.elementwise_seconds(tokens) + self.reduce_seconds(tokens)
            self._of_tokens[tokens] = seconds
        return seconds

    def linear_seconds(self, tokens: int) -> float:
        """Seconds of the four linear layers of one layer."""
        model, tp, device = self.model, self.cluster.parallel.tp, self.cluster.device
        heads = model.heads // tp
        qkv = (heads + 2 * max(1, model.kv_heads // tp)) * model.head_dim
        shapes = (
            (model.hidden, qkv),
            (heads * model.head_dim, model.hidden),
            (model.hidden, -(-model.up_width // tp)),
            (-(-model.ffn // tp), model.hidden),
        )
        return sum(linear_seconds(device, tokens, k, n) for k, n in shapes)

    def elementwise_seconds(self, tokens: int) -> float:
        """Seconds of one layer's norms, additions, rotary embedding and activation."""
        model, tp, device = self.model, self.cluster.parallel.tp, self.cluster.device
        whole = tokens * model.hidden * BYTES
        rope = 2 * tokens * (model.heads + max(model.kv_heads, tp)) // tp * model.head_dim * BYTES
        activation = tokens * (model.up_width + model.ffn) // tp * BYTES
        twice = elementwise_seconds(device, 2 * whole, "norm") + elementwise_seconds(device, 3 * whole, "add")
        once = elementwise_seconds(device, rope, "rope") + elementwise_seconds(device, activation, "activation")
        return (2 * twice + once) * self.cluster.software.elementwise

    def reduce_seconds(self, tokens: int) -> float:
        """Seconds of one layer's all-reduces.

        There is one for each of attention and MLP, or one for both.
        """
        tp = self.cluster.parallel.tp
        if tp == 1:
            return 0.0
        times = 1 if self.model.parallel else 2
        size = tokens * self.model.hidden * BYTES
        return times * (all_reduce_seconds(self.cluster.network, size, tp) + self.cluster.software.reduce)

    def attention_seconds(self, work: IterationWork) -> float:
        """Seconds of one layer's attention: chunks one by one, decodes together.

        A kernel with one thread block for each head of a request (Orca, section 5), which handles its tokens one by one, is as
        slow as the longest chunk, however many chunks there are: `Software.prompt_token`.
        """
        keys = work.attended(self.model.window) * self._token_bytes
        seconds = keys / self._read
        if self._query_read is not None:
            seconds = max(seconds, self._group * keys / self._query_read)
        if not work.prompts:
            return seconds
        model, tp = self.model, self.cluster.parallel.tp
        device, software = self.cluster.device, self.cluster.software
        for start, tokens in work.prompts:
            computing = prefill_flops(model, tp, start, tokens) / (device.peak_flops * software.prefill_attention)
            computing *= waves(model, tp, tokens, software.attention_rows, device.sms)
            seconds += software.attention_kernel + max(computing, (start + tokens) * self._token_bytes / self._read)
        return seconds + software.prompt_token * max(tokens for _, tokens in work.prompts)

    def _output_seconds(self, samples: int) -> float:
        """Seconds of the output projection, for the rows that are sampled."""
        seconds = self._of_samples.get(samples)
        if seconds is None:
            width = -(-self.model.vocab // self.cluster.parallel.tp)
            seconds = linear_seconds(self.cluster.device, samples, self.model.hidden, width) if samples else 0.0
            self._of_samples[samples] = seconds
        return seconds
