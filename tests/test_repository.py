"""The repository itself: notebooks and package in step, README in step, the wheel works away from the checkout."""
import base64
import configparser
import dataclasses
import importlib
import inspect
import io
import json
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from conftest import ROOT

sys.path.insert(0, str(ROOT / 'tools'))
import notebooks as tool  # noqa: E402

NOTEBOOKS = tool.notebooks()
MODULES = sorted(p.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.') for p in (ROOT / 'unet_course').rglob('*.py') if not p.stem.startswith('_'))
SOURCES = ['nbs', 'unet_course', 'settings.ini', 'setup.py', 'pyproject.toml', '_quarto.yml', 'README.md', 'MANIFEST.in', 'LICENSE', 'NOTICE', 'results', 'site', 'tools']


def copy_of_the_repository(folder: Path) -> Path:
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir(): shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
        elif source.exists(): shutil.copyfile(source, folder / name)
    return folder


def test_the_chapters_are_there():
    assert [p.stem for p in NOTEBOOKS if p.stem[0].isdigit()][:6] == ['00_data', '01_blocks', '02_factory', '03_losses', '04_training', '05_experiments']


def test_clean_and_export_leave_no_difference(tmp_path):
    copy = copy_of_the_repository(tmp_path)
    scripts = Path(sysconfig.get_path('scripts'))
    for command in ('nbdev_clean', 'nbdev_export'):
        done = subprocess.run([scripts / command], cwd=copy, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    for folder, pattern in (('nbs', '*.ipynb'), ('unet_course', '*.py')):
        ours, theirs = ({p.relative_to(base): p.read_text(encoding='utf-8') for p in (base / folder).rglob(pattern)} for base in (ROOT, copy))
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if ours[name] != theirs[name]] == []


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.relative_to(ROOT / 'nbs').with_suffix('').as_posix())
def test_stored_outputs_are_real_and_clean(path):
    nb = nbformat.read(path, as_version=4)
    assert nb.metadata.get('code_hash') == tool.code_hash(nb), 'the outputs are of other code: run python tools/notebooks.py'
    for cell in nb.cells:
        if cell.cell_type != 'code': continue
        for output in cell.outputs:
            assert output.output_type != 'error', cell.source
            assert not (output.output_type == 'stream' and output.name == 'stderr'), (cell.source, output.text)
            text = json.dumps({k: v for k, v in output.get('data', {}).items() if not k.startswith('image/')}) + output.get('text', '')
            found = re.search(r'Warning|Traceback|/home/|/root/|/work/|/tmp/|/Users/|[A-Z]:\\\\', text)
            assert not found, (found, cell.source)
            assert 'application/vnd.jupyter.widget-view+json' not in output.get('data', {})
        if any('image/png' in o.get('data', {}) for o in cell.outputs): assert '#| fig-alt:' in cell.source, cell.source
    assert 'widgets' not in nb.metadata and path.stat().st_size < 1.5e6


def test_pictures_get_a_palette_where_nobody_sees_it():
    def stored(array):
        file = io.BytesIO()
        Image.fromarray(array).save(file, format='PNG')
        return base64.b64encode(file.getvalue()).decode()
    def shown(png): return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert('RGB'), float)
    random = np.random.default_rng(0)
    grey = np.repeat(random.integers(0, 256, (64, 64, 1), dtype=np.uint8), 3, 2).repeat(4, 0).repeat(4, 1)
    small, noise = tool.with_a_palette(stored(grey)), stored(random.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    assert len(small) < len(stored(grey)) and np.abs(shown(small) - grey).max() < 3
    glass = stored(np.concatenate([grey, np.full_like(grey[..., :1], 100)], 2))
    for kept in (small, noise, glass): assert tool.with_a_palette(kept) == kept  # has one, would be changed, can be seen through


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.relative_to(ROOT / 'nbs').with_suffix('').as_posix())
def test_exercises_are_their_solutions_with_the_answers_taken_out(path):
    nb = nbformat.read(path, as_version=4)
    for i in tool.solutions(nb):
        stub, check = tool.exercise_of(nb, i)
        assert nb.cells[stub].source == tool.stub_of(nb.cells[i].source)
        assert nb.cells[i].source.startswith('#| code-fold: true\n') and nb.cells[i].outputs, 'the solution is folded, and its check was seen to pass'
        if check: assert nb.cells[i - 1].source == check and 'not answered yet' in str(nb.cells[i - 1].outputs), 'the check stands in sight and lets Run All go on'


