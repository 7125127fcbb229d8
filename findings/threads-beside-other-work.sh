#!/usr/bin/env bash
# PyTorch on a CPU shares each operator out to as many threads as there are cores. On Linux these are GNU OpenMP's (libgomp).
# Expected: beside one other busy program, two threads on two cores lose a quarter to a half of the processor's time: a training step takes twice as long at most.
# Seen (torch 2.14.1, Linux 6.18): about twenty times as long if the other program belongs to another session (another terminal, the browser), three to four times within one.
# A thread that is done waits for the others by running in circles, some 300,000 times, before it sleeps. So it uses up its share of the processor for nothing, the system then
# lets the other program run, and nearly every operator waits until that one's slice of time is over. (Linux shares the processor out between sessions first, its
# "autogroups"; /proc/sys/kernel/sched_autogroup_enabled is 1 in the usual desktop systems.)
# With GOMP_SPINCOUNT=1000 in the environment before torch is imported it is about what one expects, and hardly slower on a quiet machine.
# libgomp sleeps sooner by itself when it has more threads than there are cores (its manual, GOMP_SPINCOUNT: 100 circles instead of 300,000); another program's threads it cannot see.
# Where it matters: a network that trains beside a browser, a second notebook or another training. Nothing fails, the computer only seems far too slow.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > steps.py <<'PY'
import time
import torch
from torch import nn
torch.set_num_threads(2)
torch.manual_seed(0)
layers = [layer for n in range(6) for layer in (nn.Conv2d(3 if n == 0 else 16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())]
network, images = nn.Sequential(*layers), torch.rand(32, 3, 32, 32)
optimizer = torch.optim.SGD(network.parameters(), lr=.01)
def step():
    optimizer.zero_grad()
    network(images).square().mean().backward()
    optimizer.step()
for _ in range(3): step()
begin, done = time.perf_counter(), 0
while done < 100 and time.perf_counter() - begin < 10:
    step()
    done += 1
print((time.perf_counter() - begin) / done)
PY
cat > test.py <<'PY'
import os
import subprocess
import sys
AUTOGROUP = '/proc/sys/kernel/sched_autogroup_enabled'
if not os.path.exists(AUTOGROUP) or open(AUTOGROUP).read().strip() != '1' or len(os.sched_getaffinity(0)) < 2: sys.exit('needs Linux with autogroups, and two cores')
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])  # for the programs below too
plain = {name: value for name, value in os.environ.items() if not name.startswith(('OMP_', 'GOMP_'))}


def seconds(environment, busy):
    others = [subprocess.Popen([sys.executable, '-c', 'while True: pass'], start_new_session=True) for _ in range(busy)]
    try: return float(subprocess.run([sys.executable, 'steps.py'], env=plain | environment, check=True, capture_output=True, timeout=300).stdout)
    finally:
        for other in others: other.kill()


def times(environment): return sorted(seconds(environment, 1) / seconds(environment, 0) for _ in range(3))


usual, sparing = times({}), times(dict(GOMP_SPINCOUNT='1000'))
print('as long beside one busy program:', ', '.join(f'{ratio:.1f}' for ratio in usual), 'times; with GOMP_SPINCOUNT=1000:', ', '.join(f'{ratio:.1f}' for ratio in sparing), 'times')
assert usual[1] > 6, 'it no longer takes many times as long'
assert sparing[1] < 4, 'GOMP_SPINCOUNT no longer helps'
print('still so')
PY
python3 -m venv env
env/bin/pip install -q torch==2.14.1 numpy
env/bin/python test.py
