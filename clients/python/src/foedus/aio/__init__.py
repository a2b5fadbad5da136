"""The client for asyncio: the same names as in `foedus`, with `await` and `async with`.

    async with foedus.aio.Hub.connect("localhost:18800", ca="ca.pem", cert="node-lamp.pem", key="node-lamp.key") as hub:
        print(await hub.execute("lamp", "state", "ON"))
"""

from ._hub import Events, Executor, Hub, Task, Updates, Watch

__all__ = ["Events", "Executor", "Hub", "Task", "Updates", "Watch"]
