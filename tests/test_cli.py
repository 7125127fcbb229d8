"""The command: help, errors in one line with exit code 2, and a whole small job."""
import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import ROOT
from unet_course import __version__, cli
from unet_course.cli import main


def call(capsys, *words):
    with pytest.raises(SystemExit) as stop: main([str(w) for w in words])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


COMMANDS = ['run', 'table', 'predict', 'export', 'download', 'cache', 'doctor', 'notebooks']


@pytest.mark.parametrize('command', COMMANDS)
def test_help_has_examples(capsys, command):
    code, out, _ = call(capsys, command, '--help')
    assert code == 0 and 'examples:' in out and f'unet-course {command}' in out


def test_top_help_names_every_command(capsys):
    code, out, _ = call(capsys, '--help')
    assert code == 0 and all(command in out for command in COMMANDS)


@pytest.mark.parametrize('words', [
    [], ['fly'], ['run', '--data', 'cars'], ['run', '--seeds', '0,x'], ['run', '--seeds', '-1'], ['run', '--variants', 'exp9', '--data', 'synthetic'], ['run', '--epochs', '0'],
    ['run', '--width', 'wide'], ['run', '--shard', '3/2'], ['run', '--device', 'toaster'], ['run', '--device', 'xpu'], ['run', '--seeds', '99999999999999999999'], ['run', '--checkpoint-minutes', 'nan'], ['run', '--checkpoint-minutes', '-1'],
    ['run', '--out', str(ROOT / 'README.md')], ['notebooks', str(ROOT / 'README.md')], ['export', 'exp1', '--out', str(ROOT / 'README.md' / 'x')], ['run', '--size', '8', '--data', 'synthetic'], ['run', '--amp', 'fp16', '--data', 'synthetic', '--device', 'cpu'],
    ['table', 'nowhere'], ['predict', 'a.jpg', '--variant', 'exp1,exp2', '--out', 'm.png'], ['predict', 'a.jpg', '--weights', 'none.pth', '--out', 'm.png'], ['predict', 'a.jpg', '--weights', str(ROOT / 'settings.ini'), '--out', 'm.png'],
])
def test_errors_are_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *words)
    assert code == 2 and err.count('\n') == 1 and 'error:' in err and 'Traceback' not in err
    assert not list(tmp_path.glob('*.png'))


