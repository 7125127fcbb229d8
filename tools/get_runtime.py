"""Fetch by npm what the browser needs and nobody keeps here, and compare the hashes: onnxruntime-web, which the playground runs on,
into _runtime/, and axe-core, with which the tests look for barriers on a page, into _axe/.

    python tools/get_runtime.py

Version and hashes of onnxruntime-web are those of `nbs/playground/runtime.json`. After a change of version, --print gives the new entries.
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
from unet_course.views.page import integrity, runtime_files  # noqa: E402

RUNTIME = runtime_files()
AXE = dict(version='4.14.1', file='axe.min.js', integrity='sha384-xt1SFg49QaDwsyt0Xfs2XAyBtYPClXl3X2q5OOLeGAUmq9jZTYIMdztpF99WdhiH')
PACKAGES = [
    ('onnxruntime-web', RUNTIME['version'], 'dist/', [part for name in ('wasm', 'webgpu') for part in RUNTIME[name]], ROOT / '_runtime'),
    ('axe-core', AXE['version'], '', [AXE], ROOT / '_axe'),
]


def fetch(package: str, version: str, folder: str, parts: list[dict], out: Path, only_print: bool):
    "Puts the files `parts` of `package` into `out`, unless they are there, or prints them."
    if not only_print and all((out / p['file']).is_file() and integrity((out / p['file']).read_bytes()) == p['integrity'] for p in parts): return print(f'{out}: complete')
    npm = shutil.which('npm') or sys.exit('npm is not installed; it comes with Node.js')
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run([npm, 'pack', f'{package}@{version}', '--pack-destination', place], capture_output=True, text=True, timeout=300)
        if done.returncode: sys.exit(f'{package} {version} could not be fetched: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "npm failed"}')
        with tarfile.open(next(Path(place).glob('*.tgz'))) as packed:
            for part in parts:
                data = packed.extractfile(f"package/{folder}{part['file']}").read()
                if only_print: print(dict(file=part['file'], bytes=len(data), integrity=integrity(data)))
                elif integrity(data) != part['integrity']: sys.exit(f"{package} {version}: {part['file']} is not the file whose hash is written down here")
                else:
                    out.mkdir(exist_ok=True)
                    (out / part['file']).write_bytes(data)
    if not only_print: print(f'{out}: {package} {version}')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--print', action='store_true', help='print bytes and hashes instead of comparing them')
    only_print = parser.parse_args().print
    for package in PACKAGES: fetch(*package, only_print)


if __name__ == '__main__':
    main()
