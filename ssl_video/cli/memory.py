"""Memory that ran out, and processes that were killed, as sentences that name the options which help."""

import re
from collections.abc import Mapping

REMEDIES: Mapping[str, str] = {
    "pretrain": "a smaller --batch-size with a larger --optim.accumulate, or --precision bf16",
    "evaluate": "a smaller --batch-size, or for a fine-tuning a smaller batch_size by --option batch_size=4",
    "extract": "a smaller --batch-size",
    "index": "a smaller --batch-size",
    "speediness": "a smaller --batch-size",
    "speedup": "a smaller --batch-size",
    "explain cam": "a smaller --batch-size or --short-side",
    "explain affinity": "a smaller --short-side, or fewer frames with --to",
    "explain flow": "a smaller --short-side or --at-most",
    "track": "a smaller --side or --context",
    "generate": "fewer --frames or a smaller --size",
    "report": "fewer --samples and --queries",
    "data scan": "fewer --workers",
    "data cache": "fewer --workers or a smaller --short-side",
    "data pack": "fewer --workers",
    "data flow": "fewer --workers or a smaller --short-side",
    "data synthesize": "fewer --workers",
}
"""Command -> what needs less memory."""
ON_GPU = ("OutOfMemoryError", "CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
READING = (
    r"DataLoader worker \(pid|unable to (open|allocate|mmap|write|resize)[^.]{0,60}(shared memory|</torch_|shm)"
    r"|insufficient shared memory|received 0 items of ancdata|Communication with the workers is no longer possible"
    r"|Pin memory thread exited"
)
"""What torch says where a loader's worker was killed, or could not hand over what it had read."""
OTHERS = (
    r"gloo.transport.*(Connection (closed|reset) by peer|Broken pipe|Timed out waiting|No route to host)"
    r"|ncclRemoteError|Gloo connectFullMesh failed"
)
"""What torch says where another process of a training has ended, or its machine does not answer."""
ON_CPU = ("MemoryError", "DefaultCPUAllocator: can't allocate memory", "not enough memory: you tried to allocate")


def reading_ended(error: BaseException, command: str) -> str | None:
    """The sentence for an error of a loader whose workers were killed, or had no shared memory; else None."""
    if not isinstance(error, RuntimeError | OSError) or re.search(READING, str(error)) is None:
        return None
    again = "resume the run by --resume with its --out" if command == "pretrain" else "run the same line again"
    return (
        "A reading process was killed, or had no shared memory to hand over what it read; use fewer --workers (0 needs "
        f"no shared memory), or give a container more (docker run --shm-size 8g), and {again}."
    )


def others_ended(error: BaseException, command: str) -> str | None:
    """The sentence for an error of processes that work together, when another one has ended; else None."""
    if not isinstance(error, RuntimeError) or re.search(OTHERS, str(error), re.DOTALL) is None:
        return None
    again = "with --resume auto" if command == "pretrain" else "again"
    return f"Another process has ended, or its machine does not answer; run the same line {again} on all of them."


def out_of_memory(error: BaseException, command: str) -> str | None:
    """The sentence for an error that says that memory ran out; None for any other error.

    torch need not be imported: its errors are told by their names and texts, which also come out of a loader's worker.
    """
    if not isinstance(error, MemoryError | RuntimeError):
        return None
    said = f"{type(error).__name__}: {error}"
    gpu = any(text in said for text in ON_GPU)
    if not gpu and not any(text in said for text in ON_CPU):
        return None
    remedy = REMEDIES.get(command) or REMEDIES.get(command.partition(" ")[0])
    if remedy is None:
        remedy = "--device cpu" if gpu else "shorter or smaller videos, or a smaller network"
    return f"The memory of {'the GPU' if gpu else 'this machine'} does not suffice; use {remedy}."
