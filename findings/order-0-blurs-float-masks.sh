#!/usr/bin/env bash
# A mask of 0 and 1 is made smaller with scikit-image's resize and order=0, which its documentation calls nearest neighbour.
# Expected: 0 and 1, whatever the type of the array.
# Seen (scikit-image 0.26.0): a float mask comes back with values such as 0.015 and 0.97, because smoothing is switched on for floats; as uint8 or bool the same mask
# stays exact. `mask > 0` is then a ring larger than the object, `mask == 1` smaller.
# Where it matters: masks that were divided by 255 before resizing. Resize integers, or say anti_aliasing=False.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q scikit-image==0.26.0 "numpy>=2.2,<2.5"
cd "$folder"
"$folder/env/bin/python" - <<'PY'
import numpy as np
from skimage.transform import resize

mask = np.zeros((40, 40))
mask[10:30, 10:30] = 1
small = {kind: resize(mask.astype(kind), (16, 16), order=0, preserve_range=True) for kind in ('float64', 'uint8', 'bool')}
for kind, values in small.items(): print(kind, np.unique(values).astype(float).round(3)[:8], 'pixels above 0:', (values > 0).sum(), 'equal to 1:', (values == 1).sum())
assert len(np.unique(small['float64'])) > 2 and (small['float64'] > 0).sum() > (small['uint8'] > 0).sum()
assert set(np.unique(small['uint8'])) == set(np.unique(small['bool'])) == {0, 1}
off = resize(mask, (16, 16), order=0, preserve_range=True, anti_aliasing=False)
assert (off == small['uint8']).all()
PY
