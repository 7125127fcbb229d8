"""What pip installs: complete metadata, a wheel that is the same from the checkout and from the sdist, a light import."""
import ast
import configparser
import email
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
import zlib
from pathlib import Path

import pytest

from conftest import ROOT
from unet_course.runs.factorials import find_factorials

PARSER = configparser.ConfigParser(delimiters=['='])
PARSER.read(ROOT / 'settings.ini', encoding='utf-8')
SETTINGS = PARSER['DEFAULT']
PACKAGE = ROOT / SETTINGS['lib_name']


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "(the wheel, what its build said, the sdist that it was built from): the one build of all tests here, in a copy of the checkout."
    folder = tmp_path_factory.mktemp('built')
    def left_out(where, names):  # what builds, runs and tools left; the package has a folder runs/ of its own
        top = [n for n in names if Path(where) == ROOT and (n[0] in '._' and n != '_quarto.yml' or n in ('runs', 'build', 'dist'))]
        return top + [n for n in names if n == '__pycache__' or n.endswith('.egg-info')]
    copy = Path(shutil.copytree(ROOT, folder / 'copy', ignore=left_out))
    run(sys.executable, '-c', 'import sys, setuptools.build_meta as b; b.build_sdist(sys.argv[1])', folder, cwd=copy)
    sdist, = folder.glob('*.tar.gz')
    said = run(sys.executable, '-m', 'pip', 'wheel', '-v', '--no-deps', '--no-build-isolation', '--no-index', '-w', folder / 'wheel', sdist)
    assert not (copy / 'build').exists(), 'nbdev would read the notebooks in it'
    wheel, = (folder / 'wheel').glob('*.whl')
    return wheel, said, sdist


def contents(wheel: Path) -> dict[str, int]:
    with zipfile.ZipFile(wheel) as files: return {f.filename: f.CRC for f in files.infolist()}


def read(wheel: Path, end: str) -> str:
    with zipfile.ZipFile(wheel) as files:
        name, = (n for n in files.namelist() if n.endswith('.dist-info/' + end))
        return files.read(name).decode()


NOTEBOOKS = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / 'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
PLAYGROUND = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / 'nbs/playground').iterdir() if p.is_file())


def test_the_sdist_and_the_wheel_hold_every_notebook_and_every_module(built):
    with tarfile.open(built[2]) as files: carried = {name.partition('/')[2] for name in files.getnames()}
    names = set(contents(built[0]))
    modules = sorted(p.relative_to(ROOT).as_posix() for p in PACKAGE.rglob('*.py'))
    assert any(name.startswith('nbs/workshop/views/') for name in NOTEBOOKS) and any(name.startswith('unet_course/views/') for name in modules)
    assert sorted(carried & {*NOTEBOOKS, *PLAYGROUND, *modules}) == sorted({*NOTEBOOKS, *PLAYGROUND, *modules})
    for path in [*NOTEBOOKS, *PLAYGROUND]: assert f"{SETTINGS['lib_name']}/{path}" in names
    assert sorted(name for name in names if name.endswith('.py')) == modules
    assert not [name for name in carried if re.search(r'(^|/)(runs|live)/.*\.(pth|csv|onnx)$|nbs/[^/]*\.(jpg|png)$', name)], 'strays of a run'


def test_the_wheel_holds_the_files_of_the_checkout_and_nothing_else(built):
    carried, lib = contents(built[0]), SETTINGS['lib_name']
    for pattern in ('nbs/**/*.ipynb', 'nbs/images/*', 'nbs/playground/*.*', f'{lib}/**/*.py', f'{lib}/py.typed', f'{lib}/weights/*', 'results/**/*.csv'):
        for path in ROOT.glob(pattern):
            if '.ipynb_checkpoints' in path.parts or not path.is_file(): continue
            name = (path.relative_to(ROOT) if path.is_relative_to(PACKAGE) else Path(lib) / path.relative_to(ROOT)).as_posix()
            assert carried[name] == zlib.crc32(path.read_bytes()), name
    assert {name.split('/')[0].split('-')[0] for name in carried} == {lib}
    assert not [name for name in carried if '/tests/' in name or '/tools/' in name or name.endswith(('.pyc', 'best.pth', 'last.ckpt'))]
    assert {'LICENSE', 'NOTICE'} <= {Path(name).name for name in carried}
    with zipfile.ZipFile(built[0]) as files: assert sum(f.compress_size for f in files.infolist() if '/results/' in f.filename) <= 3e6


def test_the_installed_command_trains_and_copies_the_notebooks(built, tmp_path):
    "Away from the checkout, in an environment of its own that borrows everything but unet_course from that of the tests."
    venv.create(tmp_path / 'env', with_pip=True)
    python = tmp_path / 'env' / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')
    run(python, '-m', 'pip', 'install', '--no-deps', '--no-index', built[0])
    site, = (tmp_path / 'env').rglob('site-packages')
    (site / 'borrowed.pth').write_text(sysconfig.get_path('purelib') + '\n')
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    options, command = dict(cwd=elsewhere, env=env), python.parent / 'unet-course'
    assert str(site) in run(python, '-c', 'import unet_course; print(unet_course.__file__)', **options)
    run(command, 'run', '--data', 'synthetic', '--variants', 'exp1', '--width', 4, '--size', 32, '--epochs', 1, **options)
    weights, = elsewhere.rglob('best.pth')
    shutil.copyfile(ROOT / 'nbs/playground/chelsea.jpg', elsewhere / 'cat.jpg')
    run(command, 'predict', 'cat.jpg', '--weights', weights, '--out', 'mask.png', **options)
    run(command, 'notebooks', 'course', **options)
    assert (elsewhere / 'mask.png').is_file()
    assert sorted('nbs/' + p.relative_to(elsewhere / 'course').as_posix() for p in (elsewhere / 'course').rglob('*.ipynb')) == NOTEBOOKS


