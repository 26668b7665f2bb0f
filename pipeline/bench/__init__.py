"""How fast a model is on a machine, measured so that the number can be believed and compared with another machine's.

    settings, grid                    which cells there are
    subjects, inputs                  from a cell to the callables that are timed
    timing, statistics                the timer, what its samples say
    watch, looks                      what the machine did meanwhile, and what the host of a virtual one
    worker, results, measure, session      a process a round, the rounds of a cell, cells in turns, one record
    system, record                    the machine, the record
    packing, unpacked, run_pack       all of that for a machine without this project
    cells, compare, history, recommend, pictures, page      what records say

What `run_pack` needs is imported with numpy and the standard library alone; psutil and pynvml are used where there.
"""

from __future__ import annotations

RECORD = "record.json"
END_TO_END = "end_to_end"
PHASES = ("decode", "preprocess", "inference", "postprocess", END_TO_END)
"""Of a cell, in order; the last is all of them together."""
