"""A fuzzer: everything that nearfar reads, damaged in many ways, gives a result or an error that names the file.

``surfaces`` says what is read, a module for each group of files. ``damage`` changes valid files. ``cases`` tries
one of them in a process of its own, and says what came of it. It lies with the tests because it makes its files
with what the tests make theirs with. Run it with ``make fuzz``, or ``python -m fuzz`` in this folder's parent.
"""
