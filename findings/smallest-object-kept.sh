#!/usr/bin/env bash
# Small objects are removed from a mask by a smallest size that may stay, under the name that the option has had for years (min_size).
# Expected: min_size=9 keeps an object of 9 pixels, as it did, or the call is refused.
# Seen: scikit-image 0.25.2 keeps it; 0.26.0 removes it. The deprecated name is read as the new one (max_size, the largest size that goes); a warning is
# shown, and the result has changed already.
# Where it matters: post-processing of masks with a fixed smallest area; an upgrade moves every count by the objects of exactly that size.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q "numpy>=2.2,<2.4"
cd "$folder"
"$folder/env/bin/python" - <<'PY'
import subprocess
import sys

test = """
import warnings
import numpy as np
import skimage
from skimage.morphology import remove_small_objects
warnings.simplefilter('ignore')
mask = np.zeros((20, 20), bool)
mask[2:5, 2:5] = mask[10:12, 10:15] = True
print(skimage.__version__, *(int(remove_small_objects(mask, min_size=size).sum()) for size in (8, 9, 10, 11)))
"""
found = {}
for release in ('0.25.2', '0.26.0'):
    subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', f'scikit-image=={release}'], check=True)
    version, *pixels = subprocess.run([sys.executable, '-c', test], check=True, capture_output=True, text=True).stdout.split()
    found[version] = list(map(int, pixels))
    print(version, 'objects of 9 and 10 pixels; what is left with min_size 8, 9, 10, 11:', found[version])
assert found == {'0.25.2': [19, 19, 10, 0], '0.26.0': [19, 10, 0, 0]}
PY
