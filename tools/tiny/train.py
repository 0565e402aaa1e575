"""Trains the bundled model: `python -m tools.tiny.train --out DIR` in a clone.

Run it in the root of the clone. Everything is seeded, the texts come from the corpus package, and the run is made for two
ordinary CPU cores. The hidden matrices are trained with Muon, which learns more from few tokens than AdamW does, the rest with
AdamW. On a machine that does other work at the same time, `OMP_WAIT_POLICY=passive` in the environment saves much time. An
interrupted run continues from the last checkpoint in DIR when it is started again.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from tools.tiny import card
from tools.tiny.batches import MAX_LENGTH, Batch, batches
from tools.tiny.corpus import chat, smalltalk, stories
from tools.tiny.vocabulary import END_OF_TEXT, IM_END, VOCAB_SIZE, build_tokenizer, save_tokenizer


@dataclass
class Options:
    """The settings of a run; they go into the model card."""

    out: Path
    steps: int = 2200
    final_steps: int = 900
    final_rate: float = 0.6
    minutes: float = 60.0
    seed: int = 7
    threads: int = 2
    batch_tokens: int = 3072
    rate: float = 3e-3
    muon_rate: float = 0.02
    warmup: int = 60
    muon: bool = True


class Muon(torch.optim.Optimizer):
    """Momentum with updates made orthogonal by a Newton-Schulz iteration.

    It runs in single precision, for plain CPUs.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix.

        The scale makes the step size alike for all shapes.
        """
        for group in self.param_groups:
            for param in group["params"]:
                grad = param.grad
                if grad is None:
                    continue
                state = self.state[param]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(grad)
                state["momentum"].lerp_(grad, 1 - group["momentum"])
                update = orthogonal(grad.lerp(state["momentum"], group["momentum"]))
                scale = max(1.0, param.shape[0] / param.shape[1]) ** 0.5
                param.mul_(1 - group["lr"] * group["weight_decay"])
                param.add_(update, alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor) -> Tensor:
    """Bring all singular values of a matrix near one.

    Quintic Newton-Schulz, five rounds.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if tall else x


@dataclass
class State:
    """The state of a run.

    The second phase, with the final mixture, begins from the rounded weights of the first.
    """

    phase: int = 1
    step: int = 0
    tokens: int = 0
    minutes: float = 0.0
    began: float = 0.0
    loss: float = 0.0
    log: list[dict[str, float]] = field(default_factory=list)

    def count(self, tokens: int, loss: float, minutes: float) -> None:
        """Add one step; the loss is smoothed over some thirty steps."""
        self.loss = loss if self.step == 0 else 0.97 * self.loss + 0.03 * loss
        self.step, self.tokens, self.minutes = self.step + 1, self.tokens + tokens, minutes

    def note(self) -> dict[str, float]:
        """Add a line to the log and return it."""
        self.log.append({"step": self.step, "tokens": self.tokens, "loss": round(self.loss, 4)})
        return self.log[-1] | {"minutes": round(self.minutes, 2)}


def keep(folder: Path, model: nn.Module, opts: list[torch.optim.Optimizer], state: State) -> None:
    """Write the state to continue from after an interruption."""
    parts = {"model": model.state_dict(), "opts": [opt.state_dict() for opt in opts], "state": asdict(state)}
    torch.save(parts, folder / "resume.part")
    (folder / "resume.part").rename(folder / "resume.pt")


def restore(folder: Path, model: nn.Module) -> tuple[State, list[dict[str, Any]]]:
    """Continue an interrupted run, or start afresh.

    Returns the state of the optimizers as well.
    """
    if not (folder / "resume.pt").exists():
        return State(), []
    parts = torch.load(folder / "resume.pt")
    model.load_state_dict(parts["model"])
    return State(**parts["state"]), parts["opts"]


def build_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """A Qwen3 model of just under four million weights.

    In bfloat16 it has under eight megabytes.
    """
    config = Qwen3Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=MAX_LENGTH,
        rope_theta=10_000.0,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.convert_tokens_to_ids(IM_END),
        pad_token_id=tokenizer.convert_tokens_to_ids(END_OF_TEXT),
        bos_token_id=None,
        use_cache=True,
    )
    return Qwen3ForCausalLM(config)


