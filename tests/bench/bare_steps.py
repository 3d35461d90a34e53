"""A process that makes bare training steps: `python -m tests.bench.bare_steps SETTINGS` (JSON).

It says a line when one step is done, and then, for each number of steps that it reads, the median of their
seconds.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec


def main(argument: str) -> int:
    """Until the end of stdin."""
    from trainer.families.libraries import undisturbed

    with undisturbed():
        import torch

        from trainer.run.threads import threads_for
    said = msgspec.json.decode(argument)
    with threads_for(said["model"], torch.device("cuda" if torch.cuda.is_available() else "cpu")):
        step = stepping(said)
        step()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for line in sys.stdin:
            sys.stdout.write(f"{statistics.median(_timed(step) for _ in range(int(line)))}\n")
            sys.stdout.flush()
    return 0


def stepping(said: dict[str, Any]) -> Callable[[], None]:
    """One step: forward, backward, clipping, optimizer, on random numbers."""
    import torch

    from trainer.families.libraries import undisturbed

    with undisturbed():
        from contract.methods.training.network import Network
        from contract.methods.training.optimizer import AdamW
        from trainer.families import FAMILIES, ModelFiles, Sizes
        from trainer.networks import inject
        from trainer.optimizers import optimizer_of
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, said["dtype"])
    files = ModelFiles(model=said["model"])
    loaded = FAMILIES[said["family"]].load(files, dtype, parts=frozenset({"denoiser"}), device=device)
    denoiser: Any = loaded.denoiser
    network = inject(
        said["family"],
        {"unet": denoiser},
        msgspec.convert(said["network"], Network),
        seed=1,
    )
    network.train()
    denoiser.enable_gradient_checkpointing()
    parameters = network.parameters_of("unet")
    optimizer = optimizer_of(AdamW(), {"unet": parameters})
    batch, side = said["batch"], said["side"] // 8
    config = denoiser.config
    noisy = torch.randn(batch, 4, side, side).to(device, dtype)
    target = torch.randn(noisy.shape, device=device)
    timesteps = torch.full((batch,), 500, device=device)
    conditions = {"hidden": torch.randn(batch, 77, config.cross_attention_dim).to(device, dtype)}
    if config.addition_embed_type is not None:
        told = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        conditions["pooled"] = torch.randn(batch, told).to(device, dtype)
    sizes = [Sizes((said["side"],) * 2, (0, 0), (said["side"],) * 2)] * batch

    def step() -> None:
        predicted = loaded.predict(noisy, timesteps, conditions, sizes)
        (predicted.float() - target).pow(2).mean().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def _timed(step: Callable[[], None]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
