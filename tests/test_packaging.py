"""What pip installs: complete metadata, a wheel that is the same from the checkout and from the sdist, a light import."""
import ast
import configparser
import email
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from conftest import ROOT
from unet_course.analysis import find_factorials

PARSER = configparser.ConfigParser(delimiters=['='])
PARSER.read(ROOT / 'settings.ini', encoding='utf-8')
SETTINGS = PARSER['DEFAULT']
PACKAGE = ROOT / SETTINGS['lib_name']


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def build_wheel(source: Path, folder: Path) -> tuple[Path, str]:
    said = run(sys.executable, '-m', 'pip', 'wheel', '-v', '--no-deps', '--no-build-isolation', '--no-index', '-w', folder, source)
    wheel, = folder.glob('*.whl')
    return wheel, said


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "(wheel of a copy of the checkout, what its build said, sdist, wheel of the sdist)"
    folder = tmp_path_factory.mktemp('built')
    ignored = shutil.ignore_patterns('.*', '_docs', '_proc', 'runs', '_build', 'build', 'dist', '*.egg-info', '__pycache__')
    copy = Path(shutil.copytree(ROOT, folder / 'copy', ignore=ignored))
    sdists = folder / 'sdist'
    sdists.mkdir()
    run(sys.executable, '-c', 'import sys, setuptools.build_meta as b; b.build_sdist(sys.argv[1])', sdists, cwd=copy)
    sdist, = sdists.glob('*.tar.gz')
    wheel, said = build_wheel(copy, folder / 'one')
    assert not (copy / 'build').exists(), 'nbdev would read the notebooks in it'
    return wheel, said, sdist, build_wheel(sdist, folder / 'two')[0]


def contents(wheel: Path) -> dict[str, int]:
    with zipfile.ZipFile(wheel) as files: return {f.filename: f.CRC for f in files.infolist() if not f.filename.endswith('/RECORD')}


def read(wheel: Path, end: str) -> str:
    with zipfile.ZipFile(wheel) as files:
        name, = (n for n in files.namelist() if n.endswith('.dist-info/' + end))
        return files.read(name).decode()


def test_the_wheel_of_the_sdist_is_the_wheel_of_the_checkout(built):
    assert contents(built[0]) == contents(built[3])


def test_the_wheel_holds_the_package_the_course_and_nothing_else(built):
    names = set(contents(built[0]))
    lib = SETTINGS['lib_name']
    for pattern in ('nbs/*.ipynb', 'nbs/workshop/**/*.ipynb', 'nbs/images/*', f'{lib}/**/*.py', f'{lib}/py.typed', f'{lib}/weights/*', 'results/**/*.csv'):
        for path in ROOT.glob(pattern): assert (path.relative_to(ROOT) if path.is_relative_to(PACKAGE) else Path(lib) / path.relative_to(ROOT)).as_posix() in names
    assert {name.split('/')[0].split('-')[0] for name in names} == {lib}
    assert not [name for name in names if '/tests/' in name or '/tools/' in name or name.endswith(('.pyc', 'best.pth', 'last.ckpt'))]
    assert {'LICENSE', 'NOTICE'} <= {Path(name).name for name in names}


def test_the_wheel_holds_the_arrays_that_chapter_06_reads(built):
    analysed = find_factorials(ROOT / 'results')[0]
    expected = {(row['folder'].relative_to(ROOT) / 'evaluation.npz').as_posix() for (seed, _), row in analysed.runs.items() if seed == analysed.seeds[0]}
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


def test_importing_the_package_is_light():
    code = 'import sys, unet_course; print(unet_course.__version__, [m for m in ("torch", "numpy", "matplotlib", "ipywidgets", "PIL") if m in sys.modules])'
    assert run(sys.executable, '-c', code, cwd=ROOT).split(maxsplit=1) == [SETTINGS['version'], '[]\n']


def test_importing_the_command_does_not_load_the_plots():
    code = 'import sys, unet_course.cli; print([m for m in ("matplotlib", "ipywidgets", "IPython", "nbdev") if m in sys.modules])'
    assert run(sys.executable, '-c', code, cwd=ROOT).strip().endswith('[]')


def test_the_package_imports_only_what_it_asks_for():
    asked = {re.split(r'[<>=]', r)[0] for r in (SETTINGS['requirements'] + ' ' + SETTINGS.get('export_requirements', '')).split()}  # what is extra is imported where it is used
    known = {'pillow': 'PIL'}
    # IPython comes with ipywidgets; scikit-image's cat is shown only where it is installed
    allowed = {known.get(name, name) for name in asked} | {'IPython', 'skimage'} | set(sys.stdlib_module_names) | {SETTINGS['lib_name']}
    for path in PACKAGE.glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert {name.split('.')[0] for name in names} <= allowed, (path.name, names)


def test_binder_gets_what_the_package_asks_for():
    listed = {re.split(r'[<>=]', line.strip('- '))[0] for line in (ROOT / 'binder/environment.yml').read_text(encoding='utf-8').splitlines() if line.startswith('  - ')}
    conda = {'torch': 'pytorch-cpu', 'matplotlib': 'matplotlib-base'}
    assert {conda.get(name, name) for name in (re.split(r'[<>=]', r)[0] for r in (SETTINGS['requirements'] + ' ' + SETTINGS['export_requirements']).split())} <= listed