def losses(model: Qwen3ForCausalLM, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cross entropy and weight of each token that counts.

    The output layer runs for those only, which saves time.
    """
    inputs, targets, weights = batch
    hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state
    wanted = weights > 0
    logits = model.lm_head(hidden[wanted])
    return nn.functional.cross_entropy(logits, targets[wanted], reduction="none"), weights[wanted]


@torch.no_grad()
def perplexity(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int, count: int = 12) -> float:
    """Perplexity of answers on held-out documents.

    They have another seed, and phrasings and nouns that training never uses.
    """
    model.eval()
    source = batches(random.Random(seed), tokenizer, 4096, "held-out")
    found = [losses(model, next(source)) for _ in range(count)]
    model.train()
    answers = torch.cat([each[weights >= 1] for each, weights in found])
    return math.exp(answers.mean().item())


def optimizers(model: Qwen3ForCausalLM, options: Options) -> list[torch.optim.Optimizer]:
    """Muon for matrices inside the layers, AdamW for embedding and norms."""
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    chosen = {id(p) for p in inner}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    if not options.muon:
        return [torch.optim.AdamW(inner + rest, lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01)]
    return [
        Muon(inner, lr=options.muon_rate),
        torch.optim.AdamW(rest, lr=options.rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def rate_factor(step: int, progress: float, warmup: int) -> float:
    """Linear warm-up, then a cosine down to zero."""
    return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a complete checkpoint, rounded to bfloat16."""
    rounded = Qwen3ForCausalLM(model.config).to(torch.bfloat16)
    rounded.load_state_dict(model.state_dict())
    rounded.config.dtype = "bfloat16"
    rounded.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    save_tokenizer(tokenizer, folder)
    config = json.loads((folder / "config.json").read_text()) | {"rope_theta": 10_000.0}  # for older readers
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    ends = [tokenizer.convert_tokens_to_ids(token) for token in (IM_END, END_OF_TEXT)]
    generation = {"eos_token_id": ends, "pad_token_id": ends[1], "do_sample": True, "temperature": 0.7}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def train(options: Options) -> None:
    """The whole run, from tokenizer to model card.

    Tokenizer, two phases of training with checkpoints and a log, evaluation, model card.
    """
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer(options.seed)
    model = build_model(tokenizer)
    state, saved = restore(options.out, model)
    while state.phase <= 2:
        opts = optimizers(model, options)
        for opt, values in zip(opts, saved, strict=False):
            opt.load_state_dict(values)
        run_phase(model, tokenizer, opts, options, state)
        round_weights(model)
        state.phase, saved = state.phase + 1, []
        keep(options.out, model, [], state)
    finish(model, tokenizer, options, state)


def run_phase(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    opts: list[torch.optim.Optimizer],
    options: Options,
    state: State,
) -> None:
    """Train with one mixture, from warm-up to a rate of zero."""
    first = state.phase == 1
    begin, end = (0, options.steps) if first else (options.steps, options.steps + options.final_steps)
    limit = options.minutes * (end - begin) / (options.steps + options.final_steps)
    state.began = state.minutes if state.step == begin else state.began
    scale = 1.0 if first else options.final_rate
    bases = [options.muon_rate, options.rate] if options.muon else [options.rate]
    rng = random.Random(options.seed + 1000 * state.step)
    source = batches(rng, tokenizer, options.batch_tokens, "usual" if first else "final")
    started, saved = time.monotonic() - 60 * state.minutes, state.minutes
    progress = 0.0
    while progress < 1.0:
        batch = next(source)
        factor = scale * rate_factor(state.step - begin, progress, options.warmup)
        for opt, base in zip(opts, bases, strict=True):
            opt.param_groups[0]["lr"] = base * factor
        each, weights = losses(model, batch)
        ((each * weights).sum() / weights.sum()).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad()
        loss = each.detach()[weights >= 1].mean().item()
        state.count(batch[0].numel(), loss, (time.monotonic() - started) / 60)
        progress = max((state.step - begin) / (end - begin), (state.minutes - state.began) / limit)
        if state.step % 20 == 0 or progress >= 1.0:
            print(json.dumps(state.note()), flush=True)
        if state.minutes - saved > 3.0:
            saved = state.minutes
            save(model, tokenizer, options.out)
            keep(options.out, model, opts, state)


@torch.no_grad()
def round_weights(model: nn.Module) -> None:
    """Round to what bfloat16 can hold, as in the file."""
    for param in model.parameters():
        param.copy_(param.bfloat16().float())


def finish(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, options: Options, state: State) -> None:
    """Save the rounded model and measure it.

    It is measured as it will be used. Writes the log and the model card.
    """
    save(model, tokenizer, options.out)
    rounded = Qwen3ForCausalLM.from_pretrained(options.out, dtype=torch.float32)
    found = perplexity(rounded, tokenizer, options.seed + 1)
    (options.out / "resume.pt").unlink(missing_ok=True)
    (options.out / "training_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in state.log))
    settings = {key: value for key, value in asdict(options).items() if key != "out"}
    sizes = {
        "topics": len(chat.TOPICS),
        "exchanges": len(smalltalk.EXCHANGES),
        "plots": len(stories.PLOTS),
        "heroes": len(stories.HEROES) + len(stories.ODD_HEROES),
    }
    result = card.Result(settings, state.log, state.minutes, found, model.num_parameters(), sizes)
    card.write(options.out, result)
    print(f"held-out perplexity {found:.3f}", flush=True)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train the model bundled with Orcinus.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--steps", type=int, default=Options.steps)
    parser.add_argument("--final-steps", type=int, default=Options.final_steps, help="steps of the second phase")
    parser.add_argument("--final-rate", type=float, default=Options.final_rate, help="its share of the learning rates")
    parser.add_argument("--minutes", type=float, default=Options.minutes, help="end early, with a full decay, at this time")
    parser.add_argument("--seed", type=int, default=Options.seed)
    parser.add_argument("--threads", type=int, default=Options.threads)
    parser.add_argument("--batch-tokens", type=int, default=Options.batch_tokens)
    parser.add_argument("--rate", type=float, default=Options.rate, help="learning rate of AdamW")
    parser.add_argument("--muon-rate", type=float, default=Options.muon_rate, help="learning rate of Muon")
    parser.add_argument("--no-muon", dest="muon", action="store_false", help="train everything with AdamW")
    train(Options(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
