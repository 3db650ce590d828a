"""The dev server: from its start to its first answer, and the memory it holds."""

import statistics

from benchmarks import routes, servers
from benchmarks.client import check, load
from benchmarks.report import Figure, median_of, say

STARTS = 5
GROUP = "dev server"


async def measure() -> list[Figure]:
    """Start it again and again, on an empty data folder, with a model and without; the floor beside it."""
    say("start")
    started: dict[str, list[float]] = {"floor": [], "Parley": [], "Parley, scripted model": []}
    idle: dict[str, list[float]] = {name: [] for name in started}
    used: list[float] = []
    with servers.model() as model:
        first = _first_start(model)
        for _ in range(STARTS):
            with servers.floor(model.url) as server:
                started["floor"].append(server.started_ms)
                idle["floor"].append(server.rss_mb())
            with servers.data_folder() as folder, servers.parley("", folder) as server:
                started["Parley, scripted model"].append(server.started_ms)
                idle["Parley, scripted model"].append(server.rss_mb())
            with servers.data_folder() as folder, servers.parley(model.url, folder) as server:
                started["Parley"].append(server.started_ms)
                idle["Parley"].append(server.rss_mb())
                used.append(await _after_turns(server))
    figures = [Figure(GROUP, "very first start, Parley", first, "ms", note="Python compiles every module")]
    figures += [median_of(GROUP, f"start to first answer, {name}", ms, "ms") for name, ms in started.items()]
    figures += [median_of(GROUP, f"RSS idle, {name}", mb, "MB") for name, mb in idle.items()]
    figures.append(Figure(GROUP, "RSS after 300 turns, Parley", statistics.median(used), "MB"))
    return figures


def _first_start(model: servers.Server) -> float:
    """Start all three, which leaves their bytecode behind; tell how long Parley took that had none at all."""
    with servers.data_folder() as folder:
        with servers.parley(model.url, folder / "data", PYTHONPYCACHEPREFIX=str(folder / "bytecode")) as server:
            first = server.started_ms
        with servers.parley(model.url, folder / "data"), servers.floor(model.url):
            return first


async def _after_turns(server: servers.Server) -> float:
    route = routes.parley(server.url)
    for answer in await load(route, [routes.PLAIN] * 300, 16):
        check(route, answer, routes.PLAIN_TEXT)
    return server.rss_mb()
