"""What every part shares: turns of A, B, A, B, medians with quartiles, ratios turn by turn, and the report of a part."""
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from unet_course.support.text import markdown_table
from unet_course.support.device import choose_amp
from unet_course.support.files import write_json

ROOT = Path(__file__).resolve().parent.parent


def wait_for(
    device: torch.device,  # what computes
):
    "None, when the device has done all it was asked to."
    if device.type == 'cuda': torch.cuda.synchronize(device)


def peak_memory() -> int:
    "The largest resident size of this process so far, in MiB."
    import resource  # there is none on Windows
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == 'darwin' else 2**10)


def on_the_wall() -> bool: return os.environ.get('BENCHMARK_CLOCK', 'wall') == 'wall'


def now() -> float:
    """Seconds on the clock of `--clock`: 'wall', or 'work', the processor time of this process and those it has started.

    On a shared machine the wall clock also measures the neighbours; processor time hardly does. It says nothing about waiting and about several threads."""
    if on_the_wall(): return time.perf_counter()
    ticks = [Path(f'/proc/{child.pid}/stat').read_text().rsplit(')', 1)[1].split()[11:13] for child in multiprocessing.active_children()]
    return time.process_time() + sum(int(user) + int(system) for user, system in ticks) / os.sysconf('SC_CLK_TCK')


def take_turns(
    ways: dict,            # name: function without arguments, what is timed
    device: torch.device,  # what computes
    rounds: int = 9,       # turns of every way at most
    seconds: float = 60,   # start no round after this long, but make at least three
) -> dict:  # name: list of seconds, one a round
    "The time of every way in every round: A, B, C, A, B, C, ..., after one turn each that is not counted."
    times, end = {name: [] for name in ways}, None
    for number in range(rounds + 1):
        if number > 3 and time.perf_counter() > end: break
        for name, way in ways.items():
            wait_for(device)
            start = now()
            way()
            wait_for(device)
            if number: times[name].append(now() - start)
        end = end or time.perf_counter() + seconds
    return times


def quartiles(
    values,  # numbers
    digits: int = 5,  # significant ones that are kept
) -> dict:  # median, low, high
    "The median and the quartiles below and above it."
    low, median, high = np.percentile(np.asarray(values, dtype=np.float64), [25, 50, 75])
    return {k: float(f'{v:.{digits}g}') for k, v in dict(median=median, low=low, high=high).items()}


def row(
    name: str,           # what was timed
    seconds: list,       # a time a round
    images: int | None = None,  # images in that time
    **more,              # further columns, such as gflop_per_image
) -> dict:
    "One row of a comparison: the times as they were, and what follows from them."
    times = [float(f'{s:.6g}') for s in seconds]
    speed = {} if images is None else dict(images=images, images_per_second=quartiles([images / s for s in times]))
    return dict(name=name, times=times, seconds=quartiles(times), **speed, **more)


def ratio(
    ours: dict,    # row of `row`
    other: dict,   # row of `row`, from the same rounds
    target: float | None = None,  # the ratio that was promised
    what: str = 'times as fast',  # what the ratio says
) -> dict:
    "How many times faster ours is than the other, an image, round by round."
    scale = ours.get('images', 1) / other.get('images', 1)
    values = [b / a * scale for a, b in zip(ours['times'], other['times'], strict=True)]
    return dict(ours=ours['name'], other=other['name'], what=what, ratio=quartiles(values, 4), rounds=len(values), target=target)


def installed(*names: str) -> dict:
    "Name and version of those packages that are there."
    found = {}
    for name in names:
        try: found[name] = version(name)
        except PackageNotFoundError: pass
    return found


def processor() -> str:
    "The processor in words: its model as the system gives it, and the cores this process may use."
    lines = Path('/proc/cpuinfo').read_text().splitlines() if Path('/proc/cpuinfo').is_file() else []
    model = next((line.split(':')[1].strip() for line in lines if line.startswith('model name')), platform.machine())
    native = choose_amp('auto', torch.device('cpu')) is not None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return f'{model}, {cores} cores, {"native bf16" if native else "no native bf16"}'


LAUNCHER = """
import json, os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[2:], stdout=sys.stderr)
_, status, usage = os.wait4(process.pid, 0)
with open(sys.argv[1], 'w') as file: json.dump(dict(wall=time.perf_counter() - start, work=usage.ru_utime + usage.ru_stime, peak=usage.ru_maxrss, code=os.waitstatus_to_exitcode(status)), file)
"""  # a small process that starts the command: a child of ours would be charged with our own memory until it becomes the command


