"""The rules of the house, each a function from one source file to what is wrong with it.

They are the architecture's; `tests/test_house.py` applies them to the tree and shows of each that
it catches what it forbids. A complaint names the file, the line, and what to do instead.
"""
