"""Run notebooks top to bottom and store their real outputs, with a hash of the code that made them.

    python tools/notebooks.py                    all of nbs/, in order
    python tools/notebooks.py nbs/01_blocks.ipynb
    python tools/notebooks.py --check            say which notebooks hold outputs of other code (exit 1)
    python tools/notebooks.py --readme           only make README.md from nbs/index.ipynb
"""
import argparse
import base64
import hashlib
import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 1800  # seconds a notebook may take for one cell


def notebooks() -> list[Path]:
    "All notebooks of the course, the main road first."
    found = [p for p in (ROOT / 'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts]
    return sorted(found, key=lambda p: (len(p.parts), p))


def code_hash(nb) -> str:
    "The SHA-256 of a notebook's code cells: what its stored outputs must have been made by."
    return hashlib.sha256('\0'.join(c.source for c in nb.cells if c.cell_type == 'code').encode()).hexdigest()


def execute(path: Path, tiny: bool = False):
    "The notebook at `path` (a node), run top to bottom in its own folder by a fresh kernel; nothing is written. Tiny runs also try the untouched exercises."
    from nbclient import NotebookClient
    nb = nbformat.read(path, as_version=4)
    if tiny: nb = made_tiny(with_stubs_tried(nb))
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')])), PYTHONWARNINGS='default,ignore::DeprecationWarning')  # libraries' words to each other
    if tiny: env['UNET_COURSE_TINY'] = '1'
    client = NotebookClient(nb, timeout=TIMEOUT, iopub_timeout=60, kernel_name='python3', coalesce_streams=True, resources={'metadata': {'path': str(path.parent)}})
    client.widget_registry.clear()  # its answers to Output widgets share a socket with the kernel's replies, and one may go unnoticed (nbclient's issue 312)
    with client.setup_kernel(env=env, cwd=str(path.parent)):
        for i, cell in enumerate(nb.cells): client.execute_cell(cell, i)
    return nb


def stub_of(solution: str) -> str:
    "The exercise that a solution answers: lines that end in `# answer` become dots, `solution_` goes from the names; directives and the final check go."
    lines = [line for line in solution.splitlines() if not line.startswith('#|')]
    check = re.fullmatch(r'check_(\w+)\((solution_)?\1\)', lines[-1])
    then = 'run this cell, then the check below it' if check[2] else f'then run {lines[-1]}'
    stub = [f'# Exercise {check[1]}: replace the dots, {then}']
    for line in lines[:-1]:
        line = re.sub(r'\bsolution_', '', line)
        dots = re.match(r'\s*', line)[0] + '...'
        if not line.endswith('# answer'): stub.append(line)
        elif (value := re.match(r'(\w+) = ', line)): stub.append(f'{value[1]} = ...')
        elif stub[-1].strip() != '...' or len(dots) < len(stub[-1]): stub.append(dots)  # a run of answer lines, or one that is less indented
    return '\n'.join(stub).rstrip()


def solutions(nb) -> list[int]:
    "The numbers of a notebook's solution cells."
    return [i for i, c in enumerate(nb.cells) if c.cell_type == 'code' and '#| code-summary: "Solution"' in c.source]


def exercise_of(nb, i: int) -> tuple[int, str | None]:
    """The number of the cell with the exercise that solution `i` answers, and the check between the two.

    Of a solution with a name of its own, `solution_<name>`, the check stands in sight: `check_<name>(<name>)`. One that repeats the exercise's name has none.
    """
    check = nb.cells[i].source.splitlines()[-1]
    return (i - 2, check.replace('(solution_', '(')) if '(solution_' in check else (i - 1, None)


def outcome(nb, i: int) -> range:
    "The numbers of the cells that would give away what the exercise asks to predict: the solution `i` and the code behind it."
    stop = next((j for j in range(i, len(nb.cells)) if nb.cells[j].cell_type == 'markdown'), len(nb.cells))
    return range(i, stop)


def with_stubs_tried(nb):
    "The notebook with a cell behind each exercise that fails unless the checker refuses the untouched stub; where a check stands in sight, that one must not stop Run All."
    for i in reversed(solutions(nb)):
        _, seen = exercise_of(nb, i)
        check = seen or nb.cells[i].source.splitlines()[-1]
        tried = check.replace('(', '.__wrapped__(', 1) if seen else check
        source = f"try: {tried}\nexcept Exception: pass\nelse: raise AssertionError('the untouched exercise passes {check}')"
        nb.cells.insert(i, nbformat.v4.new_code_cell(source + (f"\nassert 'not answered yet' in {check}" if seen else '')))
    return nb


def made_tiny(nb):
    "The notebook with smaller numbers, where a cell's metadata say so: `tiny` has what stands in the cell, and what stands there in a tiny run."
    for cell in nb.cells:
        for shown, tiny in cell.metadata.get('tiny', {}).items():
            assert shown in cell.source, f'{shown!r} is not in the cell any more:\n{cell.source}'
            cell.source = cell.source.replace(shown, tiny)
    return nb


def is_plumbing(source: str) -> bool:
    "True of a cell that the site folds or leaves out; JupyterLab shows it collapsed."
    return bool(re.search(r'^#\| (code-fold: true|echo: false|include: false|hide$|default_exp )', source, re.M))


def with_a_palette(png: str) -> str:
    "A PNG (base64) in 256 colours, a third of the bytes; as it is where that would show, by more than 1.5 of 255 levels in the mean, or save nothing."
    data = base64.b64decode(png)
    picture = Image.open(io.BytesIO(data))
    if picture.mode == 'P' or 'A' in picture.mode and picture.getchannel('A').getextrema()[0] < 255: return png
    picture, file = picture.convert('RGB'), io.BytesIO()
    fewer = picture.quantize(256, kmeans=1, dither=Image.Dither.NONE)
    fewer.save(file, format='PNG', optimize=True)
    off = np.abs(np.asarray(fewer.convert('RGB'), float) - np.asarray(picture)).mean()
    return png if off > 1.5 or len(file.getvalue()) >= len(data) else base64.b64encode(file.getvalue()).decode()


def tidy(nb):
    "The notebook with what must not be stored removed: widget state, timings, and outputs of cells marked `#| output: false`; its pictures are made smaller."
    nb.metadata.pop('widgets', None)
    nb.metadata.pop('language_info', None)
    nb.metadata['kernelspec'] = dict(display_name='python3', language='python', name='python3')
    for cell in nb.cells:
        if cell.cell_type == 'code' and is_plumbing(cell.source): cell.metadata['jupyter'] = dict(source_hidden=True)
    for i in solutions(nb):
        for j in outcome(nb, i): nb.cells[j].metadata['jupyter'] = dict(outputs_hidden=True, source_hidden=True)  # of hidden outputs alone JupyterLab shows the first line
    for cell in nb.cells:
        if cell.cell_type != 'code': continue
        cell.metadata.pop('execution', None)
        if '#| output: false' in cell.source: cell.outputs = []
        for output in cell.outputs:
            data = output.get('data', {})
            data.pop('application/vnd.jupyter.widget-view+json', None)
            if 'image/png' in data: data |= {'text/plain': '<Figure>', 'image/png': with_a_palette(data['image/png'])}
        if any(o.output_type == 'stream' and o.name == 'stderr' for o in cell.outputs):
            cell.outputs = [o for o in cell.outputs if not (o.output_type == 'stream' and o.name == 'stderr' and is_progress(o.text))]
    nb.metadata['code_hash'] = code_hash(nb)
    return nb


def is_progress(text: str) -> bool:
    "True if every line of `text` is a tqdm progress bar."
    return all(re.search(r'\d+%\||it/s|s/it|^$', line.strip()) for line in re.split(r'[\r\n]', text))


def readme() -> str:
    "README.md, made from nbs/index.ipynb; links to notebooks and pictures are made to work from the top level."
    from nbconvert import MarkdownExporter
    nb = nbformat.read(ROOT / 'nbs/index.ipynb', as_version=4)
    nb.cells = [c for c in nb.cells if not c.source.startswith('#| hide') and c.cell_type != 'raw']
    for c in nb.cells:
        if c.cell_type == 'code' and re.search(r'^#\| echo: false', c.source, re.M): c.source = ''
        elif c.cell_type == 'code': c.source = re.sub(r'^#\|.*\n', '', c.source, flags=re.M)
    body, _ = MarkdownExporter().from_notebook_node(nb)
    body = re.sub(r'```\w*\n\s*```\n*', '', body)  # of code that is not shown
    body = re.sub(r'\{fig-alt="[^"]*"\}', '', body)  # Quarto's
    body = re.sub(r'\]\((?!https?:|#|/|mailto:)([^)]+)\)', r'](nbs/\1)', body).replace('](nbs/../', '](')
    return '<!-- Made from nbs/index.ipynb by `python tools/notebooks.py --readme`. Edit the notebook. -->\n\n' + re.sub(r'\n{3,}', '\n\n', body).strip() + '\n'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('notebooks', nargs='*', type=Path)
    parser.add_argument('--check', action='store_true', help='only compare the hashes')
    parser.add_argument('--readme', action='store_true', help='only make README.md')
    args = parser.parse_args()
    paths = [p.resolve() for p in args.notebooks] or notebooks()
    if args.readme: return (ROOT / 'README.md').write_text(readme(), encoding='utf-8')
    if args.check:
        stale = [str(p.relative_to(ROOT)) for p in paths if (nb := nbformat.read(p, as_version=4)).metadata.get('code_hash') != code_hash(nb)]
        sys.exit(f'stored outputs are not of the stored code: {", ".join(stale)}; run python tools/notebooks.py' if stale else 0)
    bin_dir = Path(sys.executable).parent
    for path in paths:
        subprocess.run([bin_dir / 'nbdev_clean', '--fname', path], cwd=ROOT, check=True)
        subprocess.run([bin_dir / 'nbdev_export'], cwd=ROOT, check=True)
        start = time.perf_counter()
        nb = tidy(execute(path))
        nb.metadata['run_seconds'] = round(time.perf_counter() - start)
        nbformat.write(nb, path)
        subprocess.run([bin_dir / 'nbdev_clean', '--fname', path], cwd=ROOT, check=True)
        print(f'{path.name}: {time.perf_counter() - start:.0f} s, {path.stat().st_size / 1024:.0f} KB', flush=True)
    if (ROOT / 'nbs/index.ipynb').exists(): (ROOT / 'README.md').write_text(readme(), encoding='utf-8')


if __name__ == '__main__':
    main()
