"""Pages: one file each, which loads nothing from a network.

A page is a function that returns HTML (``explained.page``, ``results.page``): it makes charts (``charts``, ``pictures``),
tables and sounds of plain arrays, and hands them to a template, which has macros to show them
(``templates/macros.html.j2``). Names are data wherever they go: only ``drawing`` makes markup, and it escapes. Every page
is a line of ``PAGES_UNDER_TEST`` in ``tests/test_pages_in_browser.py``, and so is opened in a browser.
"""
