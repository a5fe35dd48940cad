"""Models from a hub, natively: references, the Hub's own cache folder, downloads.

The page has its own half in ``web/src/store``; both choose the same files for a reference.
"""