@pytest.mark.parametrize('error', [torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB.\nmore'), RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()])
def test_too_little_memory_is_one_line(capsys, monkeypatch, error):
    def full(args): raise error
    monkeypatch.setattr(cli, 'table_command', full)
    code, _, err = call(capsys, 'table', 'runs')
    assert code == 2 and err.count('\n') == 1 and 'not enough memory' in err and '--batch-size' in err


@pytest.mark.parametrize('error', [RuntimeError('an illegal memory access was encountered'), ValueError('too many values to unpack'), FileNotFoundError(2, 'No such file', 'x'), TypeError('a bug')])
def test_bugs_of_ours_show_themselves(monkeypatch, error):
    def broken(args): raise error
    monkeypatch.setattr(cli, 'table_command', broken)
    with pytest.raises(type(error), match=re.escape(str(error))): main(['table', 'runs'])


def test_debug_shows_the_traceback_of_an_error_beside_its_line(capsys, tmp_path):
    code, _, err = call(capsys, '--debug', 'table', tmp_path)
    assert code == 2 and 'Traceback' in err and 'table_command' in err and err.splitlines()[-1].startswith('unet-course: error: no finished run below')


@pytest.mark.parametrize('error', [PermissionError(13, 'Permission denied', '/srv/runs'), OSError(30, 'Read-only file system', '/srv/runs'), OSError(28, 'No space left on device', '/srv/runs')])
def test_a_place_that_cannot_be_written_names_what_moves_it(capsys, monkeypatch, error):
    def full(args): raise error
    monkeypatch.setattr(cli, 'table_command', full)
    code, _, err = call(capsys, 'table', 'runs')
    assert code == 2 and err.count('\n') == 1 and '/srv/runs' in err and all(word in err for word in ('--out', '--root', 'UNET_COURSE_DATA', 'UNET_COURSE_CACHE'))


def test_help_gives_the_presets_as_they_are(capsys):
    from unet_course.experiments import PRESETS
    text = ' '.join(call(capsys, 'run', '--help')[1].split())
    for name in ('full', 'laptop'): assert '{}: width {width}, {size} px, {epochs} epochs'.format(name, **PRESETS[name]) in text


def test_version(capsys):
    code, out, _ = call(capsys, '--version')
    assert code == 0 and __version__ in out


def test_run_says_at_once_what_it_does_and_at_the_end_where_things_lie(tmp_path):
    words = ['run', '--data', 'synthetic', '--variants', 'exp2', '--width', '4', '--size', '32', '--epochs', '1', '--device', 'cpu', '--out', str(tmp_path / 'out')]
    process = subprocess.Popen([sys.executable, '-m', 'unet_course', *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ, OMP_NUM_THREADS='1'))
    started, first = time.monotonic(), process.stdout.readline()
    said_after, (rest, err) = time.monotonic() - started, process.communicate(timeout=300)
    took = time.monotonic() - started
    assert process.returncode == 0, err
    assert 'exp2' in first and 'synthetic' in first and 'PyTorch' in first and said_after < took / 3
    assert rest.startswith('1 run: synthetic pets') and 'warning' not in rest
    folder = tmp_path / 'out/synthetic-course-w4-32px-1ep'
    last = rest.strip().splitlines()[-2:]
    assert str(folder) in last[0] and f'unet-course table {folder}' in last[0] and f'--weights {folder / "mp-tr-dice/seed0/best.pth"}' in last[1]


def test_the_table_on_a_screen_is_no_wider_than_it(capsys, tmp_path, monkeypatch):
    words = ['run', '--data', 'synthetic', '--variants', 'exp1,exp2', '--width', 4, '--size', 32, '--epochs', 1, '--device', 'cpu', '--out', tmp_path]
    call(capsys, *words)
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True, raising=False)
    monkeypatch.setenv('COLUMNS', '60')
    code, out, _ = call(capsys, *words)
    table = out[out.index('\n\n'):out.index('The runs are in')]
    assert code == 0 and 'all done before' in out and '|' not in table and 'exp1 mp-tr-bce' in table and max(map(len, table.splitlines())) <= 60


def test_nothing_is_fetched_unless_asked_for(capsys, tmp_path, monkeypatch):
    from unet_course.datasets import oxford_pets
    asked = []
    monkeypatch.setattr(oxford_pets, 'download_pets', lambda root: asked.append(root))
    words = ['run', '--data', 'pets', '--root', tmp_path / 'nothing', '--out', tmp_path / 'out']
    code, out, err = call(capsys, *words)
    assert code == 2 and asked == [] and err.count('\n') == 1 and str(tmp_path / 'nothing') in err and 'download' in err and '811 MB' in err and not (tmp_path / 'out').exists()
    call(capsys, *words, '--download')
    assert asked == [tmp_path / 'nothing']


@pytest.mark.parametrize('given, circles', [({}, '1000'), (dict(GOMP_SPINCOUNT='7'), '7'), (dict(OMP_WAIT_POLICY='active'), 'None')])
def test_threads_sleep_soon_unless_the_environment_says_otherwise(given, circles):
    "And PyTorch, which brings them, is imported later."
    code = "import os, sys\nfrom unet_course.cli import main\nearly = 'torch' in sys.modules\ntry: main(['table', 'nowhere'])\nfinally: print(os.environ.get('GOMP_SPINCOUNT'), early)"
    plain = {name: value for name, value in os.environ.items() if name not in ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY')}
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, env=plain | given, timeout=120)
    assert done.stdout == f'{circles} False\n', done.stderr


def test_output_that_cannot_hold_a_dash_is_written_all_the_same(tmp_path):
    folder = ROOT / 'results/pets-published-w16-128px-15ep'
    done = subprocess.run([sys.executable, '-m', 'unet_course', 'table', folder], capture_output=True, cwd=ROOT, env=dict(os.environ, PYTHONIOENCODING='cp932'), timeout=120)
    assert done.returncode == 0 and b'\\u2013' in done.stdout


def test_doctor_survives_a_torch_that_cannot_be_imported(tmp_path):
    (tmp_path / 'torch').mkdir()
    (tmp_path / 'torch/__init__.py').write_text("raise ImportError('libcudart.so.13: cannot open shared object file')")
    done = subprocess.run([sys.executable, '-m', 'unet_course', 'doctor'], capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ, PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)])), timeout=120)
    assert done.returncode == 0 and 'libcudart' in done.stdout and 'pytorch.org' in done.stdout, done.stderr


