"""Packaging: every fact comes from settings.ini; the wheel also carries the notebooks, the small results and the weights."""
import json
import shutil
from configparser import ConfigParser
from itertools import product
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
parser = ConfigParser(delimiters=['='])
parser.read(HERE / 'settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']
FACTORIAL = ['-'.join(levels) for levels in product(('mp', 'str_conv'), ('tr', 'ups'), ('bce', 'dice'))]
STATUS = ['', '1 - Planning', '2 - Pre-Alpha', '3 - Alpha', '4 - Beta', '5 - Production/Stable']


class BuildWithCourse(build_py):
    """build_py that also copies nbs/, the small results and the weights into the package, for those who only ran pip.

    Per-image measurements are copied for the first seed of the setting that chapter 06 analyses, the largest with all eight variants and several seeds:
    all of them would outgrow the wheel.
    """

    def run(self):
        super().run()
        results = HERE / 'results'
        repeated = []
        for setting in {path.parent for path in results.rglob(FACTORIAL[0])}:
            seeds = set.intersection(*({path.name for path in (setting / variant).glob('seed*')} for variant in FACTORIAL))
            if len(seeds) < 2: continue
            first = min(seeds, key=lambda name: int(name.removeprefix('seed')))
            config = json.loads((setting / FACTORIAL[0] / first / 'config.json').read_text(encoding='utf-8'))['config']
            if config['protocol'] != 'published': repeated.append((config['border'] == 'background', config['width'], config['size'], config['recipe']['epochs'], setting.relative_to(results).as_posix(), first))
        analysed = [f'{setting}/{variant}/{first}/evaluation.npz' for *_, setting, first in sorted(repeated)[-1:] for variant in FACTORIAL]
        course = {'nbs': (HERE / 'nbs', ['*.ipynb', 'workshop/**/*.ipynb', 'images/*', 'playground/*.*']),
                  'results': (results, ['**/*.json', '**/*.csv', '**/*.md', *analysed]),
                  'weights': (HERE / cfg['lib_name'] / 'weights', ['*'])}
        for name, (folder, patterns) in course.items():
            target = Path(self.build_lib) / cfg['lib_name'] / name
            shutil.rmtree(target, ignore_errors=True)
            for source in sorted({p for pattern in patterns for p in folder.glob(pattern) if p.is_file()}):
                destination = target / source.relative_to(folder)
                destination.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, destination)


setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    author_email=cfg['author_email'],
    license_expression='Apache-2.0',
    license_files=['LICENSE', 'NOTICE'],
    keywords=cfg['keywords'].split(),
    url=cfg['git_url'],
    project_urls={'Course': cfg['doc_host'] + cfg['doc_baseurl'], 'Source': cfg['git_url'], 'Issues': cfg['git_url'] + '/issues'},
    classifiers=[
        'Development Status :: ' + STATUS[int(cfg['status'])],
        'Intended Audience :: ' + cfg['audience'],
        'Natural Language :: ' + cfg['language'],
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3 :: Only',
        *(f'Programming Language :: Python :: 3.{minor}' for minor in (11, 12, 13)),
        'Framework :: Jupyter',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
        'Typing :: Typed',
    ],
    packages=find_packages(include=[cfg['lib_name'], cfg['lib_name'] + '.*']),
    package_data={cfg['lib_name']: ['py.typed']},
    include_package_data=False,
    python_requires='>=' + cfg['min_python'],
    install_requires=cfg['requirements'].split(),
    extras_require={name: cfg[name + '_requirements'].split() for name in ('notebooks', 'export', 'bench', 'dev')},
    # nbdev: where names in backticks and the links to the source on the site lead
    entry_points={'console_scripts': ['unet-course = unet_course.cli:main'], 'nbdev': [f"{cfg['lib_name']} = {cfg['lib_name']}._modidx:d"]},
    cmdclass={'build_py': BuildWithCourse},
    options={'build': {'build_base': '_build'}},  # nbdev would take the notebooks in build/ for ours; it leaves folders with an underscore alone
    zip_safe=False,
)
