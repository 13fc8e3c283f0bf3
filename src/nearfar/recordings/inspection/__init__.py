"""What is wrong with a recording, said by everyone alike: ``check``, ``fit`` and ``score`` ask the same code.

``measured``
    One pass over the samples gives a few numbers of a recording.
``faults``
    The kinds of faults, and which microphone views each of them spoils.
``alone``
    What one recording shows without any other.
``usual``
    What the training clips have in common, and how another recording differs from it.
``training``
    The look at all training clips of a machine: which are left out, which are unlike the others.
"""
