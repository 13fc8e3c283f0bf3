"""Pages: one file each, which loads nothing from a network.

A page is a function that returns HTML (``explained.page``, ``results.page``). It makes charts (``charts``,
``pictures``), tables and sounds of plain arrays, and hands them to a template, which shows them with macros
(``templates/macros.html.j2``). Names are data wherever they go: only ``drawing`` makes markup, and it escapes.
``PAGES_UNDER_TEST`` in ``tests/test_pages_in_browser.py`` has a line for each page, which is opened in a browser.
"""
