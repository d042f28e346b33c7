"""Speed and memory, each as a ratio against a named peer in the same run. `python -m benchmarks` runs everything.

A case is a module `bench_<name>.py` with

    SAYS          one sentence: what is measured, against what
    REFERENCE     the side that ratios are against
    FULL, TINY    settings; TINY only shows that it runs
    REPETITIONS   how often each side is timed, in turn
    MEMORY        whether peak memory is measured too
    sides(**setting)   {name: function that does the work once}; every preparation is made before it returns
    agree(results)     optional: raises where the sides' results differ
"""
