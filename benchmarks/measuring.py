"""What the benchmarks share: seconds, and peak memory of a process of its own."""

import json
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

# Benchmarks import this first, so that mmlens is found as it is beside them.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))


def timed(function, *arguments, now=time.perf_counter):
    """Seconds by the clock `now`, and what the function returns."""
    start = now()
    result = function(*arguments)
    return now() - start, result


def record(benchmark, case, pairs, **facts):
    """A record of a benchmark, printed too; pairs : (seconds of the library, of the baseline)."""
    ratios = [baseline / ours for ours, baseline in pairs]
    found = {
        "benchmark": benchmark,
        "case": case,
        "mmlens_seconds": statistics.median(ours for ours, _ in pairs),
        "baseline_seconds": statistics.median(baseline for _, baseline in pairs),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        **facts,
    }
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}))
    return found


def high_water_mb():
    """Greatest memory of this process so far; ru_maxrss would count that of its parent too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measured(prepare, arguments):
    """What `in_own_process` returns, in this process."""
    work = prepare(*arguments)
    start = high_water_mb()
    result = work()
    return start, high_water_mb(), result


def in_own_process(prepare, *arguments):
    """(MB before, MB after at most, result) of work() in a process, work = prepare(*arguments)."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measured, prepare, arguments).result()
