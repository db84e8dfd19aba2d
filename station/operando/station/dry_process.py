"""A dry run in a process of its own, so that it costs a station no more than a core.

It holds no lock and opens no address: the twin is in its memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import sys
import traceback
from pathlib import Path

from operando.instruments.bench import Bench
from operando.instruments.errors import OperandoError
from operando.instruments.recipe import parse_recipe
from operando.station.client.client import RefusedError
from operando.station.dry_run import predict
from operando.station.orders import order_from

NICE = 10
"""As `os.nice`: runs and their readers come first."""

START = 30.0
"""Wall s beyond its budget after which a process counts as lost."""

PROGRAM = "from operando.station.dry_process import main; main()"


class DryRunLostError(OperandoError):
    """The process of a dry run came to no answer."""


async def predict_apart(
    bench: Bench, channel: str, recipe: str, recipe_name: str, at_most: float
) -> bytes:
    """JSON of a `Prediction`. recipe: its text. at_most: wall s after which it is cut.

    Raises RefusedError and DryRunLostError. When it is cancelled its process is ended.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    question = pickle.dumps((bench, channel, recipe, recipe_name, at_most))
    try:
        async with asyncio.timeout(at_most + START):
            answer, _ = await process.communicate(question)
    except TimeoutError:
        raise DryRunLostError(
            f"the dry run did not end within {at_most + START:g} s, and was ended"
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise DryRunLostError("the process of the dry run died; see the station's log")
    kind, _, content = answer.partition(b"\n")
    if kind == b"refused":
        raise RefusedError(content.decode())
    return content


def main() -> None:
    """Answer one question of standard input on standard output."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a protocol prints must not get into the answer
    if hasattr(os, "nice"):
        os.nice(NICE)
    bench, channel, recipe, name, at_most = pickle.load(sys.stdin.buffer)
    try:
        order = order_from(parse_recipe(recipe, Path(name)), bench.scripts)
        prediction = predict(bench, channel, order, at_most=at_most)
        answer = b"predicted\n" + json.dumps(prediction.model_dump(mode="json")).encode()
    except OperandoError as error:
        answer = b"refused\n" + str(error).encode()
    except Exception as error:  # a bug of the protocol, which may be somebody else's
        traceback.print_exc()
        answer = f"refused\nthe dry run failed: {type(error).__name__}: {error}".encode()
    with contextlib.suppress(BrokenPipeError):
        answers.write(answer)
        answers.flush()
