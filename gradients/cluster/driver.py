"""The process that speaks to Ray for a daemon: `python -m gradients.cluster.driver ADDRESS`, orders on stdin, answers on stdout.

A process of its own because Ray ends the process of its driver when the head goes away. It knows nothing that matters: when it dies, the
daemon starts another one and asks again; Ray kills what ran for a driver that is gone.

Orders, a JSON object a line:
    {"run": id, "parcel": {…}, "cpus": n, "gpus": n, "memory": bytes, "kind": text, "node": id or null}, {"kill": id}, {"nodes": id}
Answers, the same:
    {"ready": true}, {"id": …, "nodes": [{"id", "cpus", "gpus", "memory", "kind"}]}
    {"id": …, "waiting": reason}, {"id": …, "started": true}, {"id": …, "told": {…}}, {"id": …, "ended": {…}}, {"id": …, "lost": reason}
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Mapping
from typing import IO, Any

from gradients.domain.json import JsonObject

LINE_BYTES = 64 * 1024**2
_LOOK_SECONDS = 2.0
_ANY_OF_KIND = 0.001  # of a resource that each node of the kind has one of
_MOST_LETTERS = 500
_KIND = "accelerator_type:"


class Driver:
    """The runs that were ordered, each a task of Ray's."""

    def __init__(self, ray: Any, answers: IO[str]) -> None:  # noqa: ANN401 (Ray's module, imported late)
        self._ray = ray
        # The daemon decides what is run again; a process stays for the next job, with what it holds.
        self._task = ray.remote(max_retries=0, max_calls=0)(_on_node)
        self._answers = answers
        self._references: dict[str, Any] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}

    def answer(self, answer: Mapping[str, object]) -> None:
        """Write a line; one that has nobody to read it ends the process."""
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()

    def obey(self, order: Mapping[str, Any]) -> None:
        """Begin what the order says."""
        if "run" in order:
            self._runs[order["run"]] = asyncio.create_task(self._run(order))
        elif "kill" in order:
            self._kill(order["kill"])
        elif "nodes" in order:
            self.answer({"id": order["nodes"], "nodes": self.nodes()})

    def nodes(self) -> list[JsonObject]:
        """The nodes that live, with what they have in all."""
        return [
            {
                "id": node["NodeID"],
                "cpus": int(node["Resources"].get("CPU", 0)),
                "gpus": int(node["Resources"].get("GPU", 0)),
                "memory": int(node["Resources"].get("memory", 0)),
                "kind": next((name.removeprefix(_KIND) for name in node["Resources"] if name.startswith(_KIND)), ""),
            }
            for node in self._ray.nodes()
            if node["Alive"]
        ]

    async def _run(self, order: Mapping[str, Any]) -> None:
        name = order["run"]
        try:
            await self._wait_for_a_node(order)
            self.answer({"id": name, **await self._until_ended(name, self._submit(order))})
        except Exception as error:  # whatever it is, somebody waits for an answer
            self.answer({"id": name, "lost": f"{type(error).__name__}: {_last_line(error)}"})
        finally:
            self._references.pop(name, None)
            self._runs.pop(name, None)

    async def _until_ended(self, name: str, generator: Any) -> JsonObject:  # noqa: ANN401 (Ray's generator of references)
        """How it ended, said once its process is free for the next job, which then finds there what is held; what comes before is told."""
        self._references[name] = generator
        ended: JsonObject = {"lost": "it said nothing of its end"}
        try:
            async for reference in generator:
                answer = await reference
                if "ended" in answer:
                    ended = answer
                    self._references.pop(name, None)  # to cancel what is just ending breaks Ray
                else:
                    self.answer({"id": name, **answer})
        except Exception:
            if "ended" not in ended:
                raise
        return ended

    async def _wait_for_a_node(self, order: Mapping[str, Any]) -> None:
        """Until some node could take the job if nothing else ran there."""
        wanted = {name: order[name] for name in ("cpus", "gpus", "memory")}
        while not any(
            all(node[name] >= most for name, most in wanted.items())
            and order["node"] in (None, node["id"])
            and order["kind"] in ("", node["kind"])
            for node in self.nodes()
        ):
            self.answer({"id": order["run"], "waiting": f"no node has {_in_words(wanted)}"})
            await asyncio.sleep(_LOOK_SECONDS)

    def _submit(self, order: Mapping[str, Any]) -> Any:  # noqa: ANN401 (Ray's generator of references)
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        pinned = NodeAffinitySchedulingStrategy(order["node"], soft=False) if order["node"] else "DEFAULT"
        task = self._task.options(
            num_returns="streaming",
            num_cpus=order["cpus"],
            num_gpus=order["gpus"],
            memory=order["memory"] or None,
            resources={f"{_KIND}{order['kind']}": _ANY_OF_KIND} if order["kind"] else None,
            scheduling_strategy=pinned,
            name=order["parcel"]["function"],
        )
        return task.remote(json.dumps(order["parcel"]))

    def _kill(self, name: str) -> None:
        if (reference := self._references.get(name)) is not None:
            self._ray.cancel(reference, force=True)
        elif (run := self._runs.get(name)) is not None:
            run.cancel()


def _on_node(parcel: str) -> Any:  # noqa: ANN401 (a generator, for Ray to stream)
    """What runs at the node; by its name, so that the node's own code is what runs."""
    import ray

    from gradients.cluster.node import run_parcel

    yield from run_parcel(parcel, [str(each) for each in ray.get_gpu_ids()])


def _last_line(error: Exception) -> str:
    """Of a text that may hold a whole traceback."""
    return (str(error).strip().splitlines() or [""])[-1][:_MOST_LETTERS]


def _in_words(wanted: Mapping[str, int]) -> str:
    return f"{wanted['cpus']} cores, {wanted['gpus']} GPUs and {wanted['memory'] / 2**30:.1f} GiB"


async def _obey(driver: Driver) -> None:
    """Orders until there can be no more of them."""
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    driver.answer({"ready": True})
    while line := await reader.readline():
        driver.obey(json.loads(line))


def main() -> None:
    """Speak to the cluster at the address given until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Ray prints is not an answer
    import ray

    from gradients.cluster import driver as importable  # the module that nodes know; this one is called __main__

    ray.init(address=sys.argv[1], namespace="gradients", log_to_driver=False, logging_level=logging.WARNING)
    asyncio.run(_obey(importable.Driver(ray, answers)))
    os._exit(0)  # Ray's threads would keep the process for seconds


if __name__ == "__main__":
    main()