def test_a_stub_is_made_of_its_solution_in_both_layouts():
    body = 'def {}twice(x):\n    y = 0\n    y = 2 * x  # answer\n    return y\n\ncheck_twice({}twice)'
    for name, then in (('', 'then run check_twice(twice)'), ('solution_', 'run this cell, then the check below it')):
        assert tool.stub_of('#| code-fold: true\n' + body.format(name, name)) == f'# Exercise twice: replace the dots, {then}\ndef twice(x):\n    y = 0\n    ...\n    return y'


@pytest.mark.parametrize('stub, fault', [('...', None), ('return 2 * x', 'not answered yet'), ('return 2 * x\n    ...', 'the untouched exercise passes')])
def test_a_stub_that_passes_its_check_is_found(stub, fault):
    "The cell that tiny runs put behind an exercise, run here without a kernel: a checker that stops Run All, or lets the stub pass, is found."
    solution = '#| code-fold: true\n#| code-summary: "Solution"\ndef solution_twice(x):\n    return 2 * x  # answer\n\ncheck_twice(solution_twice)'
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in (tool.stub_of(solution), 'check_twice(twice)', solution)])
    assert tool.exercise_of(nb, 2) == (0, 'check_twice(twice)')
    tried, = [cell.source for cell in tool.with_stubs_tried(nb).cells if 'try:' in cell.source]
    def check(answer): assert answer(3) == 6
    def checked(answer):
        if '...' in stub: return 'not answered yet'
        return check(answer)
    checked.__wrapped__ = check
    names = dict(check_twice=checked)
    exec(f'def twice(x):\n    {stub}', names)
    if fault is None: exec(tried, names)
    else:
        with pytest.raises(AssertionError): exec(tried, names)


def test_a_tiny_run_takes_its_numbers_from_the_metadata_and_refuses_those_that_are_gone():
    cell = nbformat.v4.new_code_cell('pets = synthetic_pets(640, size=64)', metadata=dict(tiny={'640, size=64': '40, size=32'}))
    nb = nbformat.v4.new_notebook(cells=[cell])
    assert tool.made_tiny(nb).cells[0].source == 'pets = synthetic_pets(40, size=32)'
    with pytest.raises(AssertionError, match='is not in the cell'): tool.made_tiny(nb)


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.relative_to(ROOT / 'nbs').with_suffix('').as_posix())
def test_numbers_of_tiny_runs_stand_in_their_cells(path):
    tool.made_tiny(nbformat.read(path, as_version=4))


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.relative_to(ROOT / 'nbs').with_suffix('').as_posix())
def test_no_definition_is_replaced_before_it_is_used(path):
    "It would be an old one left behind, or stand where a call belongs. A solution repeats its exercise by design."
    nb = nbformat.read(path, as_version=4)
    solutions = set(tool.solutions(nb))
    code = '\n'.join(cell.source for i, cell in enumerate(nb.cells) if cell.cell_type == 'code' and i not in solutions)
    for name in set(re.findall(r'^(?:def|class) (\w+)', code, re.M)):
        for part in re.split(rf'^(?:def|class) {name}\b', code, flags=re.M)[1:-1]: assert re.search(rf'\b{name}\b', part), name


def git_status() -> str:
    "What git sees changed or new, nothing where this is no checkout; in a fresh clone it is empty before and must be after."
    if not (ROOT / '.git').exists() or not shutil.which('git'): return ''
    return subprocess.run(['git', 'status', '--porcelain', '--untracked-files=all'], cwd=ROOT, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.relative_to(ROOT / 'nbs').with_suffix('').as_posix())
