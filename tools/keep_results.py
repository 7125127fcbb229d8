"""Copy what finished runs measured into results/, without their weights.

    python tools/keep_results.py runs/pets-course-w16-128px-15ep
"""
import argparse
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from unet_course.runs.run_folder import RunFolder, find_runs  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('settings', nargs='+', type=Path, help='setting folders: <out>/<data>-<protocol>-w<width>-<size>px-<epochs>ep')
    parser.add_argument('--out', type=Path, default=ROOT / 'results', help='(default: results/)')
    words = parser.parse_args()
    for folder in words.settings:
        runs = find_runs(folder)
        if not runs: parser.error(f'{folder}: no finished runs')
        kept = words.out / folder.name
        for run in runs:
            if run.setting.folder != folder.name: parser.error(f'{run.path}: its setting is named {run.setting.folder}, give that folder')
            target = kept / run.path.relative_to(folder)
            target.mkdir(parents=True, exist_ok=True)
            for name in RunFolder.KEPT: shutil.copyfile(run.path / name, target / name)
        size = sum(path.stat().st_size for path in kept.rglob('*') if path.is_file())
        print(f'{folder.name}: {len(runs)} runs, {size / 2**20:.1f} MiB')


if __name__ == '__main__':
    main()