def test_the_whole_job(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    setting = ['--data', 'synthetic', '--width', 4, '--size', 32, '--epochs', 1]
    code, out, err = call(capsys, 'run', *setting, '--variants', 'exp1,exp4', '--seeds', '0,1', '--shard', '0/2', '--out', 'a')
    assert code == 0 and '2 runs: synthetic pets' in out and 'about' in out and '| Experiment |' in out
    code, _, _ = call(capsys, 'run', *setting, '--variants', 'exp1,exp4', '--seeds', '0,1', '--shard', '1/2', '--out', 'b')
    code, out, _ = call(capsys, 'table', 'a', 'b', '--format', 'json')
    rows = json.loads(out)
    assert code == 0 and sorted((r['variant'], r['seed']) for r in rows) == [('mp-tr-bce', 0), ('mp-tr-bce', 1), ('str_conv-ups-dice', 0), ('str_conv-ups-dice', 1)]
    weights = next(tmp_path.glob('a/*/mp-tr-bce/seed0/best.pth'))
    Image.effect_noise((70, 50), 60).convert('RGB').save('photo.jpg')
    code, out, _ = call(capsys, 'predict', 'photo.jpg', '--weights', weights, '--out', 'mask.png')
    assert re.search(rf"above.* {json.loads((weights.parent / 'metrics.json').read_text())['threshold']:g}\b", out)  # the network's own
    mask = Image.open('mask.png')
    assert code == 0 and mask.size == (70, 50) and mask.mode == 'L' and set(np.unique(mask)) <= {0, 255}
    (tmp_path / 'notes.txt').write_text('no picture')
    code, out, err = call(capsys, 'predict', 'photo.jpg', 'notes.txt', '--weights', weights, '--out', 'masks')
    assert code == 2 and os.listdir('masks') == ['photo.png'] and 'notes.txt' in err


def test_cache_is_shown_and_cleared(capsys, tmp_path):
    from unet_course.datasets.decode_once import cache_dir
    cache_dir().mkdir(parents=True, exist_ok=True)
    decoded, mine = cache_dir() / 'pets-64px-0123abcd-4567ef', cache_dir() / 'thesis.txt'
    decoded.mkdir()
    (decoded / 'images.npy').write_bytes(b'0' * 2**20)
    (cache_dir() / 'pets-64px-0123abcd.lock').touch()
    mine.write_text('not yours')
    assert '1 MiB' in call(capsys, 'cache')[1]
    assert call(capsys, 'cache', '--clear')[0] == 0 and os.listdir(cache_dir()) == ['thesis.txt']
    mine.unlink()
    assert call(capsys, 'cache', '--clear')[0] == 0 and not cache_dir().exists()


def test_doctor_says_what_is_missing_and_what_to_do(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv('UNET_COURSE_DATA', str(tmp_path / 'nothing'))
    code, out, err = call(capsys, 'doctor')
    assert code == 0 and not err and sum(line.startswith(('ok ', 'look ')) for line in out.splitlines()) == 10
    assert 'torch' in out and f'not found in {tmp_path / "nothing"}' in out and '-> unet-course download' in out and str(tmp_path / 'cache') in out


def test_doctor_and_run_name_what_is_wrong_with_a_dataset_and_fetch_nothing(capsys, tmp_path, monkeypatch):
    from test_data import make_layout
    monkeypatch.setenv('UNET_COURSE_DATA', str(tmp_path / 'root'))
    monkeypatch.setattr('unet_course.datasets.oxford_pets.fetch', lambda base: pytest.fail('fetched'))
    folder = make_layout(tmp_path / 'root')
    (folder / 'images/pug_1.jpg').unlink()
    code, out, _ = call(capsys, 'doctor')
    assert code == 0 and 'not found' not in out and re.search(rf'look .*{re.escape(str(folder))}.*images/pug_1\.jpg: missing', out)
    code, _, err = call(capsys, 'run', '--data', 'pets')
    assert code == 2 and 'images/pug_1.jpg: missing' in err and len(err.splitlines()) == 1


def test_notebooks_are_copied_and_answers_kept(capsys, tmp_path):
    code, out, _ = call(capsys, 'notebooks', tmp_path / 'course')
    chapters = sorted(p.relative_to(ROOT / 'nbs').as_posix() for p in (ROOT / 'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
    copied = sorted(p.relative_to(tmp_path / 'course').as_posix() for p in (tmp_path / 'course').rglob('*.ipynb'))
    assert code == 0 and copied == chapters and any(name.startswith('workshop/views/') for name in copied) and (tmp_path / 'course/images/overview.png').is_file()
    (tmp_path / 'course' / chapters[0]).write_text('my answers')
    (tmp_path / 'course/workshop/prediction.ipynb').unlink()
    code, out, _ = call(capsys, 'notebooks', tmp_path / 'course')
    assert out.startswith('1 chapters copied') and (tmp_path / 'course' / chapters[0]).read_text() == 'my answers'


def test_python_m_and_quick_help():
    done = subprocess.run([sys.executable, '-X', 'importtime', '-m', 'unet_course', '--help'], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and 'unet-course' in done.stdout and '| torch' not in done.stderr
