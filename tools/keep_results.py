"""Copy what finished runs measured into results/, without their weights.

    python tools/keep_results.py runs/pets-course-w16-64px

A setting's name does not hold the number of epochs: a second number of the same setting goes `--below` a folder of its own, such as epochs15.
"""
import argparse
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = ('config.json', 'history.csv', 'metrics.json', 'evaluation.npz')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('settings', nargs='+', type=Path, help='setting folders: <out>/<data>-<protocol>-w<width>-<size>px')
    parser.add_argument('--below', default='', metavar='NAME', help='a folder in results/; results/ itself unless given')
    words = parser.parse_args()
    kept = ROOT / 'results' / words.below
    for setting in words.settings:
        done = sorted(setting.glob('*/seed*/metrics.json'))
        if not done: parser.error(f'{setting}: no finished runs')
        for metrics in done:
            target = kept / setting.name / metrics.parent.relative_to(setting)
            target.mkdir(parents=True, exist_ok=True)
            for name in KEPT: shutil.copyfile(metrics.parent / name, target / name)
        print(f'{setting.name}: {len(done)} runs, {sum(p.stat().st_size for p in (kept / setting.name).rglob("*") if p.is_file()) / 2**20:.1f} MiB')


if __name__ == '__main__':
    main()
