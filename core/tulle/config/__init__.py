"""Configuration: read once, whole, checked and frozen. Pure: files and environment are arguments.

network       flannel's JSON in the store: what the cluster is
flags         tulled's command line, environment and file into values, as Go programs take them
govalues      single values as Go writes them
core_options  core's own flags
inactive      flannel's flags for parts that are not there yet
groups        whose flag is whose
file          the config file
checks        what each of core's settings has to be
daemon        what they come to: what this node is
effective     what `tulled --check` prints
help          what `tulled --help` prints
options       a plugin's settings in the network config into the plugin's own type
jsontext      JSON with keys of any case
errors        how all of them say what is wrong: everything at once
"""
