"""How nbdev turns a notebook into a page of the site. settings.ini names these processors in `procs`.

They stand in for three of nbdev's own (`skip_procs`), which do not suit a course:
its front matter takes the whole opening cell with the title, it leaves the exported code out of the page,
and it runs every cell that imports something, a training run among them. Here nothing of a notebook is run.
"""
import importlib
import inspect
import re
import sys
from pathlib import Path
from urllib.parse import quote

import yaml
from execnb.nbio import mk_cell
from fastcore.docments import DocmentTbl
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup, _nbpath2html
from nbdev.process import Processor
from nbdev.showdoc import BasicMarkdownRenderer

from tools.notebooks import outcome, solutions


class FrontMatter(Processor):
    "Moves the title and the promise below it (`# ...`, `> ...`) into the page's front matter, with links that open the notebook elsewhere; the rest of the cell stays."

    def begin(self):
        cell = next(c for c in self.nb.cells if c.cell_type == 'markdown' and c.source.startswith('# '))
        title, promise, rest = re.fullmatch(r'# +(.*?)\s*(?:\n+> +(.*?))?\s*(?:\n\n(.*))?', cell.source, re.S).groups()
        cell.source = rest or None  # None: nothing left of it
        cfg, path = get_config(), Path(self.nb.path_)
        where = path.resolve().relative_to(cfg.config_path.resolve()).as_posix()
        links = {'Open in Colab': f'https://colab.research.google.com/github/{cfg.user}/{cfg.repo}/blob/{cfg.branch}/{where}',
                 'Open in Binder': f'https://mybinder.org/v2/gh/{cfg.user}/{cfg.repo}/{cfg.branch}?labpath={quote(where, safe="")}'}
        front = {'title': title, 'description': promise, 'output-file': _nbpath2html(path).name,
                 'code-links': [{'text': text, 'icon': 'box-arrow-up-right', 'href': href} for text, href in links.items()]}
        front = yaml.safe_dump({k: v for k, v in front.items() if v}, sort_keys=False, allow_unicode=True)
        self.nb.cells.insert(0, mk_cell(f'---\n{front}---\n', 'raw'))


class ShowDocs(Processor):
    "Fills the `show_doc` cells, which nbdev has put below each export, from the exported module."

    def begin(self):
        module = next((c.directives_['default_exp'][0] for c in self.nb.cells if 'default_exp' in (c.get('directives_') or {})), None)
        root = str(get_config().config_path)
        if module and root not in sys.path: sys.path.insert(0, root)
        self.module = module and importlib.import_module(f'{get_config().lib_path.name}.{module}')

    def cell(self, cell):
        if cell.cell_type != 'code' or not (shown := re.search(r'^show_doc\((\w+)\)$', cell.source, re.M)): return
        text = render(getattr(self.module, shown[1]))
        cell.outputs = [dict(output_type='display_data', metadata={}, data={'text/markdown': text})]


def render(symbol) -> str:
    "Markdown for `symbol`: a heading, a link to the source, the docstring, and its parameters in a table."
    shown = BasicMarkdownRenderer(symbol)
    source = (NbdevLookup().code(shown.fn) or '').split('#')[0]  # empty unless the package is installed
    link = f'[source]({source}#L{inspect.getsourcelines(symbol)[1]}){{style="float:right; font-size:smaller"}}' if source else ''
    table = DocmentTbl(symbol)._repr_markdown_()
    return '\n\n'.join(filter(None, [f'### {shown.nm} {{.api}}', link, shown.docs, table or f'```python\n{shown.dm}\n```']))


def drop_unseen(cell):
    "Removes cells that only name the module or are hidden. Exported code stays on the page: it is the course."
    if {'default_exp', 'hide'} & set(cell.get('directives_') or {}): del cell['source']


class FoldOutcomes(Processor):
    "Folds each solution away together with what it and the cells behind it print: a prediction comes first. (In JupyterLab `tools/notebooks.py` folds them.)"

    def begin(self):
        for i in reversed(solutions(self.nb)):
            stop, solution = outcome(self.nb, i).stop, self.nb.cells[i]
            solution.source = solution.source.replace('#| code-fold: true', '#| code-fold: show')  # one fold is enough
            self.nb.cells.insert(stop, mk_cell('::::', 'markdown'))
            self.nb.cells.insert(i, mk_cell(':::: {.callout-note collapse="true" title="Solution, and what it prints"}', 'markdown'))


def mend_anchors(cell):
    "Makes links within a notebook, which JupyterLab resolves (`#What-is-it?`), into those of a page, where Pandoc names the headings (`#what-is-it`)."
    name = lambda anchor: re.sub(r'^[^a-z]+', '', re.sub(r'[^\w.-]', '', anchor).lower())
    if cell.cell_type == 'markdown': cell.source = re.sub(r'(\]\((?:\w+\.ipynb)?#)([^)\s]+)\)', lambda m: f'{m[1]}{name(m[2])})', cell.source)
