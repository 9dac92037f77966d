"""What runs in a worker process: one encoder, made there, that answers calls until it is let go.

The process starts bare, not as a fork: a CUDA context does not survive one, and a model would be
shared. It ends when its parent does, however that ends.
"""

import os
import socket
import threading
import traceback
from collections.abc import Callable, Sequence

from embed_assets.embedding.encoder import DeviceOutOfMemory, Encoder
from embed_assets.embedding.length_buckets import Batch
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.engines.channel import Channel
from embed_assets.errors import InputError

#: Makes the encoder, in the worker. Must be picklable: a function of a module, or a partial of one.
EncoderFactory = Callable[[], Encoder]


def serve(descriptor: int) -> None:
    """Make the encoder that the parent sends, then answer its calls until it hangs up."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    channel = Channel(socket.socket(fileno=descriptor))
    try:
        factory: EncoderFactory = channel.receive()
        encoder = factory()
        channel.send(
            (
                "ready",
                {
                    "dimension": encoder.dimension,
                    "precision": encoder.precision,
                    "max_tokens_per_batch": encoder.max_tokens_per_batch,
                },
            )
        )
        while True:
            method, arguments = channel.receive()
            _answer(channel, encoder, method, arguments)
    except EOFError:
        return
    except Exception as error:  # What the encoder raises when it is made.
        _report(channel, error)


def _end_with_parent() -> None:
    # The parent holds the other end of standard input and never writes to it. Not by sys.stdin,
    # whose lock would be held when the interpreter ends.
    os.read(0, 1)
    os._exit(0)


def _answer(channel: Channel, encoder: Encoder, method: str, arguments: tuple[object, ...]) -> None:
    try:
        if method == "encode":
            _encode(channel, encoder, *arguments)  # type: ignore[arg-type]
        else:
            channel.send(("result", getattr(encoder, method)(*arguments)))
    except EOFError:
        raise
    except Exception as error:
        _report(channel, error)


def _encode(
    channel: Channel, encoder: Encoder, tokens: TokenRows, batches: Sequence[Batch]
) -> None:
    number = {id(batch): i for i, batch in enumerate(batches)}
    try:
        for batch, vectors in encoder.encode(tokens, batches):
            channel.send(("batch", (number[id(batch)], vectors)))
    except DeviceOutOfMemory as error:
        channel.send(("out of memory", (str(error), number[id(error.batch)])))
    else:
        channel.send(("result", None))


def _report(channel: Channel, error: Exception) -> None:
    if isinstance(error, InputError):
        channel.send(("input error", str(error)))
    else:
        channel.send(("error", traceback.format_exc()))