def run_process(
    words: list,   # the command
    environment: dict | None = None,  # variables to set for it
    timeout: float = 550,  # seconds; then it is stopped and an error raised
) -> dict:  # seconds, peak_mb (largest resident size of one process), output
    "Seconds on the chosen clock and peak memory of a command from its start to its end."
    words = [str(w) for w in words]
    with tempfile.TemporaryDirectory() as scratch:
        found = Path(scratch) / 'found.json'
        process = subprocess.Popen([sys.executable, '-S', '-c', LAUNCHER, str(found), *words], stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True, cwd=ROOT,
                                   env=dict(os.environ, **(environment or {})), start_new_session=os.name == 'posix')
        try: output, _ = process.communicate(timeout=timeout)
        except BaseException:  # the time is up, or somebody pressed Ctrl-C: the command and all it started go
            if os.name == 'posix': os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            raise
        if not found.is_file(): raise RuntimeError(f'{" ".join(words[:6])} ...: {output[-2000:]}')
        result = json.loads(found.read_text())
    if result['code']: raise RuntimeError(f'{" ".join(words[:6])} ... ended with {result["code"]}: {output[-2000:]}')
    return dict(seconds=result[os.environ.get('BENCHMARK_CLOCK', 'wall')], peak_mb=result['peak'] // (2**20 if sys.platform == 'darwin' else 2**10), output=output)


def environment(**more) -> dict:
    "The threads of this process, for the processes it starts."
    return dict(OMP_NUM_THREADS=str(torch.get_num_threads()), **more)


def child(
    module: str,    # for example 'benchmarks.step'
    function: str,  # a function in it that returns plain values
    **arguments,    # plain values, too
):
    "What the function returns in a process of its own."
    words = [sys.executable, '-c', f'import json, sys; from {module} import {function}; print(json.dumps({function}(**json.loads(sys.argv[1]))))', json.dumps(arguments)]
    return json.loads(run_process(words, environment(PYTHONWARNINGS='ignore'))['output'].splitlines()[-1])


def shown(value, digits=4) -> str:
    "A figure of the JSON as the table shows it: median (lower quartile to upper quartile)."
    if isinstance(value, dict): return f"{value['median']:.{digits}g} ({value['low']:.{digits}g}–{value['high']:.{digits}g})"
    if isinstance(value, float): return f'{value:.{digits}g}'
    return '–' if value is None else str(value)


def section_text(
    name: str,         # of the comparison
    comparison: dict,  # as the JSON holds it
) -> str:  # Markdown
    "One comparison: a heading, its setting, the rows, the ratios."
    columns = list(dict.fromkeys(key for r in comparison['rows'] for key in r if key not in ('times', 'images', 'name')))
    table = [{'': r['name']} | {column.replace('_', ' '): shown(r.get(column)) for column in columns} for r in comparison['rows']]
    text = f"## {name}\n\n{comparison['setting']}\n\n{markdown_table(table)}\n"
    if comparison.get('ratios'):
        table = [{'': f"{r['ours']} against {r['other']}", 'ratio': f"{shown(r['ratio'])} {r['what']}", 'rounds': r['rounds'],
                  'target': '–' if r['target'] is None else f"{r['target']:g}: " + ('met' if r['ratio']['median'] >= r['target'] else 'missed')} for r in comparison['ratios']]
        text += f'\n{markdown_table(table)}\n'
    if comparison.get('notes'): text += f"\n{comparison['notes']}\n"
    return text


def text_of(
    report: dict,  # what the JSON holds
) -> str:
    "The Markdown page of a part."
    packages = ', '.join(f'{name} {number}' for name, number in report['packages'].items())
    clock = {'wall': 'Seconds on the wall clock.', 'work': 'Seconds are processor seconds, of all processes together: the machine was shared, and a wall clock would have measured the neighbours too.'}
    head = (f"# {report['title']}\n\nDevice: {report['device']}. CPU: {report['processor']}; threads used: {report['threads']}. Python {report['python']}, {packages}.\n"
            f"{clock[report['clock']]} Median (lower quartile–upper quartile); the ways took turns, and every ratio is a median of ratios within one turn.\n"
            + 'TINY configuration: the figures mean nothing.\n' * report['tiny'])
    return '\n'.join([head, *(section_text(name, c) for name, c in report['comparisons'].items())])


class Report:
    "The results of one part on one device: a JSON that grows comparison by comparison, and the Markdown page made from it."

    def __init__(self,
        folder: Path,          # where both files go
        part: str,             # 'data', 'step', ...
        title: str,            # of the page
        device: torch.device,  # what computes
        tiny: bool,            # the configuration of the tests
    ):
        clock = os.environ.get('BENCHMARK_CLOCK', 'wall')
        self.path = Path(folder) / f'{part}-{device.type}{"-work" if clock == "work" else ""}{"-tiny" if tiny else ""}.json'
        self.content = dict(part=part, title=title, device=torch.cuda.get_device_name(device) if device.type == 'cuda' else device.type, processor=processor(),
                            threads=torch.get_num_threads(), clock=clock, tiny=tiny, python=platform.python_version(),
                            packages=installed('torch', 'torchvision', 'monai', 'segmentation_models_pytorch'), comparisons={})
        if self.path.is_file():
            before = json.loads(self.path.read_text(encoding='utf-8'))
            changed = [k for k in self.content if k not in ('comparisons', 'title') and before.get(k) != self.content[k]]
            if changed: raise ValueError(f'{self.path} was measured with another {", ".join(changed)}; give another --out or delete it')
            self.content['comparisons'] = before['comparisons']

    def has(self, name: str) -> bool: return name in self.content['comparisons']

    def section(self, name: str) -> str: return section_text(name, self.content['comparisons'][name])

    def add(self, name: str, comparison: dict):
        "None; the comparison (setting, rows, ratios, notes) is in the files."
        self.content['comparisons'][name] = comparison
        self.write()

    def write(self):
        "None; writes both files."
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.content, self.path)
        self.path.with_suffix('.md').write_text(text_of(self.content), encoding='utf-8')
