"""Configuration: read once, whole, checked and frozen. Pure: files and environment are arguments.

network   flannel's JSON in the store: what the cluster is
flags     tulled's command line and environment, as Go programs take them
daemon    which flags core has, and what they come to: what this node is
options   a plugin's settings into the plugin's own type
errors    how all of them say what is wrong: everything at once
"""
