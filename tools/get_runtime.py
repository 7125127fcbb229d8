"""Fetch the files of onnxruntime-web that the playground runs on into _runtime/ (not kept), by npm, and compare their hashes.

    python tools/get_runtime.py

The version and the hashes are those of `unet_course.export.RUNTIME`. After a change of version there, --print gives the new entries.
"""
import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from unet_course.views.export import RUNTIME, integrity  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--print', action='store_true', help='print bytes and hashes instead of comparing them')
    args = parser.parse_args()
    parts = [part for name in ('wasm', 'webgpu') for part in RUNTIME[name]]
    out = ROOT / '_runtime'
    if not args.print and all((out / p['file']).is_file() and integrity((out / p['file']).read_bytes()) == p['integrity'] for p in parts): return print(f'{out}: complete')
    npm = shutil.which('npm') or sys.exit('npm is not installed; it comes with Node.js')
    out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([npm, 'pack', f"onnxruntime-web@{RUNTIME['version']}", '--pack-destination', folder], capture_output=True, text=True, timeout=300)
        if done.returncode: sys.exit(f"onnxruntime-web {RUNTIME['version']} could not be fetched: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'npm failed'}")
        with tarfile.open(next(Path(folder).glob('*.tgz'))) as package:
            for part in parts:
                data = package.extractfile(f"package/dist/{part['file']}").read()
                if args.print: print(dict(file=part['file'], bytes=len(data), integrity=integrity(data)))
                elif integrity(data) != part['integrity']: sys.exit(f"{part['file']}: not the file whose hash unet_course.export.RUNTIME names")
                else: (out / part['file']).write_bytes(data)
    if not args.print: print(f'{out}: onnxruntime-web {RUNTIME["version"]}')


if __name__ == '__main__':
    main()
