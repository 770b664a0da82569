"""Adapters of other ways to steer, one a file, each through its own public API and in an environment of its own.

This package is imported there too, where there is no Tiller: nothing here imports it at the top.
"""
