#!/usr/bin/env bash
# The distance of every pixel from the background, for a mask that fills its picture (a pet that fills the crop): there is no background.
# Expected: infinity or one constant, from each function alike.
# Seen (SciPy 1.17.1): distance_transform_edt gives ordinary looking distances, 1 in the first corner and growing to the right and down, as if a
# background pixel lay above that corner. distance_transform_cdt gives -1 and distance_transform_bf 1.3e154.
# Where it matters: distance maps for boundary losses and for weights near contours: the full mask gets a slope that is not in the picture.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q scipy==1.17.1 numpy==2.2.6
cd "$folder"
"$folder/env/bin/python" - <<'PY'
import numpy as np
from scipy.ndimage import distance_transform_bf, distance_transform_cdt, distance_transform_edt

full = np.ones((5, 5), bool)
found = distance_transform_edt(full)
print(found.round(2), distance_transform_cdt(full)[0, 0], distance_transform_bf(full)[0, 0])
rows, columns = np.mgrid[:5, :5]
assert np.allclose(found, np.hypot(rows + 1, columns)), 'distances from the place above the first corner'
assert (distance_transform_cdt(full) == -1).all() and (distance_transform_bf(full) > 1e100).all()
PY