def test_runs_top_to_bottom_offline(path, tmp_path, monkeypatch):
    "The tiny configuration of the same code, without the dataset; a proxy that refuses every connection stands for being offline."
    monkeypatch.setenv('UNET_COURSE_DATA', str(tmp_path / 'nothing'))
    for name in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'): monkeypatch.setenv(name, 'http://127.0.0.1:9')
    def left(): return sorted(p.name for p in ROOT.iterdir() if p.name[0] != '.'), sorted(p.name for p in path.parent.iterdir()), git_status()
    before = left()
    tool.execute(path, tiny=True)
    assert left() == before


def test_readme_is_made_from_the_index():
    assert (ROOT / 'README.md').read_text(encoding='utf-8') == tool.readme()


def test_links_between_the_pages_resolve():
    broken = []
    for path in NOTEBOOKS:
        text = '\n'.join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == 'markdown')
        for target in re.findall(r'\]\(([^)\s]+)\)', text):
            if re.match(r'https?://[\w.-]+\.\w+(/|$)|#', target): continue
            if not (path.parent / target.split('#')[0]).is_file(): broken.append((path.name, target))
    assert broken == []


def test_links_and_pictures_of_the_readme_resolve():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    targets = [t.split('#')[0] for t in re.findall(r'\]\(([^)\s]+)\)', text) if not re.match(r'https?:|mailto:|#', t)]
    assert targets and [t for t in targets if not (ROOT / t).exists()] == []


def test_settings_are_the_only_place_of_the_address():
    parser = configparser.ConfigParser(delimiters=['='])
    parser.read(ROOT / 'settings.ini', encoding='utf-8')
    cfg = parser['DEFAULT']
    addresses = {cfg['git_url'], cfg['doc_host']}
    for path in [ROOT / '_quarto.yml', ROOT / 'README.md', *NOTEBOOKS]:
        for url in re.findall(r'https://(?:github\.com|[\w-]+\.github\.io)/[\w./-]*', path.read_text(encoding='utf-8')):
            if cfg['user'] in url or cfg['repo'] in url: assert any(url.startswith(a) for a in addresses), (path, url)


def test_requirements_are_bounded_and_test_tools_stay_out():
    parser = configparser.ConfigParser(delimiters=['='])
    parser.read(ROOT / 'settings.ini', encoding='utf-8')
    cfg = parser['DEFAULT']
    base = cfg['requirements'].split()
    assert all(re.search(r'>=|<', requirement) for name in ('requirements', 'notebooks_requirements', 'dev_requirements') for requirement in cfg[name].split())
    assert not {re.split(r'[<>=]', r)[0] for r in base} & {'pytest', 'nbdev', 'jupyterlab', 'hypothesis'}


def definitions(module):
    "(name, function or class) of every definition that the module exports, and of the public methods of its classes."
    for name, thing in ((name, getattr(module, name)) for name in module.__all__):
        if inspect.isfunction(thing) or inspect.isclass(thing): yield name, thing
        if inspect.isclass(thing):
            for method, function in vars(thing).items():
                if inspect.isfunction(function) and (not method.startswith('_') or method == '__init__' and not dataclasses.is_dataclass(thing)): yield f'{name}.{method}', function


@pytest.mark.parametrize('name', MODULES)
def test_every_parameter_is_explained(name):
    "A comment behind each (fastcore's docments), and a docstring for each definition. Constructors taken over from other packages have their own."
    from fastcore.docments import docments
    silent = []
    for name, thing in definitions(importlib.import_module(name)):
        if not (thing.__doc__ or name.endswith('__init__')): silent.append(f'{name}: docstring')
        if inspect.isclass(thing) and not dataclasses.is_dataclass(thing): continue
        kinds = {k: p.kind for k, p in inspect.signature(thing).parameters.items()}
        silent += [f'{name}: {k}' for k, comment in docments(thing).items() if k in kinds and kinds[k] != inspect.Parameter.VAR_KEYWORD and k not in ('self', 'ctx') and not comment]
    assert silent == []
