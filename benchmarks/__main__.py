"""`python -m benchmarks [PART ...]`: every comparison that is not done yet, one JSON and one Markdown table a part."""
import argparse
import importlib
import os
import time
from pathlib import Path

import torch

from benchmarks.measuring import Report
from unet_course.support import device as devices

PARTS = ('data', 'step', 'limit', 'job', 'growth', 'quality', 'transposed', 'start')


def main(argv=None):
    "Exit code 0; 3 if the time was up before all was measured."
    parser = argparse.ArgumentParser(prog='python -m benchmarks', description=__doc__, epilog='A comparison that is in the JSON is not measured again: '
                                     'the same command goes on where the last one stopped. Nothing else should run on the machine.')
    parser.add_argument('parts', nargs='*', metavar='PART', help=f'{", ".join(PARTS)} (default: all)')
    parser.add_argument('--out', type=Path, default=Path('results/benchmarks'), help='folder of the results (default: %(default)s)')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda (default: %(default)s)')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads(), help='CPU threads (default: %(default)s)')
    parser.add_argument('--minutes', type=float, default=60, help='start no comparison after this long (default: %(default)s)')
    parser.add_argument('--only', default='', metavar='TEXT', help='comparisons whose name begins so')
    parser.add_argument('--clock', choices=('wall', 'work'), default='wall', help='work: processor seconds, for a machine that others use too; best with --threads 1 (default: %(default)s)')
    parser.add_argument('--tiny', action='store_true', help='seconds instead of minutes: does the code run? The figures mean nothing')
    parser.add_argument('--fresh', action='store_true', help='measure again what was measured before')
    args = parser.parse_args(argv)
    if unknown := set(args.parts) - set(PARTS): parser.error(f'{", ".join(sorted(unknown))}: the parts are {", ".join(PARTS)}')
    if os.name != 'posix': parser.error('memory and processor time are measured as Linux and macOS give them; on Windows use WSL')
    try: device = devices.choose_device(args.device)
    except ValueError as error: parser.error(str(error))
    if device.type not in ('cpu', 'cuda'): parser.error(f'--device {device.type}: only cpu and cuda are measured; give --device cpu')
    end, late = time.monotonic() + 60 * args.minutes, []
    torch.set_num_threads(args.threads)
    os.environ['BENCHMARK_CLOCK'] = args.clock  # for the processes that are started, too
    if device.type == 'cpu' and hasattr(devices, 'keep_freed_memory'): devices.keep_freed_memory()  # as `unet-course run` does; here the peers have it too
    for part in args.parts or PARTS:
        module = importlib.import_module(f'benchmarks.{part}')
        report = Report(args.out, part, module.TITLE, device, args.tiny)
        for name, measure in module.comparisons(device, args.tiny):
            if not name.startswith(args.only) or report.has(name) and not args.fresh: continue
            if time.monotonic() > end:
                late.append(f'{part} {name}')
                continue
            print(f'{part}: {name} ...', flush=True)
            report.add(name, measure())
            print(report.section(name), flush=True)
        report.write()
    if late: print(f'not measured yet: {", ".join(late)}')
    return 3 if late else 0


if __name__ == '__main__': raise SystemExit(main())
