"""The proof by simulation: production code on virtual time, over simulated ports where any fault can strike.

    loop.py        an event loop whose time passes only while nobody has anything to do
    faults.py      which faults there are, and where each can strike
    process.py     what can crash and freeze; an I/O point
    table.py blobs.py queue.py model.py tools.py    the ports, in every way that they can fail
    world.py       processes around one table: servers, workers, a sweeper
    client.py      people and programs that use them over HTTP, and do not give up; connection.py is what they use
    watcher.py     who watches; stream.py reads what a connection says
    scenarios.py   what happens in the world
    promises.py    what must hold whatever happened; witness.py at every write, told.py of what was told
    explore.py     runs scenarios with single faults, pairs and by chance; shrinks what fails; prove.py does so for long
    mutants.py     deliberate bugs, which are in bugs.py: each must be found

`python -m tests.simulation --help`.
"""