def test_the_wheel_holds_the_arrays_that_chapter_06_reads(built):
    analysed = find_factorials(ROOT / 'results')[0]
    expected = {(run.path.relative_to(ROOT) / run.ARRAYS).as_posix() for (seed, _), run in analysed.folders.items() if seed == analysed.seeds[0]}
    assert {name.removeprefix(SETTINGS['lib_name'] + '/') for name in contents(built[0]) if name.endswith('.npz')} == expected and len(expected) == 8


def test_the_build_warns_of_nothing(built):
    said = [line for line in built[1].splitlines() if re.search(r'warning', line, re.I)]
    assert [line for line in said if not re.search(r'no (previously-included )?files found|byte-compiling is disabled', line)] == []


def test_metadata_is_complete(built):
    data = email.message_from_string(read(built[0], 'METADATA'))
    assert data['License-Expression'] == 'Apache-2.0' and sorted(data.get_all('License-File')) == ['LICENSE', 'NOTICE']
    assert data['Summary'] == SETTINGS['description'] and data['Requires-Python'] == '>=' + SETTINGS['min_python'] and data['Description-Content-Type'] == 'text/markdown'
    assert {entry.split(',')[0] for entry in data.get_all('Project-URL')} == {'Course', 'Source', 'Issues'}
    classifiers = data.get_all('Classifier')
    assert {f'Programming Language :: Python :: 3.{minor}' for minor in (11, 12, 13)} <= set(classifiers)
    assert {'Operating System :: OS Independent', 'Typing :: Typed', 'Framework :: Jupyter'} <= set(classifiers) and not any(c.startswith('License') for c in classifiers)
    assert set(data.get_all('Provides-Extra')) == {key.removesuffix('_requirements') for key in SETTINGS if key.endswith('_requirements')} >= {'notebooks', 'dev'}
    entries = configparser.ConfigParser()
    entries.read_string(read(built[0], 'entry_points.txt'))
    assert entries['console_scripts']['unet-course'] == 'unet_course.cli:main' and 'unet_course' in entries['nbdev']


@pytest.fixture(scope='module')
def loaded():
    "Step: the modules that are loaded after it, in one fresh interpreter."
    code = """
import importlib, json, sys
steps = {}
for name in ('unet_course', 'unet_course.cli', 'unet_course.support.pictures', 'unet_course.experiments', 'unet_course.prediction'):
    importlib.import_module(name)
    steps[name] = sorted(sys.modules)
from unet_course import UNet, explore, load_pretrained, predict, __version__
print(json.dumps(dict(steps=steps, version=__version__, names=[thing.__module__ for thing in (UNet, predict, load_pretrained, explore)])))
"""
    return json.loads(run(sys.executable, '-c', code, cwd=ROOT).splitlines()[-1])


@pytest.mark.parametrize('step, absent', [
    ('unet_course', ('torch', 'numpy', 'matplotlib', 'ipywidgets', 'PIL')), ('unet_course.cli', ('torch', 'numpy', 'matplotlib', 'ipywidgets', 'IPython', 'nbdev')),
    ('unet_course.support.pictures', ('torch', 'matplotlib')), ('unet_course.experiments', ('torchvision', 'torchmetrics', 'matplotlib', 'ipywidgets')), ('unet_course.prediction', ('torchvision', 'torchmetrics', 'matplotlib', 'ipywidgets', 'onnx'))])
def test_what_is_imported_is_light(loaded, step, absent):
    assert sorted({*absent} & {*loaded['steps'][step]}) == []


def test_the_names_of_the_front_page_are_found_where_they_live(loaded):
    assert loaded['names'] == ['unet_course.factory', 'unet_course.prediction', 'unet_course.prediction', 'unet_course.views.explorer'] and loaded['version'] == SETTINGS['version']


def test_the_package_imports_only_what_it_asks_for():
    asked = {re.split(r'[<>=]', r)[0] for r in (SETTINGS['requirements'] + ' ' + SETTINGS.get('export_requirements', '')).split()}  # what is extra is imported where it is used
    known = {'pillow': 'PIL'}
    # IPython comes with ipywidgets; scikit-image's cat is shown only where it is installed
    allowed = {known.get(name, name) for name in asked} | {'IPython', 'skimage'} | set(sys.stdlib_module_names) | {SETTINGS['lib_name']}
    for path in PACKAGE.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert {name.split('.')[0] for name in names} <= allowed, (path.name, names)


def test_binder_gets_what_the_package_asks_for():
    listed = {re.split(r'[<>=]', line.strip('- '))[0] for line in (ROOT / 'binder/environment.yml').read_text(encoding='utf-8').splitlines() if line.startswith('  - ')}
    conda = {'torch': 'pytorch-cpu', 'matplotlib': 'matplotlib-base'}
    assert {conda.get(name, name) for name in (re.split(r'[<>=]', r)[0] for r in (SETTINGS['requirements'] + ' ' + SETTINGS['export_requirements']).split())} <= listed
