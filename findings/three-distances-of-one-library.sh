#!/usr/bin/env bash
# Three distances between a mask and itself, and between a mask and the same mask with one false spot 8.5 pixels off, from one library of segmentation metrics.
# Expected: 0 three times for the mask and itself; with the spot a Hausdorff distance of 8.5 (one spot is enough), and an average one that is far smaller.
# Seen (miseval 1.3.0): "HD" of the spot is 1.0 and "AHD", the average, is 8.49: the average is the larger one. The first compares the rows of the two arrays
# as if each were a point, the second returns the largest of the distances. "BD", the boundary distance, is 14.7 for a mask and itself, because it is the mean over all
# pairs of contour points; that grows with the object. Its documentation names the three; of the last it says that it averages, not over what.
# Where it matters: tables of distances in a paper or a challenge. Check a distance on a mask and itself, and on one spot, before it is used.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q miseval==1.3.0 scikit-image==0.26.0 scipy==1.17.1 numpy==2.2.6
cd "$folder"
"$folder/env/bin/python" - <<'PY'
import miseval
import numpy as np

mask = np.zeros((40, 40), int)
mask[10:30, 10:30] = 1
spot = mask.copy()
spot[35, 35] = 1
def distances(prediction): return {name: float(miseval.evaluate(mask, prediction, metric=name)) for name in ('HD', 'AHD', 'BD')}
same, spotted = distances(mask), distances(spot)
print('mask and itself:', same)
print('with a spot:', spotted, 'true Hausdorff distance:', np.hypot(6, 6).round(2))
assert same['HD'] == same['AHD'] == 0 and 14 < same['BD'] < 15
assert spotted['HD'] == 1 and abs(spotted['AHD'] - np.hypot(6, 6)) < 1e-6
PY
