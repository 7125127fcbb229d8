"Fetching the dataset, against a server of our own: complete, cut short, changed, silent, absent, by hand."
import hashlib
import shutil
import socket
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from test_data import make_layout

from unet_course.datasets.oxford_pets import dataset_folder, download_pets, find_pets, load_pets
from unet_course.support.files import CourseError


class Server:
    "Serves two archives; `behaviour[name]` is 'whole', 'cut', 'changed' or 'silent'."
    def __init__(self, folder):
        self.archives = {path.name: path.read_bytes() for path in folder.glob('*.tar.gz')}
        self.behaviour, self.asked = dict.fromkeys(self.archives, 'whole'), []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.rsplit('/', 1)[1]
                outer.asked.append(name)
                content, how = outer.archives[name], outer.behaviour[name]
                if how == 'silent': return time.sleep(30)
                if how == 'changed': content = content[:-20] + bytes(20)
                self.send_response(200)
                self.send_header('Content-Length', str(len(content)))
                self.end_headers()
                try: self.wfile.write(content[:len(content) // 2] if how == 'cut' else content)
                except OSError: pass  # torchvision asks once only to see where it is sent

            def log_message(self, *args): pass

        self.http = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.http.daemon_threads = True
        self.http.block_on_close = False
        threading.Thread(target=self.http.serve_forever, args=(.05,), daemon=True).start()

    def resources(self):
        return tuple((f'http://127.0.0.1:{self.http.server_port}/{name}', hashlib.md5(self.archives[name]).hexdigest()) for name in ('images.tar.gz', 'annotations.tar.gz'))

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server(tmp_path, monkeypatch):
    from torchvision.datasets import OxfordIIITPet
    made = make_layout(tmp_path / 'made')
    (made / 'annotations/trimaps/._pug_1.png').write_bytes(b'\0\5\x16\7')
    for part in ('images', 'annotations'):
        with tarfile.open(tmp_path / f'made/{part}.tar.gz', 'w:gz') as archive: archive.add(made / part, part)
    server = Server(tmp_path / 'made')
    monkeypatch.setattr(OxfordIIITPet, '_RESOURCES', server.resources())
    monkeypatch.setenv('no_proxy', '*')
    yield server
    server.stop()


@pytest.fixture
def root(tmp_path): return tmp_path / 'root'


def assert_complete(root):
    assert find_pets(root) == root / 'oxford-iiit-pet' and len(load_pets(root, 16)) == 4
    assert not (root / '.incoming').exists() and not list(root.rglob('*.tar.gz'))


def assert_nothing(root):
    assert find_pets(root) is dataset_folder(root) is None and not (root / 'oxford-iiit-pet').exists()


def test_whole(server, root, capsys):
    assert download_pets(root) == root / 'oxford-iiit-pet'
    said = capsys.readouterr().out
    assert '792 MB' in said and '19 MB' in said and str(root) in said
    assert_complete(root)
    server.asked.clear()
    assert download_pets(root) == root / 'oxford-iiit-pet' and server.asked == [] and capsys.readouterr().out == ''


@pytest.mark.parametrize('how', ['cut', 'changed'])
@pytest.mark.parametrize('which', ['images.tar.gz', 'annotations.tar.gz'])
def test_incomplete_or_changed_then_mended(server, root, how, which):
    server.behaviour[which] = how
    with pytest.raises(CourseError, match='incomplete or changed') as caught: download_pets(root)
    assert '\n' not in str(caught.value) and 'images.tar.gz' in str(caught.value) and str(root / '.incoming' / 'oxford-iiit-pet') in str(caught.value)
    assert_nothing(root)
    server.behaviour[which] = 'whole'
    server.asked.clear()
    download_pets(root)
    assert_complete(root)
    assert ('images.tar.gz' in server.asked) == (which == 'images.tar.gz')  # what arrived whole is not fetched again


def test_silent_server_is_given_up(server, root, monkeypatch):
    real, asked = socket.setdefaulttimeout, []
    monkeypatch.setattr(socket, 'setdefaulttimeout', lambda seconds: asked.append(seconds) or real(seconds and seconds / 200))
    server.behaviour['images.tar.gz'] = 'silent'
    start = time.perf_counter()
    with pytest.raises(CourseError, match='timed out'): download_pets(root)
    assert time.perf_counter() - start < 15 and asked == [60, None] and socket.getdefaulttimeout() is None
    assert_nothing(root)


def test_no_server_then_archives_by_hand(server, root, tmp_path):
    server.stop()
    with pytest.raises(CourseError, match='could not be fetched') as caught: download_pets(root)
    assert '\n' not in str(caught.value) and 'annotations.tar.gz' in str(caught.value)
    assert_nothing(root)
    for part in ('images', 'annotations'): shutil.copy(tmp_path / f'made/{part}.tar.gz', root / '.incoming/oxford-iiit-pet')
    download_pets(root)
    assert_complete(root)


def test_half_unpacked_leftovers_are_not_used(server, root):
    for part in ('images', 'annotations'):  # for torchvision two folders of these names are a dataset
        (root / '.incoming/oxford-iiit-pet' / part).mkdir(parents=True)
        (root / '.incoming/oxford-iiit-pet' / part / 'half.jpg').write_bytes(b'')
    download_pets(root)
    assert_complete(root)
    assert not list(root.rglob('half.jpg'))


@pytest.mark.parametrize('given', ['root', 'folder'])
def test_a_broken_dataset_is_named_and_moved_aside_not_deleted(server, root, capsys, given):
    folder = make_layout(root)
    (folder / 'images/pug_1.jpg').unlink()
    (folder / 'images/mine.jpg').write_bytes(b'mine')
    assert download_pets(root if given == 'root' else folder) == folder
    said = capsys.readouterr().out
    assert said.index('images/pug_1.jpg: missing') < said.index('Fetching') and 'incomplete1' in said
    assert (root / 'oxford-iiit-pet.incomplete1/images/mine.jpg').read_bytes() == b'mine'
    assert_complete(root)


def test_archive_with_a_broken_pair_is_refused_by_name(server, root, tmp_path, monkeypatch):
    from torchvision.datasets import OxfordIIITPet
    made = tmp_path / 'made/oxford-iiit-pet'
    (made / 'images/pug_1.jpg').write_text('not a picture')
    with tarfile.open(tmp_path / 'made/images.tar.gz', 'w:gz') as archive: archive.add(made / 'images', 'images')
    server.archives['images.tar.gz'] = (tmp_path / 'made/images.tar.gz').read_bytes()
    monkeypatch.setattr(OxfordIIITPet, '_RESOURCES', server.resources())
    with pytest.raises(CourseError, match=r'1 of 4 pairs in .* cannot be used.*images/pug_1\.jpg'): download_pets(root)
    assert_nothing(root)
